package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// PiSSA begins an adapter at the largest r singular values of its weight instead of at zero, and takes them out of the
// weight (Meng et al. 2024, arXiv 2404.02948, equations 2 to 4). With W = U S Vᵀ and a scale s:
//
//	A = √(S_r/s) V_rᵀ    B = U_r √(S_r/s)    W ← W − s B A
//
// Singular vectors are known up to their common sign: here the entry of A's row that is largest in size is positive, the
// first if there are several. PEFT leaves the sign to LAPACK; training is the same but for it.
//
// The weight is changed in memory only. SaveAdapter writes what was learned as an ordinary adapter of twice the rank for
// the unchanged weight, as PEFT's conversion does: B A − B₀ A₀ = [B, −B₀] [A; A₀].

// checkPiSSA refuses, before anything is allocated, what cannot begin so.
func (c Config) checkPiSSA(rank map[string]int, nf4 bool) error {
	if nf4 || c.Quantised != nil {
		return errors.New("init: pissa changes the weights, which 4-bit ones cannot be: use kaiming, or leave the quantisation out")
	}
	var wrong []error
	for _, mod := range c.allModules() {
		if r, most := rank[mod.fullName], min(mod.in, mod.out); r > most {
			wrong = append(wrong, fmt.Errorf("init: pissa has no more than %d singular values of %s, not the %d of its rank: lower rank, or set rank_pattern",
				most, mod.fullName, r))
		}
	}
	return errors.Join(wrong...)
}

// beginPiSSA decomposes the weight of every adapter's module, as many at once as the device has threads. The numbers do not
// depend on how many.
func (m *Model) beginPiSSA(ctx context.Context) error {
	var device sync.Mutex // guards the device, which takes one caller at a time
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce(m.dev.Info().Threads))
	for i := range m.adapters {
		a := &m.adapters[i]
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			weight := tensor{a.fullName + ".weight", []int{a.out, a.in}}
			w := make([]float32, a.out*a.in)
			device.Lock()
			m.fetch(weight, w)
			device.Unlock()
			p, err := decompose(w, a.out, a.in, a.rank, a.scale)
			if err != nil {
				return fmt.Errorf("init: pissa of %s: %w", a.fullName, err)
			}
			device.Lock()
			defer device.Unlock()
			m.store(weight, w)
			m.dev.Write(a.a, p.a)
			m.dev.Write(a.b, p.b)
			a.first = p
			return m.dev.Err()
		})
	}
	return group.Wait()
}

// atOnce is how many decompositions run beside each other: those of a device that is not the processor's have no threads of its own.
func atOnce(threads int) int {
	if threads > 0 {
		return threads
	}
	return runtime.GOMAXPROCS(0)
}

// PiSSATime says how long PiSSA's beginning takes on a model of shape c: one small weight is decomposed, and its time scaled by
// what the adapted ones need, the Gram matrix and its eigenvectors, on all of the device's threads (Info says how many).
func PiSSATime(c Config, l LoRA, threads int, now func() time.Time) (time.Duration, error) {
	rank, err := l.ranks(c)
	if err != nil {
		return 0, err
	}
	work := func(out, in int) float64 {
		n, long := float64(min(out, in)), float64(max(out, in))
		return n*n*long + 4*n*n*n // as measured from 128 to 896 wide; from 2,048 on the eigenvectors leave the cache and take twice that
	}
	const side = 256
	w := make([]float32, side*side)
	for i := range w {
		w[i] = float32(normal(1, i))
	}
	took := time.Hour
	for range 3 { // what else the machine does only makes it longer
		began := now()
		if _, err := decompose(w, side, side, 8, 1); err != nil {
			return 0, err
		}
		took = min(took, now().Sub(began))
	}
	all := 0.0
	for _, mod := range c.allModules() {
		if _, adapted := rank[mod.fullName]; adapted {
			all += work(mod.out, mod.in)
		}
	}
	return time.Duration(float64(took) * all / work(side, side) / float64(atOnce(threads))), nil
}

// principal is an adapter's A [rank, in] and B [out, rank] as PiSSA begins it.
type principal struct{ a, b []float32 }

