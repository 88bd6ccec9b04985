package cpu

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
)

// This file tries the blocks of AMX on the machine that shall train with them, against the formula, bit for bit (ADR 25). It takes
// some 0.1 s, as estimated, once for each device that is opened with them.

// processor is what the check needs to know of the system.
type processor struct {
	share    func() (undo func(), err error) // keeps the calling thread, and all that call it, on one processor
	switches func() int64                    // how often the calling thread was taken off it
}

// checkBlocks says where the kernel's blocks differ from the formula: each function alone; then blocks of so many parts and panels on
// two threads that share a processor, until each thread was taken off it in the midst of them: the system must have put tile
// registers aside and brought them back. After checkRounds it is content without having seen that.
func (k *kernel) checkBlocks(parts, panels int, system processor) error {
	for seed, s := range [][3]int{{13, 9, 80}, {16, 31, 80}, {27, 16, 80}, {32, 32, 80}, {31, 50, 34}, {1, 1, 2}} {
		if err := k.checkBlock(uint64(seed), s[0], s[1], s[2]); err != nil {
			return err
		}
	}
	var both sync.WaitGroup
	var found [2]error
	begin := make(chan struct{})
	for i := range found {
		l := newLongBlock(uint64(i), parts, panels)
		both.Go(func() {
			<-begin
			found[i] = l.run(k.blocks[1][1], system)
		})
	}
	close(begin)
	both.Wait()
	if err := errors.Join(found[:]...); err != nil {
		return fmt.Errorf("beside another thread on the same processor: %w", err)
	}
	return nil
}

const checkRounds = 8

// checkBlock compares one product of rows × n and n × cols bfloat16 numbers.
func (k *kernel) checkBlock(seed uint64, rows, cols, n int) error {
	rng := rand.New(rand.NewPCG(25, seed))
	panels := blocks(cols, k.nr)
	a, b, c := halves(rng, rows*n), halves(rng, n*panels*k.nr), make([]float32, rows*cols)
	packed := make([]float32, 0, len(b)/2)
	for p := range panels {
		for i := 0; i < n; i += 2 {
			for j := range k.nr {
				packed = append(packed, pair(b[(p*k.nr+j)*n+i], b[(p*k.nr+j)*n+i+1]))
			}
		}
	}
	p := &product{c: c, ldc: cols, cols: cols, terms: []term{{k: n / 2, packed: packed, form: pairs, to: cols}}}
	pc := &piece{k1: n / 2, a: view{asPairs(a), n / 2, 1}}
	k.blockStrip(&worker{}, p, pc, true, 0, rows, 0, cols)
	for i, got := range c {
		row, col := a[i/cols*n:][:n], b[i%cols*n:][:n]
		if want := blockSum(0, row, col); math.Float32bits(got) != math.Float32bits(want) {
			return fmt.Errorf("of %d × %d × %d numbers, row %d, column %d is %g instead of %g", rows, n, cols, i/cols, i%cols, got, want)
		}
	}
	return nil
}

// longBlock is one call that takes some milliseconds. Its rows of A lie upon each other, 64 bytes apart, so that each part has other ones,
// all panels have the same B, and so the same sums.
type longBlock struct {
	call blockCall
	a, b []float32
	c    []float32 // [blockRows, panels·32]
	want []float32 // [blockRows, 32]: a panel
}

func newLongBlock(seed uint64, parts, panels int) *longBlock {
	const cols, period, deep = 32, 32, 2 * blockPairs
	rng := rand.New(rand.NewPCG(26, seed))
	rows, b := halves(rng, period*deep), halves(rng, cols*deep) // of A; columns of B
	l := &longBlock{b: make([]float32, blockPairs*cols), c: make([]float32, blockRows*panels*cols), want: make([]float32, blockRows*cols)}
	for range blocks(parts+blockRows, period) {
		l.a = append(l.a, asPairs(rows)...)
	}
	for i := range l.b {
		l.b[i] = pair(b[i%cols*deep+i/cols*2], b[i%cols*deep+i/cols*2+1])
	}
	var sums [period * cols]float32 // of each row of A with each column
	for i := range sums {
		sums[i] = blockSum(0, rows[i/cols*deep:][:deep], b[i%cols*deep:][:deep])
	}
	for i := range l.want {
		for p := range parts {
			l.want[i] = fusedToZero(1, sums[(i/cols+p)%period*cols+i%cols], l.want[i])
		}
	}
	l.call = blockCall{lda: 4 * blockPairs, ldb: 4 * cols, ldc: 4 * panels * cols, parts: parts, panels: panels}
	l.call.config.shape(blockRows, cols, blockPairs)
	l.call.a, l.call.aLow, l.call.b = &l.a[0], &l.a[16*blockPairs], &l.b[0]
	l.call.c, l.call.cLow = &l.c[0], &l.c[16*panels*cols]
	return l
}

// run calls the block until the thread was taken off its processor meanwhile, and compares each time.
func (l *longBlock) run(block func(*blockCall), system processor) error {
	undo, err := system.share()
	if err != nil {
		return err
	}
	defer undo()
	width := len(l.c) / blockRows
	for range checkRounds {
		clear(l.c)
		before := system.switches()
		block(&l.call)
		switched := system.switches() > before
		for i, got := range l.c {
			row, col := i/width, i%width
			if want := l.want[row*32+col%32]; math.Float32bits(got) != math.Float32bits(want) {
				return fmt.Errorf("row %d, column %d of %d is %g instead of %g", row, col, width, got, want)
			}
		}
		if switched {
			break
		}
	}
	return nil
}

// blockSum is c + Σ a·b in the order of amx.go.
func blockSum(c float32, a, b []uint16) float32 {
	for from := 0; from < len(a); from += 2 * blockPairs {
		var sums [2]float32
		for k := from; k < min(from+2*blockPairs, len(a)); k++ {
			sums[k%2] = fusedToZero(unbf16(a[k]), unbf16(b[k]), sums[k%2])
		}
		c = fusedToZero(1, fusedToZero(1, sums[0], sums[1]), c)
	}
	return c
}

// fusedToZero is a·b + c rounded once to float32; operands and results below 2^-126 are zero.
func fusedToZero(a, b, c float32) float32 {
	a, b, c = flushed(a), flushed(b), flushed(c)
	p := float64(a) * float64(b)
	s := p + float64(c)
	back := s - p
	if lost := (p - (s - back)) + (float64(c) - back); lost != 0 && math.Float64bits(s)&1 == 0 {
		// To the odd neighbour on the side of what was lost, so that rounding again is rounding once.
		if (lost > 0) == (s > 0) {
			s = math.Float64frombits(math.Float64bits(s) + 1)
		} else {
			s = math.Float64frombits(math.Float64bits(s) - 1)
		}
	}
	return flushed(float32(s))
}

func flushed(v float32) float32 {
	if b := math.Float32bits(v); b&0x7f800000 == 0 {
		return math.Float32frombits(b & 0x80000000)
	}
	return v
}

// halves is n bfloat16 numbers of some orders of magnitude.
func halves(rng *rand.Rand, n int) []uint16 {
	v := make([]uint16, n)
	for i := range v {
		v[i] = half(float32(rng.NormFloat64() * math.Exp(2*rng.NormFloat64())))
	}
	return v
}
