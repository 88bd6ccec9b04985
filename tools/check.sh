#!/usr/bin/env bash
# The fast checks: format, vet, staticcheck, and the tests of small size; `check.sh lint` leaves the tests out.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l $(git ls-files '*.go'))
[ -z "$unformatted" ] || { echo "gofmt would change:"; echo "$unformatted"; exit 1; }
go vet ./...
GOARCH=arm64 go vet ./engine/cpu ./engine/tokenizer # assembly, and what stands in for it: `make arm64` checks the rest
go tool -modfile=tools/go.mod staticcheck ./...
[ "${1:-}" = lint ] || go test -short ./...
