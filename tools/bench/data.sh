#!/usr/bin/env bash
# make bench-data: the whole chain beside Hugging Face's datasets and tokenizers, each data stage in MB of its input for a second
# of one processor's user time, packing, and the peak memory over two million rows (826 MB).
# LPIPE_BENCH=quick takes fewer rows. Needs ../shared (or LPIPE_SHARED).
# LPIPE_BENCH_DATA_PYTHON names a Python with datasets, tokenizers, pyarrow; else build/bench-data-venv is made from PyPI.
set -euo pipefail
cd "$(dirname "$0")/../.."
shared=${LPIPE_SHARED:-../shared}
rows=40000 many=2000000 times=3x
[ "${LPIPE_BENCH:-}" != quick ] || { rows=8000 many=200000 times=1x; }

python=${LPIPE_BENCH_DATA_PYTHON:-}
if [ -z "$python" ]; then
	[ -x build/bench-data-venv/bin/python ] || python3 -m venv build/bench-data-venv
	build/bench-data-venv/bin/pip install -q --disable-pip-version-check datasets==5.2.0 tokenizers==0.23.3 pyarrow==26.0.1 numpy
	python=build/bench-data-venv/bin/python
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "the chain, Parquet to token ids:"
"$python" tools/bench/data.py bin/lpipe "$shared" "$work" "$rows"

echo "stages, one processor:"
GOMAXPROCS=1 go test ./stages -run '^$' -bench '^(BenchmarkStages|BenchmarkMinHash)$' -benchtime $times | grep -E '^(Benchmark|---|ok|FAIL)|skip'
go test ./dataset -run '^$' -bench '^BenchmarkPack$' -benchtime $times | grep -E '^(Benchmark|---|ok|FAIL)|skip'
echo "peak memory of each stage, in a process of its own:"
"$python" tools/bench/data_memory.py bin/lpipe "$shared/data/qwen2.5" "$work/memory" "$many"
