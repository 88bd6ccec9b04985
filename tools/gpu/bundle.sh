#!/usr/bin/env bash
# make gpu-bundle: one folder, build/gpu-bundle, with all that a machine with a GPU needs to test and time lpipe there: no Go, no
# compiler, no network. Copy it, then: bash run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
tools/cuda.sh build
. build/cuda/env
export CGO_ENABLED=1
out=$PWD/build/gpu-bundle
rm -rf "$out"
mkdir -p "$out/engine/cuda" "$out/engine/model"
test_binary() { # test_binary PACKAGE TO: run there, beside the files that the tests read
  go test -c -trimpath -tags cuda -ldflags '-s -w' -o "$2" "$1"
  gzip -9 "$2"
}
test_binary ./engine/cuda "$out/engine/cuda/cuda.test"
test_binary ./engine/model "$out/engine/model/model.test"
test_binary ./engine "$out/engine/engine.test"
cp -r engine/testdata "$out/engine/testdata"
gzip -9 -c bin/lpipe-cuda >"$out/lpipe-cuda.gz"
for shape in tools/gpu/shapes/*.json; do
  name=$(basename "$shape" .json)
  mkdir -p "$out/shapes/$name"
  cp "$shape" "$out/shapes/$name/config.json"
done
cp tools/gpu/run.sh tools/gpu/run.py tools/gpu/peer.py "$out"

# compute-sanitizer, for what has no CUDA toolkit; it finds its libraries in ../lib
sanitizer=build/cuda/sanitizer
if ! cmp -s tools/gpu/requirements.txt "$sanitizer/installed"; then
  rm -rf "$sanitizer"
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile --require-hashes \
    --only-binary=:all: --target "$sanitizer" -r tools/gpu/requirements.txt
  cp tools/gpu/requirements.txt "$sanitizer/installed"
fi
mkdir -p "$out/sanitizer/bin" "$out/sanitizer/lib"
cp "$sanitizer"/nvidia/cu13/bin/{compute-sanitizer,libsanitizer-collection.so} "$out/sanitizer/bin"
cp "$sanitizer"/nvidia/cu13/lib/lib{InterceptorInjection,TreeLauncher}*.so "$out/sanitizer/lib"
gzip -9 "$out"/sanitizer/*/*
git describe --always --dirty --abbrev=12 >"$out/commit" 2>/dev/null || echo unknown >"$out/commit"
size=$(du -sm "$out" | cut -f1)
echo "build/gpu-bundle: $size MB; copy it to a machine with a GPU and run: bash run.sh"
[ "$size" -le 60 ] || { echo "more than 60 MB" >&2; exit 1; }
