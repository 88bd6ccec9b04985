package cpu

// source is a matrix B [k, columns] to be packed: value (k, j) stands at k*rs + j*cs, and one of the strides is 1.
type source struct {
	m      matrix
	at     int // offset of the first value
	rs, cs int
	scale  float32
}

// packJob packs the B of several terms into panels, a panel a task.
type packJob struct {
	vec   vector
	nr    int
	terms []packTerm
}

type packTerm struct {
	dst      []float32
	src      factor
	k        int
	from, to int // columns of C
	first    int // number of the first task
}

// add plans one term and returns its panels, to be filled by the job.
func (j *packJob) add(mem *arena, src factor, k, from, to int) []float32 {
	first := j.tasks()
	panels := (to+j.nr-1)/j.nr - from/j.nr
	dst := mem.take(panels * k * j.nr)
	j.terms = append(j.terms, packTerm{dst, src, k, from, to, first})
	return dst
}

func (j *packJob) tasks() int {
	if len(j.terms) == 0 {
		return 0
	}
	t := &j.terms[len(j.terms)-1]
	return t.first + (t.to+j.nr-1)/j.nr - t.from/j.nr
}

func (j *packJob) task(w *worker, i int) {
	n := len(j.terms) - 1
	for j.terms[n].first > i {
		n--
	}
	t := &j.terms[n]
	p := i - t.first
	left := (t.from/j.nr + p) * j.nr // the panel's first column of C
	j.vec.pack(w, t.dst[p*t.k*j.nr:][:t.k*j.nr], &t.src, j.nr, t.k, left-t.from, t.to-t.from)
}

// packPanel fills one panel [k][nr] with columns first … first+nr-1 of B; those outside [0, cols) become zero.
func (v vector) packPanel(w *worker, dst []float32, s *source, nr, k, first, cols int) {
	lo, hi := max(0, -first), min(nr, cols-first)
	if lo > 0 || hi < nr {
		clear(dst)
	}
	if lo >= hi {
		return
	}
	switch {
	case s.cs != 1:
		from, stride := s.transposed(w, first+lo, hi-lo, k)
		v.transpose(dst[lo:], from, hi-lo, k, stride, nr)
	case v.copyPanel(dst, s, nr, k, first, hi-lo):
	default:
		for i := range k {
			s.m.decode(dst[i*nr+lo:i*nr+hi], s.at+i*s.rs+first+lo)
		}
	}
	if s.scale != 1 {
		v.scale(dst, dst, s.scale)
	}
}

// transposed is n columns of B, each k values that lie together, from column first on, as float32.
func (s *source) transposed(w *worker, first, n, k int) (from []float32, stride int) {
	at := s.at + first*s.cs
	if s.m.f != nil {
		return s.m.f[at:], s.cs
	}
	buf := w.buf(scratchPack, n*k)
	for j := range n {
		s.m.decode(buf[j*k:][:k], at+j*s.cs)
	}
	return buf, k
}

// arena lends scratch memory for the time of one operation. What does not fit is allocated, and the next reset makes
// the block as large as was needed, so that repeated steps allocate nothing.
type arena struct {
	block      allocation[float32]
	used, need int

	rehearsing bool // nothing is computed: what is lent beside the block is kept in lent, need is that of all operations
	lent       []allocation[float32]
}

func (a *arena) reset() {
	if a.rehearsing {
		a.used = 0
		return
	}
	if a.need > len(a.block.values) {
		a.grow(a.need)
	}
	a.used, a.need = 0, 0
}

// grow makes the block hold n values. Where the system does not give them, what is lent comes from Go's heap, which ends the
// program in the runtime's own words when it cannot either.
func (a *arena) grow(n int) {
	a.block.free()
	a.block, _ = allocate[float32](n)
}

// take lends n values; their content is undefined.
func (a *arena) take(n int) []float32 {
	from := a.used
	a.used += (n + 15) &^ 15 // whole cache lines
	a.need = max(a.need, a.used)
	if a.used > len(a.block.values) {
		if a.rehearsing {
			lent, err := allocate[float32](n)
			if err == nil {
				a.lent = append(a.lent, lent)
				return lent.values
			}
		}
		return make([]float32, n)
	}
	return a.block.values[from:][:n:n]
}

// giveBack ends the loan of all that was taken since used had that value.
func (a *arena) giveBack(used int) { a.used = used }
