#!/usr/bin/env bash
# make bench-remote
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build/services
trap 'tools/services/s3.sh down build/services/s3-bench' EXIT
lines=$(tools/services/s3.sh up --faults delay=0 build/services/s3-bench)
eval "$lines"
python3 tools/bench/remote.py --json build/bench-remote.json "$@"