// decompose takes the largest singular values out of w [out, in]. They come from the eigenvectors of the smaller of WᵀW
// and WWᵀ in float64, which costs a fraction of all singular vectors.
func decompose(w []float32, out, in, rank int, scale float64) (*principal, error) {
	wide := make([]float64, len(w))
	for i, v := range w {
		if wide[i] = float64(v); math.IsNaN(wide[i]) || math.IsInf(wide[i], 0) {
			return nil, fmt.Errorf("its weight holds %v", v)
		}
	}
	full := mat.NewDense(out, in, wide)
	var from mat.Matrix = full // columns of its right side are looked for
	if in > out {
		from = full.T()
	}
	vectors, ok := eigenvectors(from)
	if !ok {
		return nil, errors.New("its singular values were not found")
	}
	var other mat.Dense
	n := min(in, out)
	var chosen mat.Dense
	chosen.CloneFrom(vectors.Slice(0, n, n-rank, n))
	other.Mul(from, &chosen) // each column has the length of its singular value
	p := &principal{make([]float32, rank*in), make([]float32, out*rank)}
	for k := range rank {
		column := rank - 1 - k
		v, u := mat.Col(nil, column, &chosen), mat.Col(nil, column, &other)
		size := length(u)
		if size == 0 {
			continue // the weight has a lower rank: zeros are all that is left
		}
		root := math.Sqrt(size / scale)
		stretchBy(v, root)
		stretchBy(u, root/size)
		if in > out {
			v, u = u, v
		}
		p.set(k, rank, v, u)
	}
	p.takeFrom(w, in, rank, scale)
	return p, nil
}

// eigenvectors are those of mᵀm, the columns of a square matrix, by rising eigenvalues; false where they were not found.
func eigenvectors(m mat.Matrix) (*mat.Dense, bool) {
	_, n := m.Dims()
	// Rows of a power of two would put each column into few sets of the cache, and most of the work goes along columns: it took
	// six times as long. So rows are an odd number of cache lines apart.
	stride := (n+7)/8*8 | 8
	gram := mat.NewSymDense(n, nil)
	gram.SymOuterK(1, m.T())
	apart := blas64.Symmetric{N: n, Stride: stride, Data: make([]float64, n*stride), Uplo: blas.Upper}
	for i := range n {
		copy(apart.Data[i*stride+i:i*stride+n], gram.RawSymmetric().Data[i*n+i:(i+1)*n])
	}
	values, work := make([]float64, n), make([]float64, 1)
	lapack64.Syev(lapack.EVCompute, apart, values, work, -1)
	work = make([]float64, int(work[0]))
	if !lapack64.Syev(lapack.EVCompute, apart, values, work, len(work)) {
		return nil, false
	}
	var vectors mat.Dense
	vectors.SetRawMatrix(blas64.General{Rows: n, Cols: n, Stride: stride, Data: apart.Data})
	return &vectors, true
}

func length(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}

func stretchBy(v []float64, factor float64) {
	for i := range v {
		v[i] *= factor
	}
}

// set writes row k of A and column k of B, with the sign that the largest entry of the row shall have.
func (p *principal) set(k, rank int, row, column []float64) {
	largest, sign := 0.0, 1.0
	for _, v := range row {
		if math.Abs(v) > largest {
			largest, sign = math.Abs(v), math.Copysign(1, v)
		}
	}
	for j, v := range row {
		p.a[k*len(row)+j] = float32(sign * v)
	}
	for i, v := range column {
		p.b[i*rank+k] = float32(sign * v)
	}
}

// takeFrom subtracts scale·B A, as float32 holds A and B, so that weight and adapter together are the weight as it was but
// for one rounding.
func (p *principal) takeFrom(w []float32, in, rank int, scale float64) {
	delta := make([]float64, in)
	for i := range len(w) / in {
		clear(delta)
		for k, b := range p.b[i*rank : (i+1)*rank] {
			for j, a := range p.a[k*in : (k+1)*in] {
				delta[j] += float64(b) * float64(a)
			}
		}
		for j, v := range delta {
			w[i*in+j] = float32(float64(w[i*in+j]) - scale*v)
		}
	}
}

// apart makes, of A and B as they are and as they began, the adapter of twice the rank for the unchanged weight.
func (p *principal) apart(a, b []float32, rank int) (wideA, wideB []float32) {
	for i := range len(b) / rank {
		wideB = append(wideB, b[i*rank:(i+1)*rank]...)
		for _, v := range p.b[i*rank : (i+1)*rank] {
			wideB = append(wideB, -v)
		}
	}
	return slices.Concat(a, p.a), wideB
}

// twice is what adapter_config.json says of such adapters: every rank doubled, every scale as it was.
func (l LoRA) twice() LoRA {
	factor := 2.0
	if l.RSLoRA {
		factor = math.Sqrt2
	}
	l.Rank, l.Alpha, l.Init = 2*l.Rank, factor*l.Alpha, ""
	l.RankPattern, l.AlphaPattern = slices.Clone(l.RankPattern), slices.Clone(l.AlphaPattern)
	for i := range l.RankPattern {
		l.RankPattern[i].Value *= 2
	}
	for i := range l.AlphaPattern {
		l.AlphaPattern[i].Value *= factor
	}
	return l
}
