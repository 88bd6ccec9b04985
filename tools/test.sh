#!/usr/bin/env bash
# Every test. Starts the real services that the integration tests need, and says at the end what was skipped:
# where the services were started (everywhere but with SERVICES=off), a skipped test for want of one is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p build/services
log=build/test.log

if [ "${SERVICES:-on}" != off ]; then
  echo "starting S3 server (${S3:-versitygw}); the first time it is built, which takes a few minutes"
  lines=$(tools/services/s3.sh up --server "${S3:-versitygw}" --faults limit=0 "$root/build/services/s3")
  eval "$lines"
  trap 'tools/services/s3.sh down "$root/build/services/s3"' EXIT
  export LPIPE_TEST_REQUIRE=1
fi

status=0
go test -v "$@" ./... >"$log" 2>&1 || status=$?
grep -E '^(ok|FAIL|panic:|---? ?FAIL|\s*--- (FAIL|SKIP))' "$log" || true
grep -E '^\?' "$log" | wc -l | xargs printf '%s packages without tests\n'
if [ $status -ne 0 ]; then
  echo; echo "failed; the end of $log:"; grep -nE -A30 '^\s*--- FAIL|^panic:|^FAIL' "$log" | tail -120
  exit $status
fi
passed=$(grep -cE '^--- PASS' "$log" || true) skipped=$(grep -cE '^\s*--- SKIP' "$log" || true)
echo "$passed passed, 0 failed, $skipped skipped"
if [ "$skipped" -gt 0 ] && [ -n "${LPIPE_TEST_REQUIRE:-}" ] && [ "${CI:-}" = true ]; then
  echo "skipped tests are failures here:"; grep -A2 -E '^\s*--- SKIP' "$log"; exit 1
fi
