#!/bin/bash
# peers.sh - what other people's programs make of our files: llama.cpp (npm node-llama-cpp), @huggingface/gguf and tiktoken, a parser of
# safetensors that shares no code with ours, and readers of TensorBoard events and of Prometheus metrics.  The last line sums all: "N passed, N failed".
#   BUILD    where slm2 lies (build)
#   PEERS    folder that npm installs into, reused when complete (BUILD/peers)
#   SEED     of the random texts (default: the date)
#   MODEL    Hugging Face folder that takes the place of the random nano model, such as one that was trained
# Skips, with the reason, only where node or npm is missing or npm can't reach its registry.
set -uo pipefail
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
peers=${PEERS:-$BUILD/peers}
scripts=(llama gguf safetensors tiktoken observe)
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} NODE_LLAMA_CPP_SKIP_DOWNLOAD=true

skip() {
    echo "skipped: $1"
    echo "0 passed, 0 failed, ${#scripts[@]} skipped"
    exit 0
}
fail() {
    echo "FAILED $1"
    echo "0 passed, 1 failed"
    exit 1
}

command -v node >/dev/null || skip "node is not installed (apt install nodejs)"
command -v npm >/dev/null || skip "npm is not installed (apt install npm)"
[ -x "$BUILD/slm2" ] || fail "$BUILD/slm2 is not built"
mkdir -p "$peers"
peers=$(realpath "$peers")
export SLM2 PEER_DATA PEER_FILES PEER_LIBRARY PEER_TOOLS=
SLM2=$(realpath "$BUILD/slm2")
PEER_DATA=$(realpath "${SLM2_TEST_DATA:-tests/data}")

# ---- the packages, once per version: without the optional ones, which are hundreds of megabytes of GPU libraries ------
platform=$(node -p 'process.platform + "-" + process.arch')
node=node
wanted=("@node-llama-cpp/$platform@$(node -p 'require("./tests/peers/package.json").dependencies["node-llama-cpp"]')")
if [ "$(node -p 'parseInt(process.versions.node) >= 20')" != true ]; then # llama.cpp's package wants 20, Debian 12 has 18
    wanted+=("node-$platform@22.23.3")
    node=$peers/node_modules/node-$platform/bin/node
fi
stamp=$peers/.installed-$(echo "${wanted[@]}" "$(cat tests/peers/package.json)" | cksum | cut -d ' ' -f 1)
if [ ! -e "$stamp" ]; then
    rm -rf "$peers/node_modules" "$peers"/.installed-*
    cp tests/peers/package.json "$peers/"
    (cd "$peers" && timeout 300 npm install --ignore-scripts --no-audit --no-fund --no-package-lock --omit=optional --loglevel=error \
        --fetch-retries=1 --fetch-retry-mintimeout=2000 --fetch-retry-maxtimeout=5000 "${wanted[@]}" >npm.log 2>&1)
    status=$?
    if [ $status -eq 124 ] || { [ $status -ne 0 ] &&
        grep -qE 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET|E50[0-9]|E407|network' "$peers/npm.log"; }; then
        skip "npm cannot reach its registry: $(grep -m 1 -E 'npm (ERR!|error)' "$peers/npm.log")"
    fi
    [ $status -eq 0 ] || fail "npm install of tests/peers/package.json: $(tail -n 3 "$peers/npm.log")"
    touch "$stamp"
fi
cp tests/peers/*.mjs "$peers/"

# ---- the files to show them --------------------------------------------------------------------------------------------
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
PEER_FILES=$scratch
mkdir "$scratch/theirs"
slm2() { "$SLM2" "$@" >"$scratch/log" 2>&1 || fail "slm2 $*: $(tail -n 3 "$scratch/log")"; }
golden=$PEER_DATA/golden
if [ -n "${MODEL:-}" ]; then
    ln -s "$(realpath "$MODEL")" "$scratch/nano"
else # larger random weights than training starts with: attention and logits that are not flat
    sed 's/init_std: .*/init_std: 0.06/' configs/nano.yml >"$scratch/nano.yml"
    slm2 init --config "$scratch/nano.yml" --out "$scratch/nano" --dtype f32 --seed 11
fi
for model in tiny nano; do
    from=$golden/tiny
    [ $model = nano ] && from=$scratch/nano
    for type in f32 f16; do slm2 convert "$from" "$scratch/$model-$type.gguf" --dtype $type; done
    for type in q8_0 q4_0; do slm2 quantize "$from" "$scratch/$model-$type.gguf" --type $type; done
    slm2 convert "$from" "$scratch/$model-shards" --max-shard-mb "$([ $model = nano ] && echo 30 || echo 1)"
done
# rows of whole blocks of 256, which llama.cpp's K types want; larger weights than training starts with, as above
sed -e 's/vocab_size: .*/vocab_size: 512/' -e 's/hidden_size: .*/hidden_size: 256/' -e 's/intermediate_size: .*/intermediate_size: 768/' -e 's/init_std: .*/init_std: 0.06/' \
    -e 's/\(bos\|eos\)_id: .*/\1_id: 0/' configs/nano.yml >"$scratch/wide.yml"
slm2 init --config "$scratch/wide.yml" --out "$scratch/wide" --dtype f32 --seed 12
slm2 convert "$scratch/wide" "$scratch/wide-f32.gguf"
slm2 convert "$scratch/wide" "$scratch/wide-bf16.gguf" --dtype bf16
slm2 quantize "$scratch/wide" "$scratch/wide-q4_1.gguf" --type q4_1
for type in f32 q8_0; do slm2 convert "$golden/tiny-gqa-qkln" "$scratch/tiny-gqa-qkln-$type.gguf" --dtype $type; done
slm2 convert "$golden/tiny-bf16" "$scratch/tiny-bf16-bf16.gguf"
slm2 convert "$scratch/tiny-f32.gguf" "$scratch/tiny-back"
slm2 convert "$scratch/tiny-gqa-qkln-f32.gguf" "$scratch/tiny-gqa-qkln-back"
slm2 convert "$scratch/tiny-bf16-bf16.gguf" "$scratch/tiny-bf16-back"

# ---- llama.cpp's own quantiser, called in the library that node-llama-cpp brings ------------------------------------------
library=$(ls "$peers/node_modules/@node-llama-cpp/$platform"/bins/*/libllama.*so 2>/dev/null | head -n 1)
if [ -n "$library" ] && ${CC:-cc} -O1 -o "$peers/llama_quantize" tests/peers/llama_quantize.c -ldl 2>"$scratch/log"; then
    PEER_TOOLS=$peers PEER_LIBRARY=$(dirname "$library")
else
    echo "FAILED llama_quantize.c: no library found or it does not compile"
    cat "$scratch/log"
    failed=1
fi

# ---- run -----------------------------------------------------------------------------------------------------------------
passed=0 failed=${failed:-0}
for name in "${scripts[@]}"; do
    echo "$name:"
    (cd "$peers" && timeout 120 "$node" "$name.mjs") 2>&1 | tee "$scratch/out"
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed' "$scratch/out" | tail -n 1)
    p=0 f=1 # a script that dies without its last line is a failure
    [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]] && p=${BASH_REMATCH[1]} f=${BASH_REMATCH[2]}
    [ -z "$line" ] && echo "FAILED $name.mjs: ended without a result"
    passed=$((passed + p)) failed=$((failed + f))
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
