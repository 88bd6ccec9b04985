#!/usr/bin/env bash
# The README's first command: a new demo project in build/demo, brought up to date, and its metrics.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf build/demo
bin/lpipe init --demo build/demo
bin/lpipe -C build/demo repro
bin/lpipe -C build/demo metrics
