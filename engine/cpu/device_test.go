package cpu

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lpipe/engine/ops"
	"lpipe/engine/ops/opstest"
)

func allTypes() []ops.Type { return []ops.Type{ops.F32, ops.BF16, ops.BF16Exact, ops.NF4, ops.NF4BF16} }

func TestPlain(t *testing.T) {
	opstest.Run(t, func() ops.Device { return NewPlain() }, opstest.Options{Types: allTypes(), Operands: true})
}

// Every kernel that this processor has, with more threads than it has cores. No result errs more than doc/numerics.md says;
// -v prints what it errs.
func TestDevice(t *testing.T) {
	measured := map[string]float64{}
	for _, name := range Kernels() {
		t.Run(name, func(t *testing.T) {
			opstest.Run(t, func() ops.Device { return New(Options{Threads: 3, Kernel: name}) }, opstest.Options{
				Types: allTypes(), Operands: true,
				Report: func(operation string, typ ops.Type, result string, err float64) {
					if operation == "LinearMerge" && typ != ops.F32 {
						return // the result is rounded to the type
					}
					measured[operation+" "+result] = max(measured[operation+" "+result], err)
				},
			})
		})
	}
	said := documented(t)
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		bound, ok := said[name]
		t.Logf("%-40s %.1e, documented %.1e", name, measured[name], bound)
		if exact := strings.HasPrefix(name, "Memory "); !exact && (!ok || measured[name] > bound) {
			t.Errorf("%s errs by %.2g; doc/numerics.md says %.2g (found: %t)", name, measured[name], bound, ok)
		}
	}
}

// documented reads the table of errors of doc/numerics.md: operation, results, error.
func documented(t *testing.T) map[string]float64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "doc", "numerics.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]float64{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\| ([0-9.e-]+) \\|").FindAllStringSubmatch(string(text), -1) {
		bound, err := strconv.ParseFloat(strings.TrimSpace(row[3]), 64)
		if err != nil {
			t.Fatalf("doc/numerics.md, %s: %v", row[0], err)
		}
		for _, result := range strings.Split(row[2], ", ") {
			said[row[1]+" "+strings.TrimSpace(result)] = bound
		}
	}
	return said
}

// Weights and logits too large for one piece take the same operations through blocks.
func TestDeviceInBlocks(t *testing.T) {
	for name, l := range map[string]limits{
		"packed before":   {packed: 600, wide: 1 << 30, logits: 700, headRows: 3},
		"packed by tasks": {packed: 600, logits: 700, headRows: 3},
	} {
		t.Run(name, func(t *testing.T) {
			opstest.Run(t, func() ops.Device {
				d := New(Options{Threads: 2})
				d.limits = l
				return d
			}, opstest.Options{Types: allTypes(), Operands: true, Rounds: 20})
		})
	}
}
