#!/usr/bin/env bash
# 1,000,000 points of metrics (POINTS=…) through a real MLflow server that is killed three times while it takes them: each must
# arrive, once. Takes some minutes: SQLite stores two to four thousand rows a second.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/build/services/mlflow-million
rm -rf "$dir/mlflow"
export SERVICES_VENV=${SERVICES_VENV:-$PWD/build/services/mlflow/venv}
trap 'tools/services/mlflow.sh down "$dir"' EXIT
eval "$(tools/services/mlflow.sh up "$dir")"
export LPIPE_TEST_MLFLOW LPIPE_MILLION=${POINTS:-1000000}
# The server comes back with its data, at the same address.
export LPIPE_MILLION_KILL="kill -KILL -- -\$(cut -d' ' -f1 '$dir/run/mlflow.pid') && rm '$dir/run/mlflow.pid' && sleep 1 && PORT=${LPIPE_TEST_MLFLOW##*:} '$PWD/tools/services/mlflow.sh' up '$dir'"
go test ./tracking/spool -run TestMillionPoints -v -timeout 60m
