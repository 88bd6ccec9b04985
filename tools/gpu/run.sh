#!/usr/bin/env bash
# bash run.sh [REPORT]: tests and times lpipe on this machine's GPU, beside torch and PEFT, and writes report.json. It takes
# less than 8 minutes; without a GPU it says what was not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v python3 >/dev/null || { echo "run.sh: python3 is missing; it runs the parts and writes the report" >&2; exit 2; }
report=${1:-$PWD/report.json}
case $report in /*) ;; *) report=$PWD/$report ;; esac
cd "$here"
exec python3 run.py "$report"
