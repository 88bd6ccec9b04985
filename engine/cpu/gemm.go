package cpu

import "slices"

// This file multiplies matrices: product.rows computes a range of rows and columns of
//
//	C (= or +=) bias + Σ_terms A·B
//
// on one thread. B is cut into panels, kernel.nr columns wide, in which the values of one k lie together (packed
// by pack.go, or used where they lie). A is read where it lies, by broadcast. The order of sums of an element is that
// of the terms and of k, cut where the shape says; it does not depend on who computes which rows.

// view is a strided matrix: element (i, j) stands at data[i*rs+j*cs].
type view struct {
	data   []float32
	rs, cs int
}

// term is one summand A·B of a product: A [M, K], B [K, columns]. Columns outside [from, to) get nothing.
type term struct {
	a        view
	k        int
	b        view      // B where it lies, b.cs = 1; unused when packed is set
	packed   []float32 // B's panels from panel from/nr on, each [K][nr]
	wide     bool      // whoever computes some columns packs them, as much as its cache holds at a time: for large weights
	src      factor    // B of a wide term
	form     form      // what A and B hold
	from, to int       // the columns of C that the term adds to; for a B that is not packed before 0 and all
}

// product is one matrix product of a job.
type product struct {
	c     []float32
	ldc   int
	cols  int // columns of C
	add   bool
	bias  []float32 // nil, or one value a column; not with add
	terms []term
}

// How much of B one pass over rows of A uses: depth·panels values must stay in a level-2 cache, a few rows of
// A and one panel's part in level 1.
const (
	depth    = 512      // values of k
	l2Floats = 96 << 10 // 384 KiB
)

// rows computes rows [r0, r1) and columns [c0, c1) of the product; c0 is the first column of a panel.
func (k *kernel) rows(w *worker, p *product, r0, r1, c0, c1 int) {
	if r0 >= r1 || c0 >= c1 {
		return
	}
	deep := p.deep()
	group := max(1, l2Floats/(deep*k.nr)) * k.nr
	if total := p.depth(); total < deep {
		group = max(1, l2Floats/(max(total, 1)*k.nr)) * k.nr
	}
	for c := c0; c < c1; c += group {
		k.group(w, p, r0, r1, c, min(c+group, c1), deep, c == c0)
	}
}

func (p *product) depth() int {
	sum := 0
	for i := range p.terms {
		sum += p.terms[i].k
	}
	return sum
}

// piece is a range of k of one term; a is that part of A, from the first row of the group on, panels that part of a wide B.
type piece struct {
	term, k0, k1 int
	a            view
	panels       []float32
}

// deep is at how many values of k terms are cut at most.
func (p *product) deep() int {
	deep := depth
	for i := range p.terms {
		deep = max(deep, p.terms[i].form.depth())
	}
	return deep
}

// group computes columns few enough that their part of B stays in cache. Terms are cut at multiples of their form's depth, and
// small ones follow in the same pass, so that C is touched once while it is near.
// fresh says that it is the first group of its rows.
func (k *kernel) group(w *worker, p *product, r0, r1, c0, c1, deep int, fresh bool) {
	var pieces [16]piece
	n, left, first := 0, deep, true
	for t := range p.terms {
		a := p.terms[t].a
		for k0 := 0; k0 < p.terms[t].k; {
			k1 := min(k0+p.terms[t].form.depth(), p.terms[t].k)
			if n == len(pieces) || k1-k0 > left {
				k.pass(w, p, pieces[:n], first, r0, r1, c0, c1, true)
				n, left, first = 0, deep, false
			}
			pieces[n] = piece{t, k0, k1, view{a.data[r0*a.rs+k0*a.cs:], a.rs, a.cs}, nil}
			n, left = n+1, left-(k1-k0)
			k0 = k1
		}
	}
	k.pass(w, p, pieces[:n], first, r0, r1, c0, c1, fresh || !first)
}

