package cpu

//go:noescape
func fmaNEON(n int)

//go:noescape
func readNEON(x *float32, n int)

// fma is a loop of multiply-adds, and how many operations each of its turns makes; nil for the kernel in Go.
func (k *kernel) fma() (loop func(n int), work int) {
	if k.name == "neon" {
		return fmaNEON, 24 * 4 * 2
	}
	return nil, 0
}

// pairFMA is nil: no kernel has pairs here.
func (k *kernel) pairFMA() (loop func(n int), work int) { return nil, 0 }

func readAll(x []float32) {
	if n := len(x) &^ 31; n > 0 {
		readNEON(&x[0], n)
	}
}
