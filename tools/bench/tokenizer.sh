#!/usr/bin/env bash
# make bench-tokenizer
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
exec python3 tools/bench/tokenizer.py
