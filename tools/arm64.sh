#!/usr/bin/env bash
# tools/arm64.sh: what an arm64 machine would run, emulated: vet and build of everything (for macOS the build alone), and the tests of the engine's arithmetic under
# qemu-aarch64, which apt installs the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
if ! command -v qemu-aarch64 >/dev/null; then
	command -v apt-get >/dev/null || { echo "qemu-aarch64 is not installed, and there is no apt-get to install it: install qemu's user-mode emulation"; exit 1; }
	sudo=$([ "$(id -u)" = 0 ] || echo sudo)
	$sudo apt-get install -y --no-install-recommends qemu-user >/dev/null 2>&1 ||
		{ $sudo apt-get update >/dev/null && $sudo apt-get install -y --no-install-recommends qemu-user >/dev/null; }
fi
export GOARCH=arm64 CGO_ENABLED=0
go vet ./...
go build ./...
GOOS=darwin go build ./...
mkdir -p build/arm64
version=$(qemu-aarch64 --version | head -1)
echo "vet and build passed; tests under $version:"

# run PACKAGE [FLAGS]: its tests; all they say is in build/arm64. qemu gives a program that reads behind the end of a mapped file the signal
# without the address that Linux puts beside it (fault_address), so the test of a file that is cut meanwhile is left out.
run() {
	local name=${1//\//-} began=$SECONDS
	go test -c -o "build/arm64/$name.test" "./$1"
	if (cd "$1" && qemu-aarch64 "$root/build/arm64/$name.test" -test.v -test.timeout 60m -test.skip '^TestTruncatedWhileOpen$' "${@:2}") >"build/arm64/$name.log" 2>&1; then
		echo "ok    $1: $(grep -c '^--- PASS' "build/arm64/$name.log") tests, $((SECONDS - began)) s"
	else
		grep -E '^ *--- FAIL|^panic:|_test.go:' "build/arm64/$name.log" || true
		echo "FAIL  $1: all output is in $root/build/arm64/$name.log"
		failed=1
	fi
}
failed=0
run engine/nf4
run engine/safetensors
run engine/model
run engine -test.run '^(TestResumes.*|TestTrainCounts|TestGenerateGreedy|TestStep.*)$'
run engine/cpu
exit $failed
