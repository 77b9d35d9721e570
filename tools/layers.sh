#!/bin/bash
# layers.sh - prints every #include that points up or sideways; exit status 1 when there is one.
# A folder is a layer: base < tok io kernels < ops < model < data quant infer dist < train eval report < cli.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A level=([base]=0 [tok]=1 [io]=1 [kernels]=1 [ops]=2 [model]=3 [data]=4 [quant]=4 [infer]=4 [dist]=4 [train]=5 [eval]=5 [report]=5 [cli]=6)
# neighbours that may be used: vocabularies lie in GGUF files; evaluation writes figures into a run's ledger, the report reads ledgers
allowed=" tok>io eval>train report>train report>eval "
bad=0
while IFS=: read -r file line text; do
    from=${file#src/}
    from=${from%%/*}
    target=${text#*\"}
    target=${target%%\"*}
    to=${target%%/*}
    if [ -z "${level[$from]:-}" ]; then
        echo "$file: folder src/$from has no layer; name it in tools/layers.sh"
        bad=1
        continue
    fi
    if [ "$target" = "$to" ] || [ -z "${level[$to]:-}" ]; then
        echo "$file:$line: \"$target\" is not written as \"folder/file.h\""
        bad=1
    elif [ "$from" != "$to" ] && [ "${level[$to]}" -ge "${level[$from]}" ] && [[ $allowed != *" $from>$to "* ]]; then
        echo "$file:$line: $from includes \"$target\", which points up"
        bad=1
    fi
done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' src/*/*.[ch] || true)
exit $bad
