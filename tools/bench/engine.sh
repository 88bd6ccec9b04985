#!/usr/bin/env bash
# make bench-engine
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
exec python3 tools/bench/engine.py
