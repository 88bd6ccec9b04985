#!/usr/bin/env bash
# Every fuzz target for FUZZTIME each: tools/fuzz.sh [PATTERN] runs those whose names match. What fails is named at the end.
# Without FUZZTIME that is 60 s, and 5 minutes for the tokenizer beside its oracle, in which two cores try some two million strings.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=()
while IFS=: read -r file target; do
  [[ $target =~ ${1:-.} ]] || continue
  long=60s
  [ "$target" != FuzzEncodeEqualsOracle ] || long=300s
  echo "== $(dirname "$file") $target"
  go test "$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-$long}" -fuzzminimizetime 2s || failed+=("$(dirname "$file") $target")
done < <(grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's/:func /:/' | sort)
[ ${#failed[@]} -eq 0 ] || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
