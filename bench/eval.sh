#!/bin/bash
# eval.sh MODEL TASKS DATA_DIR [more options of slm2 eval] - items per second of `slm2 eval` in batches against a plain loop over requests.
#
#   bench/eval.sh model-q8_0.gguf hellaswag eval --n-shot 0 --limit 200
#
# Both ways take turns, ROUNDS times (1); WAYS=batches (or one-by-one) runs one alone: the loop over a whole set takes hours, a part of it tells the rate.  A line each: what, seconds on the clock, seconds of CPU, items, items per second, tokens asked for and computed, passes.
# SLM2 names the program (build/slm2).  Figures must be the same in all runs, or this fails.
set -eu
model=$1 tasks=$2 data=$3
shift 3
slm2=${SLM2:-build/slm2}
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT
field() { sed -n "s/.*\"$1\":\([0-9.e+-]*\).*/\1/p" "$2"; }
printf '%-12s %9s %9s %6s %9s %9s %9s %7s\n' way seconds cpu_s items items/s asked computed passes
for ((round = 0; round < ${ROUNDS:-1}; round++)); do
    for way in ${WAYS:-batches one-by-one}; do
        option=; [ $way = one-by-one ] && option=--one-by-one
        TIMEFORMAT='%U %S'
        { time OMP_WAIT_POLICY=passive "$slm2" eval --model "$model" --tasks "$tasks" --data-dir "$data" --json $option "$@" > "$out/$way" 2> "$out/errors" || { cat "$out/errors"; exit 1; }; } 2> "$out/time"
        sed -E 's/.*"results":(.*),"groups".*/\1/' "$out/$way" > "$out/$way.figures"
        items=$(sed -E 's/.*"n-samples":\{([^}]*)\}.*/\1/' "$out/$way" | tr ',' '\n' | sed 's/.*://' | paste -sd+ | bc)
        s=$(sed -n 's/.*},"seconds":\([0-9.e+-]*\),"requests".*/\1/p' "$out/$way")
        cpu=$(tail -1 "$out/time" | tr ' ' '+' | bc)
        printf '%-12s %9.1f %9.1f %6d %9.3f %9d %9d %7d\n' $way "$s" "$cpu" "$items" "$(echo "$items / $s" | bc -l)" "$(field tokens_asked "$out/$way")" "$(field tokens_computed "$out/$way")" "$(field passes "$out/$way")"
    done
    [ -n "${WAYS:-}" ] || cmp "$out/batches.figures" "$out/one-by-one.figures"
done
