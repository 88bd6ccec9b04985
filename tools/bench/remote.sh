#!/usr/bin/env bash
# make bench-remote
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/services
# What it stored goes at the end: deleted at the start of the next run, it would slow down all that this one measures (pipeline.py).
trap 'tools/services/s3.sh down build/services/s3-bench; rm -rf build/services/s3-bench/s3' EXIT
lines=$(tools/services/s3.sh up --faults delay=0 build/services/s3-bench)
eval "$lines"
python3 tools/bench/remote.py --json build/bench-remote.json "$@"
