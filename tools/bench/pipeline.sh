#!/usr/bin/env bash
# make bench-pipeline: see tools/bench/pipeline.py
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/bench
exec python3 tools/bench/pipeline.py --json build/bench-pipeline.json "$@"
