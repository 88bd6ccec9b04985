package cpu

import "errors"

// This file multiplies bfloat16 pairs in the tile registers of AMX: eight of 16 rows of 64 bytes, of which four hold sums, two
// rows of A and two columns of B. A block is up to 32 × 32 values of C.
//
// TDPBF16PS does not add in the order of VDPBF16PS. For each value of C it sums 16 pairs of k from zero, even ones and odd ones
// apart, each as fused multiply-adds over k rising; then both sums are added, and then that to C. So a kernel with blocks gives
// other last bits than one without, and is used only where it is asked for by name (ADR 25).

// AMX is the name of the kernel with blocks.
const AMX = "amx-bf16"

var errNoAMX = errors.New("this processor has no AMX-BF16 (Intel's Xeon has it from Sapphire Rapids on)")

const (
	blockRows  = 32 // rows of a block
	blockPairs = 16 // pairs of k in a tile register: where sums are cut
)

// blockCall is one call of a kernel's blocks: C[rows, cols] += Σ_k A[row,k]·B[k,col] for some panels of B beside each other. Assembly
// reads the fields by name; strides are in bytes.
type blockCall struct {
	config  tileConfig
	a, aLow *float32 // rows of pairs; those from the 16th on
	b       *float32 // a panel: rows of 32 pairs
	c, cLow *float32
	lda     int
	ldb     int
	ldbPart int // of blockPairs rows of B
	ldc     int
	parts   int // of k: what config says of them, at least 1
	panels  int // at least 1
	next    int // from panel to panel of B
}

// tileConfig is what LDTILECFG reads: how many rows each tile register has, and how many bytes a row.
type tileConfig struct {
	palette, start uint8
	_              [14]uint8
	bytes          [16]uint16
	rows           [16]uint8
}

// The tile registers by what they hold: four blocks of sums, the upper and lower rows of A, the left and right columns of B.
const (
	tileA = 4
	tileB = 6
)

// shape sets the tile registers for so many rows and columns of C, of which the upper left ones are 16 where there are more, and
// so many pairs of k.
func (t *tileConfig) shape(rows, cols, pairs int) {
	*t = tileConfig{palette: 1}
	high := [2]int{min(rows, 16), max(rows-16, 0)}
	wide := [2]int{min(cols, 16), max(cols-16, 0)}
	for i := range 2 {
		for j := range 2 {
			t.set(2*i+j, high[i], wide[j])
		}
		t.set(tileA+i, high[i], pairs)
		if wide[i] > 0 {
			t.set(tileB+i, pairs, wide[i])
		}
	}
}

// set says how many rows and values of 4 bytes a register has; none where one of both is zero.
func (t *tileConfig) set(register, rows, values int) {
	if rows > 0 && values > 0 {
		t.rows[register], t.bytes[register] = uint8(rows), uint16(4*values)
	}
}

// blocked runs the pieces for all rows, a block's rows at a time: pairs in tile registers, floats as ever.
func (k *kernel) blocked(w *worker, p *product, pieces []piece, first bool, r0, r1, c0, c1 int) {
	for r := r0; r < r1; r += blockRows {
		end := min(r+blockRows, r1)
		for i := range pieces {
			pc := pieces[i]
			pc.a.data = pc.a.data[(r-r0)*pc.a.rs:]
			if p.terms[pc.term].form == pairs {
				k.blockStrip(w, p, &pc, first && i == 0, r, end, c0, c1)
				continue
			}
			one := [1]piece{pc}
			k.tiled(w, p, one[:], first && i == 0, r, end, c0, c1, true)
		}
	}
}

// blockStrip runs one piece of pairs for rows [r, end), at most blockRows. The piece's A begins at row r and has no stride from k to k,
// and its B is packed: so Device.rounded makes them.
func (k *kernel) blockStrip(w *worker, p *product, pc *piece, first bool, r, end, c0, c1 int) {
	t := &p.terms[pc.term]
	from, to := max(c0, t.from/k.nr*k.nr), min(c1, t.to)
	if first && !p.add {
		p.begin(r, end, c0, c1)
	}
	b := &w.blocks
	b.next = k.nr * 4 * t.k
	if t.wide {
		b.next = k.nr * 4 * (pc.k1 - pc.k0)
	}
	for c := from; c < to; {
		cols := min(k.nr, to-c)
		b.panels = max((to-c)/k.nr, 1)
		b.c, b.ldc = &p.c[r*p.ldc+c], p.ldc*4
		b.b, b.ldb = k.panel(w, t, pc, c, c0, cols)
		b.lda = pc.a.rs * 4
		k.blockPieces(b, p, pc, r, end, c, cols)
		c += b.panels * cols
	}
}

// blockPieces runs a block's pairs of k: whole tile registers of them, then those that are left.
func (k *kernel) blockPieces(b *blockCall, p *product, pc *piece, r, end, c, cols int) {
	rows, n := end-r, pc.k1-pc.k0
	low := 0
	if rows > 16 {
		low = 16
	}
	run := k.blocks[low/16][max(cols-1, 0)/16]
	b.ldbPart, b.cLow = blockPairs*b.ldb, &p.c[(r+low)*p.ldc+c]
	panel := floats(b.b, n*b.ldb/4)
	for at, parts := 0, n/blockPairs; at < n; at, parts = at+parts*blockPairs, 1 {
		deep := blockPairs
		if parts == 0 {
			parts = 1
		}
		deep = min(deep, n-at)
		b.parts = parts
		b.config.shape(rows, cols, deep)
		b.a, b.aLow, b.b = &pc.a.data[at], &pc.a.data[low*pc.a.rs+at], &panel[at*b.ldb/4]
		run(b)
	}
}

// begin sets the values that are added to: to the bias, or to zero.
func (p *product) begin(r0, r1, c0, c1 int) {
	for r := r0; r < r1; r++ {
		line := p.c[r*p.ldc:][c0:c1]
		if p.bias == nil {
			clear(line)
		} else {
			copy(line, p.bias[c0:c1])
		}
	}
}