// pass runs the pieces for all rows, a tile's rows at a time. Unless it is fresh, the last pass had the same rows and pieces.
func (k *kernel) pass(w *worker, p *product, pieces []piece, first bool, r0, r1, c0, c1 int, fresh bool) {
	k.packWide(w, p, pieces, c0, c1)
	if k.blocks != nil && slices.ContainsFunc(pieces, func(pc piece) bool { return p.terms[pc.term].form == pairs }) {
		k.blocked(w, p, pieces, first, r0, r1, c0, c1)
		return
	}
	k.tiled(w, p, pieces, first, r0, r1, c0, c1, fresh)
}

// tiled is pass once wide terms are packed.
func (k *kernel) tiled(w *worker, p *product, pieces []piece, first bool, r0, r1, c0, c1 int, fresh bool) {
	for r := r0; r < r1; {
		groups := k.height(r1-r, r1-r0)
		high := groups * k.step
		start, skip := r, 0
		if high > r1-r { // step back: rows above are computed again, not stored
			start, skip = max(r1-high, r0), high-(r1-r)
		}
		for i := range pieces {
			w.tile.a, w.tile.rs, w.tile.cs = k.gatherA(w, &pieces[i], start-r0, r1-r0, high, len(pieces) == 1, fresh)
			k.strip(w, p, &pieces[i], first && i == 0, start, skip, groups, r1, c0, c1)
		}
		r = start + high
	}
}

// packWide packs the columns of wide terms: straight from the weight into this worker's cache.
func (k *kernel) packWide(w *worker, p *product, pieces []piece, c0, c1 int) {
	size := 0
	for i := range pieces {
		if p.terms[pieces[i].term].wide {
			size += blocks(c1-c0, k.nr) * k.nr * (pieces[i].k1 - pieces[i].k0)
		}
	}
	if size == 0 {
		return
	}
	buf := w.buf(scratchWide, size)
	for i := range pieces {
		pc := &pieces[i]
		t := &p.terms[pc.term]
		if !t.wide {
			continue
		}
		n := pc.k1 - pc.k0
		from := t.src.from(pc.k0)
		pc.panels = buf[:blocks(c1-c0, k.nr)*k.nr*n]
		buf = buf[len(pc.panels):]
		for c := c0; c < c1; c += k.nr {
			vector(k.vec).pack(w, pc.panels[(c-c0)*n:][:n*k.nr], &from, k.nr, n, c, t.to)
		}
	}
}

// height chooses how many groups of rows the next tile has, for rem rows that are left of avail.
func (k *kernel) height(rem, avail int) int {
	most := len(k.run)
	if rem >= most*k.step {
		if rem > most*k.step && rem <= (most+1)*k.step && most > 2 {
			return most - 1 // two middling tiles instead of a high and a low one
		}
		return most
	}
	need := (rem + k.step - 1) / k.step
	if need*k.step <= avail {
		return need
	}
	return max(1, avail/k.step)
}

// strip runs one piece for one tile's rows, panel by panel.
func (k *kernel) strip(w *worker, p *product, pc *piece, first bool, row, skip, groups, end, c0, c1 int) {
	t := &p.terms[pc.term]
	from, to := max(c0, t.from/k.nr*k.nr), min(c1, t.to)
	wholeRow := first && !p.add // C must be set where this term has no columns too
	if wholeRow && (from > c0 || to < c1) {
		panic("cpu: the first term of a product must span its columns")
	}
	run := k.run[groups-1]
	if t.form == pairs {
		run = k.pairs[groups-1]
	}
	w.tile.ldc, w.tile.k, w.tile.add = p.ldc*4, pc.k1-pc.k0, 1
	if wholeRow {
		w.tile.add = 0
	}
	for c := from; c < to; c += k.nr {
		cols := min(k.nr, to-c)
		w.tile.b, w.tile.ldb = k.panel(w, t, pc, c, c0, cols)
		w.tile.bias = nil
		if wholeRow && p.bias != nil {
			w.tile.bias = &p.bias[c]
		}
		narrow := 0
		if cols <= k.nr/2 {
			narrow = 1
		}
		w.tile.cols = cols
		if row+groups*k.step > end {
			k.padded(w, p, row, end, c, run[narrow])
			continue
		}
		w.tile.skip = skip
		w.tile.c = &p.c[row*p.ldc+c]
		run[narrow](&w.tile)
	}
}

