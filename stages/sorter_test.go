package stages

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
)

func TestSorterSpills(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var want []pair
	s := newSorter(t.TempDir())
	defer s.close()
	s.limit = 100
	for i := range 5050 {
		p := pair{rng.Uint64N(50), rng.Uint64N(20), uint64(i)}
		want = append(want, p)
		if err := s.add(p); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(want, pair.compare)
	for range 2 { // it can be read again
		var got []pair
		for p, err := range s.sorted(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p)
		}
		if !slices.Equal(got, want) {
			t.Fatal("not sorted")
		}
	}
	rows := 0
	for same, err := range s.groups(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if len(same) < 2 || !slices.IsSorted(same) {
			t.Fatal(same)
		}
		rows += len(same)
	}
	if rows == 0 || rows > len(want) {
		t.Fatal(rows)
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("left in scratch: %v", left)
	}
}

func TestPairsAreSortedHoweverTheyAreSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for name, hi := range map[string]func(i int) uint64{
		"hashes": func(int) uint64 { return rng.Uint64() },
		"rows":   func(i int) uint64 { return uint64(i) },
		"equal":  func(int) uint64 { return 7 },
		"ends":   func(i int) uint64 { return -uint64(i % 2) },
	} {
		for _, n := range []int{0, 1, 2, 63, 128, 1000, 70_000} {
			pairs := make([]pair, n)
			for i := range pairs {
				pairs[i] = pair{hi(i), rng.Uint64N(3), uint64(i)}
			}
			rng.Shuffle(n, func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
			want := slices.Clone(pairs)
			slices.SortFunc(want, pair.compare)
			if sortPairs(pairs); !slices.Equal(pairs, want) {
				t.Errorf("%d %s are not sorted", n, name)
			}
		}
	}
}

func TestOrdered(t *testing.T) {
	numbers := func(n int) func(send func(int) bool) error {
		return func(send func(int) bool) error {
			for i := range n {
				if !send(i) {
					return nil
				}
			}
			return nil
		}
	}
	double := func(i int) (int, error) { return 2 * i, nil }
	var got []int
	emit := func(v int) error { got = append(got, v); return nil }
	if err := ordered(t.Context(), 4, numbers(1000), double, emit); err != nil || len(got) != 1000 || !slices.IsSorted(got) {
		t.Fatal(err, len(got))
	}
	bad := errors.New("bad")
	var worked atomic.Int64
	got = nil
	err := ordered(t.Context(), 4, numbers(1_000_000), func(i int) (int, error) {
		worked.Add(1)
		if i >= 50 {
			return 0, bad
		}
		return i, nil
	}, emit)
	if !errors.Is(err, bad) || len(got) != 50 || worked.Load() > 1000 {
		t.Fatal(err, len(got), worked.Load())
	}
	if err := ordered(t.Context(), 2, numbers(10), double, func(int) error { return bad }); !errors.Is(err, bad) {
		t.Fatal(err)
	}
	if err := ordered(t.Context(), 2, func(func(int) bool) error { return bad }, double, emit); !errors.Is(err, bad) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ordered(ctx, 2, numbers(10), double, emit); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// The estimate by MinHash lies near the true similarity, and identical shingles share every band.
func TestMinHashEstimatesSimilarity(t *testing.T) {
	near := defaultNear()
	m := newMinHasher(near)
	rng := rand.New(rand.NewPCG(5, 5))
	for range 30 {
		a := make([]byte, 0, 4000)
		for range 600 {
			a = append(a, byte('a'+rng.IntN(20)), byte('a'+rng.IntN(20)), ' ')
		}
		b := slices.Clone(a)
		for range rng.IntN(40) {
			b[3*rng.IntN(600)] = 'z'
		}
		x, _ := m.sign(string(a), 1)
		y, _ := m.sign(string(b), 2)
		truth := jaccard(shingles(appendWords(nil, string(a)), near.Shingle), shingles(appendWords(nil, string(b)), near.Shingle))
		if got := similarity(&x.bytes, &y.bytes); got < truth-0.2 || got > truth+0.2 {
			t.Errorf("estimate %.2f of %.2f", got, truth)
		}
	}
	x, _ := m.sign("The same words, in another dress: yes or no?", 1)
	y, _ := m.sign("the SAME words in another\n dress yes  or no", 1)
	if !slices.Equal(x.bands, y.bands) || x.bytes != y.bytes {
		t.Error("case and marks change the signature")
	}
	z, _ := m.sign("2+3", 1)
	w, _ := m.sign("2-3", 1)
	if z.bytes == w.bytes {
		t.Error("2+3 is 2-3")
	}
}

func jaccard(a, b []uint64) float64 {
	in := map[uint64]int{}
	for _, h := range a {
		in[h] |= 1
	}
	for _, h := range b {
		in[h] |= 2
	}
	both := 0
	for _, v := range in {
		if v == 3 {
			both++
		}
	}
	return float64(both) / float64(len(in))
}
