#!/usr/bin/env bash
# The crash matrix: the real program, disturbed at every change of the disk and at every request to a real S3 server.
# doc/durability.md says what it must keep.
#
#   LPIPE_CRASH_STRIDE=5        only every fifth change (from a start that the seed gives)
#   LPIPE_CRASH_SEED=2          other survivors of a loss of power
#   LPIPE_CRASH_ONLY='^push, '  only rows whose name, "<command>, <way>", matches this regular expression
#   SERVICES_BIN=DIR            where the S3 server is, or is built to (default: build/services/s3/bin)
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build/services
trap 'tools/services/s3.sh down "$PWD/build/services/s3"' EXIT
lines=$(tools/services/s3.sh up --faults limit=0 "$PWD/build/services/s3")
eval "$lines"
LPIPE_CRASH=full go test ./cmd/lpipe/crash -v -timeout 90m
