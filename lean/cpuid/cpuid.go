// Package cpuid stands in for github.com/klauspost/cpuid/v2, of which the two BLAKE3 modules ask whether the processor has
// three sets of instructions. The original executes the CPUID instruction a hundred times at start, each of which leaves a
// virtual machine; golang.org/x/sys/cpu, which the program holds anyway, has asked already.
package cpuid

import "golang.org/x/sys/cpu"

// FeatureID names a set of instructions.
type FeatureID int

// The sets that are asked for.
const (
	SSE4    FeatureID = iota // SSE4.1
	AVX2                     // usable: the operating system keeps its registers
	AVX512F                  // the same
)

// CPU is the processor that the program runs on.
var CPU CPUInfo

// CPUInfo tells what a processor can do.
type CPUInfo struct{}

// Has tells whether a set may be used; on other processors than x86 none may.
func (CPUInfo) Has(set FeatureID) bool {
	switch set {
	case SSE4:
		return cpu.X86.HasSSE41
	case AVX2:
		return cpu.X86.HasAVX2
	case AVX512F:
		return cpu.X86.HasAVX512F
	}
	return false
}

// Supports tells whether all sets may be used.
func (c CPUInfo) Supports(sets ...FeatureID) bool {
	for _, set := range sets {
		if !c.Has(set) {
			return false
		}
	}
	return true
}
