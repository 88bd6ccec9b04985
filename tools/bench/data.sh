#!/usr/bin/env bash
# The data stages: MB/s of their input on one processor, and the peak memory over two million rows.
# LPIPE_BENCH=quick leaves the two million rows out. Needs ../shared for the speed table.
set -euo pipefail
cd "$(dirname "$0")/../.."
short=()
[ "${LPIPE_BENCH:-}" != quick ] || short=(-short)
echo "speed, one processor (MB/s of the input):"
GOMAXPROCS=1 go test ./stages -run '^$' -bench '^BenchmarkStages$' -benchtime 3x "${short[@]}" | grep -E '^(Benchmark|---|ok|FAIL)|skip'
if [ ${#short[@]} = 0 ]; then
	echo "peak memory over two million rows (peak-MB):"
	go test ./stages -run '^$' -bench '^BenchmarkTwoMillionRows$' -benchtime 1x -timeout 30m | grep -E '^(Benchmark|---|ok|FAIL)|skip'
fi
