#!/usr/bin/env bash
# make bench-exp: what a sweep costs over its stages, the table of 5,000 instances, the page of 100 runs of 10,000 points.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 tools/bench/exp.py bin/lpipe "$work"