// The rows of a transposed A that a tile reads lie beside each other, but those of the next k far away: in few sets of the cache
// where A's width is a multiple of a power of two. Tiles of farRows rows read a copy, made once for all columns, for farTiles
// tiles at a time: so the copy takes whole lines of A.
const (
	farRows  = 12
	farTiles = 4
	farApart = 128
)

// gatherA says where a tile finds its rows of A: where the piece has them, transposed or not, unless some do not exist.
// Then those that do are copied, with zeros for the others; and those that lie far apart, where the piece is alone.
func (k *kernel) gatherA(w *worker, pc *piece, row, rows, high int, alone, fresh bool) (p *float32, rs, cs int) {
	a := pc.a
	n, have := pc.k1-pc.k0, rows-row
	if have >= high && a.rs == 1 && a.cs > farApart && high == farRows && alone && row%farRows == 0 {
		all := w.buf(scratchFar, rows/farRows*farRows*n)
		if tile := row / farRows; fresh && tile%farTiles == 0 {
			vector(k.vec).gather(all[row*n:], a.data[row:], n, a.cs, min(rows/farRows-tile, farTiles))
		}
		return &all[row*n], 4, farRows * 4
	}
	if have >= high {
		return &a.data[row*a.rs], a.rs * 4, a.cs * 4
	}
	buf := w.buf(scratchA, n*high)
	for j := range n {
		line := buf[j*high:][:high]
		clear(line[have:])
		for i := range have {
			line[i] = a.data[(row+i)*a.rs+j*a.cs]
		}
	}
	return &buf[0], 4, high * 4
}

// panel says where a tile finds its columns of B for k from pc.k0 on.
func (k *kernel) panel(w *worker, t *term, pc *piece, c, c0, cols int) (p *float32, ldb int) {
	if t.wide {
		return &pc.panels[(c-c0)*(pc.k1-pc.k0)], k.nr * 4
	}
	if t.packed != nil {
		return &t.packed[(c/k.nr-t.from/k.nr)*t.k*k.nr+pc.k0*k.nr], k.nr * 4
	}
	if cols == k.nr || (pc.k1-1)*t.b.rs+c+k.nr <= len(t.b.data) {
		// Columns beyond C's are whatever follows in memory: what they give is not stored.
		return &t.b.data[pc.k0*t.b.rs+c], t.b.rs * 4
	}
	buf := w.buf(scratchB, (pc.k1-pc.k0)*k.nr)
	for j := range pc.k1 - pc.k0 {
		line := buf[j*k.nr:][:k.nr]
		clear(line[copy(line, t.b.data[(pc.k0+j)*t.b.rs+c:][:cols]):])
	}
	return &buf[0], k.nr * 4
}

// padded runs a tile of which only the rows up to end exist: into scratch, from where they are copied.
func (k *kernel) padded(w *worker, p *product, row, end, c int, run func(*tile)) {
	t, add := &w.tile, w.tile.add
	t.c, t.ldc, t.skip, t.add = &w.edge[0], k.nr*4, 0, 0
	run(t)
	for i := range end - row {
		line, from := p.c[(row+i)*p.ldc+c:][:t.cols], w.edge[i*k.nr:]
		for j := range line {
			if add != 0 {
				line[j] += from[j]
			} else {
				line[j] = from[j]
			}
		}
	}
	t.ldc, t.add = p.ldc*4, add
}
