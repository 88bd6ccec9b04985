#!/usr/bin/env bash
# make bench-tracking: what tracking costs a training whose steps tell a hundred numbers each, beside a real MLflow server on the same
# processors. The server has the lowest priority (NICE=19): what it takes is not the training's. ROUNDS=5.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$PWD/build/services/mlflow-bench
export SERVICES_VENV=${SERVICES_VENV:-$PWD/build/services/mlflow/venv}
go test -c -o build/bench-tracking.test ./cmd/lpipe
trap 'tools/services/mlflow.sh down "$dir"; rm -f build/bench-tracking.test' EXIT
eval "$(nice -n "${NICE:-19}" tools/services/mlflow.sh up "$dir")"
export LPIPE_TEST_MLFLOW LPIPE_BENCH_SERVER
LPIPE_BENCH_SERVER=$(cut -d' ' -f1 "$dir/run/mlflow.pid")
# A session's processes share one priority among sessions, where the kernel groups them so; nice alone counts within it.
echo "${NICE:-19}" >"/proc/$LPIPE_BENCH_SERVER/autogroup" 2>/dev/null || true
echo "load average $(cut -d' ' -f1 /proc/loadavg), $(nproc) processors, the server at nice ${NICE:-19}"
cd cmd/lpipe
../../build/bench-tracking.test -test.run '^$' -test.bench TrackedTraining -test.benchtime "${ROUNDS:-5}x"
