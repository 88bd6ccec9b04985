package cpu

import "golang.org/x/sys/cpu"

//go:noescape
func tile12x32(t *tile)

//go:noescape
func tile8x32(t *tile)

//go:noescape
func tile4x32(t *tile)

//go:noescape
func tile12x16(t *tile)

//go:noescape
func tile8x16(t *tile)

//go:noescape
func tile4x16(t *tile)

//go:noescape
func pairs12x32(t *tile)

//go:noescape
func pairs8x32(t *tile)

//go:noescape
func pairs4x32(t *tile)

//go:noescape
func pairs12x16(t *tile)

//go:noescape
func pairs8x16(t *tile)

//go:noescape
func pairs4x16(t *tile)

//go:noescape
func tile6x16(t *tile)

//go:noescape
func tile3x16(t *tile)

// kernels are those that this processor can run, best first. AMX is not among them: see amxKernel.
func kernels() []*kernel {
	var all []*kernel
	x := &cpu.X86
	if x.HasAVX512F && x.HasAVX512DQ && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX2 && x.HasFMA {
		k := kernel{name: "avx512", nr: 32, step: 4, vec: true,
			run: [][2]func(*tile){{tile4x32, tile4x16}, {tile8x32, tile8x16}, {tile12x32, tile12x16}}}
		if x.HasAVX512BF16 {
			half := k
			half.name, half.pairs = "avx512-bf16", [][2]func(*tile){{pairs4x32, pairs4x16}, {pairs8x32, pairs8x16}, {pairs12x32, pairs12x16}}
			all = append(all, &half)
		}
		all = append(all, &k)
	}
	if x.HasAVX2 && x.HasFMA {
		all = append(all, &kernel{name: "avx2", nr: 16, step: 3, vec: true,
			run: [][2]func(*tile){{tile3x16, tile3x16}, {tile6x16, tile6x16}}})
	}
	return append(all, goKernel())
}
