#!/usr/bin/env bash
# make bench-engine: seven minutes on two cores; engine.py says which variables it follows
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p build
exec python3 tools/bench/engine.py
