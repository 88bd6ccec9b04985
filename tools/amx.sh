#!/usr/bin/env bash
# tools/amx.sh: the blocks of AMX (engine/cpu/amx_amd64.s), as the Go toolchain assembles them, in Bochs as a Sapphire Rapids without an
# operating system. It needs git, make, g++ and binutils. BOCHS=DIR is a built source folder of Bochs; without, version 783b58fd of
# its repository is fetched and built in build/amx, the first time, unchanged.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/build/amx
bochs=${BOCHS:-$work/src/bochs}
mkdir -p "$work"
hint() { echo "tools/amx.sh: $1; BOCHS=DIR takes a folder in which Bochs was built with --enable-amx --with-nogui" >&2; exit 1; }
if [ ! -x "$bochs/bochs" ]; then
  [ -z "${BOCHS:-}" ] || hint "there is no program $BOCHS/bochs"
  rm -rf "$work/src" # what an interrupted run left
  git clone -q --no-checkout --filter=blob:none https://github.com/bochs-emu/Bochs "$work/src" || hint "Bochs was not fetched"
  git -C "$work/src" sparse-checkout set --no-cone /bochs '!/bochs/bios/OVMF' # that is firmware of many megabytes, and not used
  git -C "$work/src" checkout -q 783b58fd6d9bae598a07c59719122322fa0edce6 || hint "Bochs was not fetched"
  (cd "$bochs" && ./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-amx --disable-docbook \
    --with-nogui --disable-plugins --disable-large-ramfile && make -j2) >"$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log" >&2; rm -f "$bochs/bochs"; hint "Bochs was not built ($work/build.log)"; }
fi
as tools/amx/stub.S -o "$work/stub.o"
objcopy -O binary -j .text "$work/stub.o" "$work/disk.img"
LPIPE_AMX_IMAGE=$work/disk.img go test -count=1 -run 'TestBlockImage$' ./engine/cpu
cat >"$work/bochsrc" <<X
megs: 64
cpu: model=sapphire_rapids, ips=4000000
romimage: file=$bochs/bios/BIOS-bochs-latest
vgaromimage: file=$bochs/bios/VGABIOS-lgpl/VGABIOS-lgpl-latest.bin
ata0-master: type=disk, path=$work/disk.img, mode=flat, cylinders=20, heads=16, spt=63
boot: disk
port_e9_hack: enabled=1
display_library: nogui
log: $work/bochs.log
clock: sync=none
panic: action=fatal
X
timeout 120 "$bochs/bochs" -q -f "$work/bochsrc" -unlock </dev/null >"$work/out.txt" 2>&1 || true
said=$(grep -E '^S[PF]*E?$' "$work/out.txt" || true)
echo "Bochs, sapphire_rapids: ${said:-nothing} (S start, P a result with the bits of the formula, F one without, E end)"
[ "$said" = SPPPPPE ]
