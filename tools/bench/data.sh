#!/usr/bin/env bash
# make bench-data, in rows, each of which is printed as failed if it fails, while the others go on; the exit code is 1 then.
#   chain   Parquet to token ids beside Hugging Face's datasets and tokenizers, 40,000 rows
#   stages  each data stage on one processor, MB of its input for a second of user time; MinHash alone
#   pack    packing 1.7 million sequences
#   memory  peak memory of each stage over two million rows (819 MB; takes 6 GB of disk in TMPDIR)
# ROWS="chain stages" takes some of them. All take three minutes on two cores that nothing else uses; a row is given up after ten.
# LPIPE_BENCH=quick takes fewer rows of data (a minute), LPIPE_BENCH=full also measures memory over five million rows (15 GB of
# disk and ten minutes more). Needs ../shared (or LPIPE_SHARED).
# LPIPE_BENCH_DATA_PYTHON names a Python with datasets, tokenizers, pyarrow; else build/bench-data-venv is made from PyPI.
set -uo pipefail
cd "$(dirname "$0")/../.."
shared=${LPIPE_SHARED:-../shared}
sample=40000 many=2000000 times=2x limit=600
case ${LPIPE_BENCH:-} in
quick) sample=8000 many=200000 times=1x ;;
full) many="2000000 5000000" times=3x limit=1800 ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM

# limited gives a command up after a while, with all that it started; in the background, so that an interrupt is heard.
limited() {
	timeout $limit "$@" &
	wait $!
}

# python prints the Python of the peers, which it may have to make first.
python() {
	if [ -n "${LPIPE_BENCH_DATA_PYTHON:-}" ]; then
		echo "$LPIPE_BENCH_DATA_PYTHON"
		return
	fi
	local venv=build/bench-data-venv
	if [ ! -f $venv/ready ]; then
		python3 -m venv $venv && $venv/bin/pip install -q --disable-pip-version-check datasets==5.2.0 tokenizers==0.23.3 pyarrow==26.0.1 numpy >&2 &&
			touch $venv/ready || return 1
	fi
	echo $venv/bin/python
}

chain() {
	local peers
	peers=$(python) || return 1
	limited "$peers" tools/bench/data.py bin/lpipe "$shared" "$work" $sample
}

# bench runs Go benchmarks of a package and shows their lines, and all there is to show where they fail.
bench() {
	limited go test "$1" -run '^$' -bench "$2" -benchtime $times >"$work/bench.log" 2>&1 || { cat "$work/bench.log"; return 1; }
	grep -E '^Benchmark|skip' "$work/bench.log"
}

stages() { LPIPE_SHARED=$(realpath "$shared") GOMAXPROCS=1 bench ./stages '^(BenchmarkStages|BenchmarkMinHash)$'; }

pack() { bench ./dataset '^BenchmarkPack$'; }

memory() {
	local n bad=0
	for n in $many; do
		limited python3 tools/bench/data_memory.py bin/lpipe "$shared/data/qwen2.5" "$work/memory" "$n" || bad=1
		rm -rf "$work/memory"
	done
	return $bad
}

rows=${ROWS:-chain stages pack memory}
for row in $rows; do
	[[ " chain stages pack memory " == *" $row "* ]] || { echo "bench-data: no row $row; there are chain, stages, pack and memory" >&2; exit 2; }
done
failed=()
for row in $rows; do
	echo "== $row"
	began=$SECONDS
	if $row; then
		echo "$row took $((SECONDS - began)) s"
	else
		echo "$row FAILED after $((SECONDS - began)) s"
		failed+=("$row")
	fi
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
