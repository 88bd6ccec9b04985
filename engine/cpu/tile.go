package cpu

import "unsafe"

// tile is one call of a register tile: C[rows, cols] (= or +=) bias + Σ_k A[row,k]·B[k,col], for as many
// rows as the function has and up to a panel's width of columns. Strides are in bytes. Assembly reads the
// fields by name.
type tile struct {
	c, a, b, bias *float32 // bias may be nil: zero
	ldc, ldb      int      // from row to row
	rs, cs        int      // A: from row to row, from k to k
	k             int
	cols          int // columns of C that exist
	skip          int // rows at the top that are computed but not stored
	add           int // 1: add to C
}

// kernel is one instruction set's tiles. Rows come in groups of step; run holds the functions for one,
// two, … groups, for more and for at most half of the panel's columns.
type kernel struct {
	name string
	nr   int // panel width: columns of B that lie together
	step int
	run  [][2]func(*tile)
	vec  bool // vector functions in assembly may be used
	// pairs are run's twins for pairs of bfloat16 numbers, two of k that follow each other, where there are values in A and B; nil:
	// the processor has no such instruction, and run gets the same numbers as float32.
	pairs [][2]func(*tile)
	// blocks multiply pairs in tile registers, for up to 16 rows and for more, up to 16 columns and for more; nil: pairs does.
	blocks *[2][2]func(*blockCall)
}

// goKernel is the tile in Go, for processors that have no assembly here.
func goKernel() *kernel {
	return &kernel{name: "go", nr: 8, step: 1, run: [][2]func(*tile){{tileGo, tileGo}}}
}

func tileGo(t *tile) {
	a, b, c := floats(t.a, 1+(t.k-1)*t.cs/4), floats(t.b, (t.k-1)*t.ldb/4+8), floats(t.c, t.cols)
	var s [8]float32
	if t.bias != nil {
		copy(s[:], floats(t.bias, t.cols))
	}
	for k := range t.k {
		v, row := a[k*t.cs/4], (*[8]float32)(b[k*t.ldb/4:])
		s[0] += v * row[0]
		s[1] += v * row[1]
		s[2] += v * row[2]
		s[3] += v * row[3]
		s[4] += v * row[4]
		s[5] += v * row[5]
		s[6] += v * row[6]
		s[7] += v * row[7]
	}
	for i := range c {
		if t.add != 0 {
			s[i] += c[i]
		}
		c[i] = s[i]
	}
}

func floats(p *float32, n int) []float32 { return unsafe.Slice(p, max(n, 0)) }
