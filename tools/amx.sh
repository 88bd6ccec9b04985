#!/usr/bin/env bash
# tools/amx.sh: the blocks of AMX (engine/cpu/amx_amd64.s), as the Go toolchain assembles them, in Bochs as a Sapphire Rapids without an
# operating system. BOCHS=DIR is a built source folder of it; without, it is fetched and built in build/amx, the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/build/amx
bochs=${BOCHS:-$work/src/bochs}
mkdir -p "$work"
if [ ! -x "$bochs/bochs" ]; then
  [ -d "$work/src" ] || git clone -q https://github.com/bochs-emu/Bochs "$work/src"
  git -C "$work/src" checkout -q 783b58fd6d9bae598a07c59719122322fa0edce6
  (cd "$bochs" && ./configure --enable-x86-64 --enable-cpu-level=6 --enable-avx --enable-evex --enable-amx --disable-docbook \
    --with-nogui --disable-plugins --disable-large-ramfile && make -j2) >"$work/build.log" 2>&1
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
