#!/usr/bin/env bash
# tools/cuda/kernels.sh: compiles engine/cuda/kernels/*.cu to fatbins, which the program embeds. Files that did not change are left.
# First source the env file that setup.sh wrote.
set -euo pipefail
cd "$(dirname "$0")/../../engine/cuda"
mkdir -p driver/fatbin
nvcc=$CUDA_HOME/bin/nvcc
version=$("$nvcc" --version | sha256sum)
compile() { # compile NAME: machine code for A100 and later 8.x, for Hopper, and PTX for what comes after
  local out=driver/fatbin/$1 stamp
  stamp=$(cat kernels/common.h kernels/mma.h "kernels/$1.cu" <(echo "$version") ../../tools/cuda/kernels.sh | sha256sum)
  [ -f "$out.fatbin" ] && [ "$(cat "$out.stamp" 2>/dev/null)" = "$stamp" ] && return
  echo "nvcc $1.cu"
  "$nvcc" -O3 -std=c++17 -fatbin -gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a \
    -gencode=arch=compute_80,code=compute_80 -o "$out.fatbin" "kernels/$1.cu"
  echo "$stamp" >"$out.stamp"
}
for source in kernels/*.cu; do
  compile "$(basename "$source" .cu)"
done
