#!/usr/bin/env bash
# tools/cuda.sh [build|test]: bin/lpipe-cuda, and what is tested of it on a machine without a GPU. The toolchain comes from
# PyPI into build/cuda, the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools/cuda/setup.sh build/cuda >/dev/null
. build/cuda/env
export CGO_ENABLED=1
tools/cuda/kernels.sh
mkdir -p bin
go build -trimpath -tags 'cuda urfave_cli_no_docs' -ldflags '-s -w' -o bin/lpipe-cuda ./cmd/lpipe
go version -m bin/lpipe-cuda | grep -- '-tags='
# It starts on every machine, and says where there is no driver.
bin/lpipe-cuda doctor | grep -E '^ +cuda '
[ "${1:-test}" = build ] && exit
go vet -tags cuda ./engine/... ./cmd/...
go test -v -timeout 40m -tags cuda ./engine/... >build/cuda-test.log 2>&1 || status=$?
grep -E '^(ok|FAIL|panic:)[[:space:]]|^[[:space:]]*--- (FAIL|SKIP)' build/cuda-test.log || true
[ "${status:-0}" = 0 ] || { echo "all output is in ${root}/build/cuda-test.log"; exit "$status"; }

# The driver's half, with a driver and a cuBLASLt that compute on the processor.
fake=$root/build/cuda/fake
mkdir -p "$fake"
compile() { g++ -std=c++17 -O2 -fPIC -shared -Wall -Wno-unknown-pragmas -o "$@"; }
compile "$fake/libcuda.so.1" tools/cuda/fake/libcuda.cpp engine/cuda/host/shim.cpp
compile "$fake/libcublasLt.so.13" tools/cuda/fake/libcublaslt.cpp -ldl
echo "with a driver that computes on the processor:"
export LD_LIBRARY_PATH=$fake
go test -tags cuda -run '(Kernels(Float|Half|OwnProducts)|Repeat.*|RoundedBits)/gpu' ./engine/cuda
go test -tags cuda ./engine/cuda/driver
go test -tags cuda -run '(CUDA(Decodes|Keeps).*|Compact)/gpu' ./engine/model
go test -tags cuda -run 'CUDA(Waits|Queued|Checkpoint).*/gpu' ./engine
