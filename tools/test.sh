#!/usr/bin/env bash
# Every test, or those of some packages: tools/test.sh [GO TEST FLAG...] [PACKAGE...]
# Starts the real services that integration tests need; a test that misses one then fails (LPIPE_TEST_REQUIRE). Where the
# folder of fetched data is there (../shared, or LPIPE_SHARED), a test that does not find it fails too.
#
#   SERVICES=off         no services: tests that need one are skipped
#   S3=minio             another S3 server than versitygw
#   SERVICES_VENV=DIR    where MLflow's Python packages are, or are installed to (default: build/services/mlflow/venv)
#   SERVICES_BIN=DIR     where the servers' programs are, or are built to (default: build/services/s3/bin)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD log=$PWD/build/test.log
mkdir -p build/services

if [ "${SERVICES:-on}" != off ]; then
  echo "starting an S3 server (${S3:-versitygw}); the first time it is built from the Go module proxy, which takes some minutes"
  trap 'tools/services/s3.sh down "$root/build/services/s3"; tools/services/mlflow.sh down "$root/build/services/mlflow"
    tools/services/mlflow.sh down "$root/build/services/mlflow-s3"' EXIT
  if command -v python3 >/dev/null; then # installed while the S3 server is built
    tools/services/mlflow.sh up "$root/build/services/mlflow" >build/mlflow.env &
    mlflow=$!
  fi
  tools/services/browser.sh
  lines=$(tools/services/s3.sh up --server "${S3:-versitygw}" --faults limit=0 "$root/build/services/s3")
  eval "$lines"
  export LPIPE_TEST_REQUIRE=1 LPIPE_TEST_MLFLOW=off LPIPE_TEST_MLFLOW_S3=off
  if command -v python3 >/dev/null; then # some tests are about Python's tools; without those they are skipped, and say so
    if LPIPE_TEST_PYTHON=$(tools/services/hub_python.sh "$root/build/services/python"); then
      export LPIPE_TEST_PYTHON
    else
      unset LPIPE_TEST_PYTHON
      echo "no venv, or no PyPI: tests with huggingface_hub, datasets and pyarrow are skipped"
    fi
    if wait "$mlflow"; then
      eval "$(cat build/mlflow.env)"
      with_s3=$(ARTIFACTS=s3://$LPIPE_TEST_S3_BUCKET/mlflow MLFLOW_S3_ENDPOINT_URL=$LPIPE_TEST_S3_DIRECT \
        SERVICES_VENV=${SERVICES_VENV:-$root/build/services/mlflow/venv} tools/services/mlflow.sh up "$root/build/services/mlflow-s3")
      eval "$with_s3"
    else
      echo "no venv, or no PyPI: tests with a real MLflow server are skipped"
    fi
  fi
fi

[ $# -gt 0 ] && [[ ${*: -1} = .* ]] || set -- "$@" ./...
status=0
go test -v -timeout 20m "$@" 2>&1 | tee "$log" |
  grep -E --line-buffered '^(ok|FAIL|panic:|\?)[[:space:]]|^[[:space:]]*--- FAIL|build failed|^# ' || status=${PIPESTATUS[0]}

# The CUDA kernels on the processor: compiled by g++, through cgo, which the program itself does without.
if [[ ${*: -1} = ./... ]]; then
  if command -v g++ >/dev/null; then
    { CGO_ENABLED=1 go test -v -timeout 20m -tags cudahost ./engine/cuda/... ./engine/model &&
      CGO_ENABLED=1 go test -v -timeout 20m -tags cudahost -run CUDA ./engine; } 2>&1 | tee -a "$log" |
      grep -E --line-buffered '^(ok|FAIL|panic:)[[:space:]]|^[[:space:]]*--- FAIL|build failed|^# ' || status=${PIPESTATUS[0]}
  else
    echo "no g++: the CUDA kernels are not run on the processor"
  fi
fi

# The reason of a skip stands above it.
skips=$(awk '/^ +[^ ]+\.go:[0-9]+: / { reason = $0; sub(/^ +/, "", reason) } /^ *--- SKIP/ { sub(/^ */, ""); print "  " $3 ": " reason }' "$log")
[ -z "$skips" ] || printf 'skipped:\n%s\n' "$skips"
if [ -d "${LPIPE_SHARED:-../shared}" ] && grep -q 'LPIPE_SHARED' <<<"$skips"; then
  echo "${LPIPE_SHARED:-../shared} is there, and tests that need it were skipped"
  status=1
fi
count() { grep -cE "^ *--- $1:" "$log" || true; }
echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped; all output is in ${log#"$root"/}"
if [ "$status" -ne 0 ]; then
  echo "the failures:"
  grep -nE -A25 '^ *--- FAIL|^panic:|\[build failed\]' "$log" | head -200
fi
exit "$status"
