#!/bin/bash
# check_neon.sh - runs programs built for 64-bit Arm under qemu-user, once for each processor; the last line is "N passed, N failed".
# usage: tools/check_neon.sh BUILD "processors" "tests" "tests for the last processor only"
# Emulation says whether results are right, nothing about speed.  Logs lie in BUILD/test-logs.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$1
logs=$build/test-logs
root=$build/sysroot
passed=0
failed=0
mkdir -p "$logs"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

for cpu in $2; do
    tests=$3
    [ "$cpu" != "${2##* }" ] || tests="$3 $4"
    for t in $tests; do
        log=$logs/$t-$cpu.log
        start=$(date +%s.%N)
        timeout "${TEST_LIMIT_S:-900}" qemu-aarch64 -cpu "$cpu" -L /usr/aarch64-linux-gnu \
            -E LD_LIBRARY_PATH="$root/usr/lib/aarch64-linux-gnu:$root/lib/aarch64-linux-gnu" "$build/tests/$t" >"$log" 2>&1
        status=$?
        line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
        p=0 f=0
        [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]] && p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]}
        if [ -z "$line" ] || { [ $status -ne 0 ] && [ "$f" -eq 0 ]; }; then f=$((f + 1)); fi
        passed=$((passed + p))
        failed=$((failed + f))
        printf '%-6s %-16s %-12s %4d passed, %d failed  %6.1f s\n' "$([ "$f" -eq 0 ] && echo ok || echo FAILED)" "$t" "$cpu" "$p" "$f" \
            "$(echo "$(date +%s.%N) $start" | awk '{ print $1 - $2 }')"
        if [ "$f" -ne 0 ]; then
            tail -n 15 "$log" | sed 's/^/       > /'
            echo "       exit status $status, log: $log"
        fi
    done
done

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
