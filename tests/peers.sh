#!/bin/bash
# peers.sh - what other programs make of our files.  BUILD: where slm2 lies; SLM2_NPM: the folder whose node_modules holds the peers.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v node >/dev/null; then
    echo "skipped: node is not installed"
    echo "0 passed, 0 failed"
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
node tests/peer_gguf.mjs "$(realpath "${BUILD:-build}/slm2")" "${SLM2_TEST_DATA:-tests/data}/golden" "$scratch"
