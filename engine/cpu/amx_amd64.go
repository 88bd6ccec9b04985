package cpu

//go:noescape
func block32x32(b *blockCall)

//go:noescape
func block32x16(b *blockCall)

//go:noescape
func block16x32(b *blockCall)

//go:noescape
func block16x16(b *blockCall)

//go:noescape
func peakAMX(n int, config *tileConfig)

// withBlocks is a kernel of pairs of AVX-512 with its products in the tile registers of AMX.
func (k kernel) withBlocks() *kernel {
	k.name = "amx-bf16"
	k.blocks = &[2][2]func(*blockCall){{block16x16, block16x32}, {block32x16, block32x32}}
	return &k
}

// peakBlocks multiplies whole tile registers n times.
func peakBlocks(n int) {
	var t tileConfig
	t.shape(32, 32, blockPairs)
	peakAMX(n, &t)
}
