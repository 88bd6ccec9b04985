package cpu

//go:noescape
func fma512(n int)

//go:noescape
func fma256(n int)

//go:noescape
func pairs512(n int)

//go:noescape
func readAVX(x *float32, n int)

// fma is a loop of multiply-adds, and how many operations each of its turns makes; nil for the kernel in Go.
func (k *kernel) fma() (loop func(n int), work int) {
	switch k.name {
	case AMX, "avx512-bf16", "avx512":
		return fma512, 24 * 16 * 2
	case "avx2":
		return fma256, 12 * 8 * 2
	}
	return nil, 0
}

// pairFMA is the same of bfloat16 pairs; nil for kernels without an instruction for them.
func (k *kernel) pairFMA() (loop func(n int), work int) {
	switch {
	case k.blocks != nil:
		return peakBlocks, 4 * 16 * 16 * blockPairs * 2 * 2
	case k.pairs == nil:
		return nil, 0
	}
	return pairs512, 24 * 32 * 2
}

func readAll(x []float32) {
	if n := len(x) &^ 63; n > 0 {
		readAVX(&x[0], n)
	}
}
