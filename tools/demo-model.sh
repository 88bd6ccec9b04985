#!/usr/bin/env bash
# Makes cmd/lpipe/demo/model again from nothing: some minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
go build -trimpath -o bin/demo-model ./cmd/demo-model
rm -rf build/demo-model
mkdir -p build
bin/demo-model -out build/demo-model
rm -rf cmd/lpipe/demo/model
mv build/demo-model cmd/lpipe/demo/model
ls -l cmd/lpipe/demo/model
