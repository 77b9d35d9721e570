#!/bin/bash
# run_tests.sh - runs every check of `make test` and ends with one line "N passed, N failed" that sums them all.
# usage: tools/run_tests.sh BUILD ASAN_BUILD "names of tests to repeat under the sanitizers"
# Logs lie in BUILD/test-logs.  A program that dies or prints no closing line counts as one failure.
set -uo pipefail
cd "$(dirname "$0")/.."
build=$1
asan=$2
asan_tests=$3
logs=$build/test-logs
mkdir -p "$logs"
passed=0
failed=0
limit_s=${TEST_LIMIT_S:-900}

# run LABEL COMMAND...: one line of result; the log's end when it failed
run() {
    local label=$1 log start status line p f
    shift
    log=$logs/${label//[^a-zA-Z0-9_.-]/_}.log
    start=$(date +%s.%N)
    timeout "$limit_s" "$@" >"$log" 2>&1
    status=$?
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    p=0 f=0
    [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]] && p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]}
    if [ -z "$line" ] || { [ $status -ne 0 ] && [ "$f" -eq 0 ]; }; then f=$((f + 1)); fi
    passed=$((passed + p))
    failed=$((failed + f))
    printf '%-6s %-44s %4d passed, %d failed  %6.1f s\n' "$([ "$f" -eq 0 ] && echo ok || echo FAILED)" "$label" "$p" "$f" \
        "$(echo "$(date +%s.%N) $start" | awk '{ print $1 - $2 }')"
    grep -aiE '^(skip|skipped)\b|\[ *SKIPPED *\] |skipped:' "$log" | head -n 8 | sed 's/^/       /'
    if [ "$f" -ne 0 ]; then
        [ $status -eq 124 ] && echo "       stopped after $limit_s s"
        grep -aE '\[  FAILED  \]|\[  ERROR   \]|error:|ERROR:|FAILED|mismatch' "$log" | head -n 20 | sed 's/^/       | /'
        tail -n 15 "$log" | sed 's/^/       > /'
        echo "       exit status $status, log: $log"
    fi
}

# idle threads sleep at barriers: spinning makes tests many times slower on a machine that has other work
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

run layers bash -c 'tools/layers.sh && echo "1 passed, 0 failed"'

for t in "$build"/tests/*; do
    name=${t##*/}
    [ -e "tests/$name.c" ] || continue # left over from a removed test
    run "$name" "$t"
done
run "test_golden small" "$build/tests/test_golden" tests/data/golden-small # another shape, and files that lack

export ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1:detect_leaks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
for t in "$asan"/fuzz/fuzz_*; do
    name=${t##*/fuzz_}
    [ -e "fuzz/fuzz_$name.c" ] || continue
    if [ -d "fuzz/corpus/$name" ]; then
        run "fuzz_$name replay" "$t" --mutate "${FUZZ_MUTATE:-3000}" "fuzz/corpus/$name"
    else
        echo "FAILED fuzz_$name: no seeds in fuzz/corpus/$name"
        failed=$((failed + 1))
    fi
done
for name in $asan_tests; do run "$name (asan)" "$asan/tests/$name"; done

if command -v python3 >/dev/null 2>&1; then
    run test_corpus python3 tests/test_corpus.py
else
    echo "skip   test_corpus: python3 not found; the corpus recipe is not tested"
fi
if [ -x tests/peers.sh ]; then run peers env BUILD="$build" tests/peers.sh; fi

echo
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
