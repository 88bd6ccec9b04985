package cpu

// fewRows is up to how many rows of x a linear reads its weight in place: packing it would cost more than the
// product. Generation lives here: a token a sequence.
const fewRows = 24

// fewestRows is up to how many of them each row of the weight is multiplied by itself, in vector lanes over the inputs: reading the
// weight is then all that takes time.
const fewestRows = 4

// fewJob is y = x Wᵀ + bias for few rows, computed as yᵀ = W xᵀ: the weight's rows are the ones that tiles read by
// broadcast, x is the panel. A task is a range of W's rows.
type fewJob struct {
	k       *kernel
	x       []float32 // instead of panels for the fewest rows; nil: panels
	y, bias []float32
	w       matrix
	panels  []float32 // of xᵀ
	form    form      // of both
	n, c, f int       // c is a number of pairs where both hold those
	step    int       // rows of a task
}

// A task has fewTask rows of W, and up to fewMost of them where x is one row, since each task begins with rows that nobody has fetched
// ahead. Several rows of x read a task's rows again, from cache.
const (
	fewTask = 48
	fewMost = 256
)

// isFew says whether linearFew computes a product.
func (d *Device) isFew(w *matrix, N, C int) bool {
	if !w.rounds || N > fewRows {
		return N <= fewRows
	}
	return d.byDots(w, N, C) || d.k.pairs != nil && C%2 == 0
}

// byDots says whether linearFew multiplies row by row.
func (d *Device) byDots(w *matrix, N, C int) bool {
	return N <= fewestRows && bool(d.vec) && C%8 == 0 && (w.f != nil || w.h != nil)
}

// linearFew sets y [N, F] = x [N, C] Wᵀ + bias, which may be nil.
func (d *Device) linearFew(y, x []float32, w matrix, bias []float32, N, C, F int) {
	K, f := C, asFloats
	if w.rounds {
		if !d.byDots(&w, N, C) {
			K, f = C/2, pairs
		}
		x = d.round(x, C, N, C, f)
	}
	if d.byDots(&w, N, C) {
		step := fewTask
		if N == 1 {
			step = min(max(4*blocks(F, 4*wantedTasks), fewTask), fewMost)
		}
		d.few = fewJob{d.k, x, y, bias, w, nil, f, N, C, F, step}
		d.pool.do(&d.few, blocks(F, step))
		return
	}
	nr := d.k.nr
	panels := d.mem.take(blocks(N, nr) * nr * K)
	src := source{matrix{f: x}, 0, 1, K, 1}
	for c := 0; c < N; c += nr {
		d.vec.packPanel(d.pool.workers[0], panels[c*K:][:nr*K], &src, nr, K, c, N)
	}
	d.few = fewJob{d.k, nil, y, bias, w, panels, f, N, K, F, fewTask}
	d.pool.do(&d.few, blocks(F, fewTask))
}

func (j *fewJob) task(w *worker, i int) {
	f0 := i * j.step
	rows := min(j.step, j.f-f0)
	if j.x != nil {
		j.dots(f0, rows)
		return
	}
	weights := view{nil, j.c, 1}
	if j.w.f != nil {
		weights.data = j.w.f[f0*j.c:]
	} else if j.form == pairs {
		weights.data = asPairs(j.w.h)[f0*j.c:]
	} else {
		weights.data = w.buf(scratchFewW, rows*j.c)
		j.w.decode(weights.data, f0*j.c)
	}
	out := w.buf(scratchFew, rows*j.n)
	w.terms[0] = term{a: weights, k: j.c, packed: j.panels, form: j.form, to: j.n}
	w.product = product{c: out, ldc: j.n, cols: j.n, terms: w.terms[:1]}
	j.k.rows(w, &w.product, 0, rows, 0, j.n)
	for n := range j.n {
		line := j.y[n*j.f+f0:][:rows]
		for f := range line {
			line[f] = out[f*j.n+n]
			if j.bias != nil {
				line[f] += j.bias[f0+f]
			}
		}
	}
}

// dots sets outputs [f0, f0+rows) of each row of x.
func (j *fewJob) dots(f0, rows int) {
	for n := range j.n {
		out, x := j.y[n*j.f+f0:][:rows], j.x[n*j.c:][:j.c]
		if j.w.f != nil {
			vector(true).dots(out, x, j.w.f[f0*j.c:][:rows*j.c])
		} else {
			vector(true).dotsHalf(out, x, j.w.h[f0*j.c:][:rows*j.c])
		}
		if j.bias != nil {
			vector(true).add(out, out, j.bias[f0:][:rows])
		}
	}
}
