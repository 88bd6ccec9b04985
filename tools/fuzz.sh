#!/usr/bin/env bash
# Every fuzz target for FUZZTIME (60 s) each: tools/fuzz.sh [PATTERN] runs those whose names match. What fails is named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=()
while IFS=: read -r file target; do
  [[ $target =~ ${1:-.} ]] || continue
  echo "== $(dirname "$file") $target"
  go test "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-60s}" -fuzzminimizetime 2s || failed+=("$(dirname "$file") $target")
done < <(grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's/:func /:/' | sort)
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
