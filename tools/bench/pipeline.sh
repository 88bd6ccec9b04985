#!/usr/bin/env bash
# make bench-pipeline
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
exec python3 tools/bench/pipeline.py --json build/bench-pipeline.json
