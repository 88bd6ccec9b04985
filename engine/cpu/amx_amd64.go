package cpu

import (
	"fmt"
	"slices"

	"golang.org/x/sys/cpu"
)

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

// amxKernel is the kernel with products in the tile registers of AMX, or why there is none. It is only for who asks for it by name,
// because its sums have an order of their own, and it must first prove itself on this machine.
func amxKernel() (*kernel, error) {
	all := kernels()
	i := slices.IndexFunc(all, func(k *kernel) bool { return k.pairs != nil })
	if i < 0 || !cpu.X86.HasAMXTile || !cpu.X86.HasAMXBF16 {
		return nil, errNoAMX
	}
	if err := grantTiles(); err != nil {
		return nil, err
	}
	k := all[i].withBlocks()
	if err := k.checkBlocks(longParts, longPanels, thisProcessor()); err != nil {
		return nil, fmt.Errorf("AMX computes something else than its formula on this machine: %w", err)
	}
	return k, nil
}

// Half a million tile registers of A, a block of which takes longer than a thread may stay on its processor while another waits: each
// is part of four products of 16 cycles.
const (
	longParts  = 1024
	longPanels = 512
)

// withBlocks is a kernel of pairs of AVX-512 with its products in the tile registers of AMX.
func (k kernel) withBlocks() *kernel {
	k.name = AMX
	k.blocks = &[2][2]func(*blockCall){{block16x16, block16x32}, {block32x16, block32x32}}
	return &k
}

// peakBlocks multiplies whole tile registers n times.
func peakBlocks(n int) {
	var t tileConfig
	t.shape(32, 32, blockPairs)
	peakAMX(n, &t)
}
