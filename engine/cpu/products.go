package cpu

// A job of products is built by begin, product and term, then run. The slices are the device's own and are used
// again, so that nothing is allocated.

// productsJob computes products that share their rows: task i is a range of rows of all of them, and of columns where
// there is one product with few rows.
type productsJob struct {
	k          *kernel
	products   []product
	rows       int
	step, high int // columns and rows of a task
	down       int // tasks that lie below each other
}

func (d *Device) begin() {
	d.products.products = d.products.products[:0]
	d.packs.terms = d.packs.terms[:0]
}

// product adds a product to the job: c's rows are ldc apart, of which cols values are set.
func (d *Device) product(c []float32, ldc, cols int) *product {
	j := &d.products
	if len(j.products) < cap(j.products) {
		j.products = j.products[:len(j.products)+1]
	} else {
		j.products = append(j.products, product{})
	}
	p := &j.products[len(j.products)-1]
	*p = product{c: c, ldc: ldc, cols: cols, terms: p.terms[:0]}
	return p
}

// term adds a·b to a product, b to be packed before the job runs.
func (d *Device) term(p *product, a view, k int, b source, from, to int) {
	packed := d.packs.add(&d.mem, factor{source: b}, k, from, to)
	p.terms = append(p.terms, term{a: a, k: k, packed: packed, from: from, to: to})
}

// weightTerm is term for a frozen weight b and the first k of each lda values of a, which has so many rows. A weight that rounds its other operand has
// that done now.
func (d *Device) weightTerm(p *product, a []float32, lda, rows, k int, b source, from, to int) {
	t := d.rounded(a, lda, rows, k, b)
	t.packed, t.from, t.to = d.packs.add(&d.mem, t.src, t.k, from, to), from, to
	p.terms = append(p.terms, t)
}

// wideTerm is weightTerm with b to be packed by runWide's tasks. It must be the first term and spans all columns.
func (d *Device) wideTerm(p *product, a []float32, lda, rows, k int, b source) {
	t := d.rounded(a, lda, rows, k, b)
	t.wide, t.to = true, p.cols
	p.terms = append(p.terms, t)
}

// wideDepth is how much of k runWide's tasks should have at a time, so that that part of A stays in the last-level cache while
// all columns are computed.
func (d *Device) wideDepth(rows int) int { return max(d.limits.near/max(rows, 1)/depth, 1) * depth }

// runWide computes the one product of the job: a task is some columns, which it packs, and all rows or a large part of them.
func (d *Device) runWide(rows int) {
	d.pool.do(&d.packs, d.packs.tasks())
	j := &d.products
	panels := blocks(j.products[0].cols, j.k.nr)
	step := min(max(panels/wantedTasks, 2), 6)
	across := blocks(panels, step)
	down := max(min(wantedTasks/across, rows/512), 1)
	j.rows, j.high, j.step = rows, blocks(blocks(rows, down), 12)*12, step*j.k.nr
	j.down = blocks(rows, j.high)
	d.pool.do(j, j.down*across)
}

// run packs, then computes all products of the job, which have so many rows.
func (d *Device) run(rows int) {
	d.pool.do(&d.packs, d.packs.tasks())
	d.multiply(rows)
}

func (d *Device) multiply(rows int) {
	j := &d.products
	cols := 0
	for i := range j.products {
		cols = max(cols, j.products[i].cols)
	}
	j.rows, j.high = rows, taskRows(rows)
	j.down, j.step = blocks(rows, j.high), cols
	if j.down < wantedTasks && len(j.products) == 1 {
		across := wantedTasks / max(j.down, 1)
		j.step = max(blocks(blocks(cols, j.k.nr), across), 2) * j.k.nr
	}
	d.pool.do(j, j.down*blocks(cols, max(j.step, 1)))
}

// wantedTasks is how many tasks are enough to keep the threads of any usual machine busy. It must not depend on the
// machine: tasks are where sums are cut.
const wantedTasks = 32

// taskRows cuts rows into about wantedTasks tasks of at least 48 rows, in whole tiles of every kernel.
func taskRows(rows int) int {
	return max(48, blocks(blocks(rows, wantedTasks), 12)*12)
}

func (j *productsJob) task(w *worker, i int) {
	r0, c0 := i%j.down*j.high, i/j.down*j.step
	for n := range j.products {
		p := &j.products[n]
		j.k.rows(w, p, r0, min(r0+j.high, j.rows), c0, min(c0+j.step, p.cols))
	}
}
