package stages

import (
	"bufio"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// pair is a 128-bit hash and the number of the row that it came from.
type pair struct{ hi, lo, row uint64 }

func (a pair) compare(b pair) int {
	if c := cmp.Compare(a.hi, b.hi); c != 0 {
		return c
	}
	if c := cmp.Compare(a.lo, b.lo); c != 0 {
		return c
	}
	return cmp.Compare(a.row, b.row)
}

// sortPairs sorts. Hashes are spread evenly: pairs go to their place among 256 by the first byte of hi, in place, and among these
// by the next, as long as there are many; a few are left to compare with each other (American flag sort; McIlroy, Bostic and
// McIlroy, 1993). With 256 places, what is written next stays in the processor's cache. What is not spread is sorted all the same.
func sortPairs(pairs []pair) { sortFrom(pairs, 64-placeBits) }

// placeBits of hi tell a pair's place.
const placeBits = 8

// sortFrom sorts pairs whose hi are equal above the placeBits from shift on.
func sortFrom(pairs []pair, shift int) {
	const worth = 256 // pairs, for counting places
	if len(pairs) < worth || shift < 0 {
		sortFew(pairs)
		return
	}
	begin := 0
	for _, end := range place(pairs, shift) {
		sortFrom(pairs[begin:end], shift-placeBits)
		begin = end
	}
}

// place puts each pair where the bits of its hi from shift on say, and returns where these places end.
func place(pairs []pair, shift int) (ends [1 << placeBits]int) {
	for i := range pairs {
		ends[pairs[i].hi>>shift%(1<<placeBits)]++
	}
	var next [1 << placeBits]int // where the next pair of each place goes
	sum := 0
	for at := range ends {
		next[at] = sum
		sum += ends[at]
		ends[at] = sum
	}
	for at := range ends {
		for next[at] < ends[at] {
			p := pairs[next[at]]
			for to := p.hi >> shift % (1 << placeBits); to != uint64(at); to = p.hi >> shift % (1 << placeBits) {
				p, pairs[next[to]] = pairs[next[to]], p
				next[to]++
			}
			pairs[next[at]] = p
			next[at]++
		}
	}
	return ends
}

// sortFew sorts what is mostly a handful.
func sortFew(pairs []pair) {
	if len(pairs) > 24 {
		slices.SortFunc(pairs, pair.compare)
		return
	}
	for i := 1; i < len(pairs); i++ {
		p, at := pairs[i], i
		for ; at > 0 && p.less(&pairs[at-1]); at-- {
			pairs[at] = pairs[at-1]
		}
		pairs[at] = p
	}
}

func (a *pair) less(b *pair) bool {
	if a.hi != b.hi {
		return a.hi < b.hi
	}
	if a.lo != b.lo {
		return a.lo < b.lo
	}
	return a.row < b.row
}

const (
	pairBytes = 24
	// pairsInMemory bounds a sorter's memory: 24 MB. What is beyond goes to sorted files in scratch.
	pairsInMemory = 1 << 20
)

// sorter sorts any number of pairs in bounded memory.
type sorter struct {
	dir   string // scratch
	limit int    // pairs in memory; 0: pairsInMemory
	pairs []pair
	runs  []*os.File
}

func newSorter(scratch string) *sorter { return &sorter{dir: scratch, limit: pairsInMemory} }

func (s *sorter) add(p pair) error {
	if len(s.pairs) == cap(s.pairs) { // twice as many: append's quarter more means to copy all five times
		s.pairs = slices.Grow(s.pairs, max(1, min(max(64, len(s.pairs)), s.limit-len(s.pairs))))
	}
	s.pairs = append(s.pairs, p)
	if len(s.pairs) < s.limit {
		return nil
	}
	return s.spill()
}

// spill writes what is in memory as a sorted file. The file has no name any more: nothing is left of it
// whatever happens.
func (s *sorter) spill() error {
	sortPairs(s.pairs)
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	f, err := os.CreateTemp(s.dir, "pairs-*")
	if err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	s.runs = append(s.runs, f)
	_ = os.Remove(f.Name()) // where that is not possible, scratch goes with the stage
	w := bufio.NewWriterSize(f, 1<<18)
	var b [pairBytes]byte
	for _, p := range s.pairs {
		binary.LittleEndian.PutUint64(b[:], p.hi)
		binary.LittleEndian.PutUint64(b[8:], p.lo)
		binary.LittleEndian.PutUint64(b[16:], p.row)
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("spill to scratch: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("spill to scratch: %w", err)
	}
	s.pairs = s.pairs[:0]
	return nil
}

// groups yields the rows of each hash that came with two or more, in the order of rows. The slice is reused.
func (s *sorter) groups(ctx context.Context) iter.Seq2[[]uint64, error] {
	return func(yield func([]uint64, error) bool) {
		var rows []uint64
		var last pair
		for p, err := range s.sorted(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(rows) > 0 && (p.hi != last.hi || p.lo != last.lo) {
				if len(rows) > 1 && !yield(rows, nil) {
					return
				}
				rows = rows[:0]
			}
			rows = append(rows, p.row)
			last = p
		}
		if len(rows) > 1 {
			yield(rows, nil)
		}
	}
}

// sorted yields every pair in order, until ctx is done.
func (s *sorter) sorted(ctx context.Context) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		sortPairs(s.pairs)
		m := merge{{rest: s.pairs}}
		for _, f := range s.runs {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				yield(pair{}, fmt.Errorf("read back from scratch: %w", err))
				return
			}
			m = append(m, &run{from: bufio.NewReaderSize(f, 1<<18)})
		}
		kept := m[:0]
		for _, r := range m {
			ok, err := r.next()
			if err != nil {
				yield(pair{}, err)
				return
			}
			if ok {
				kept = append(kept, r)
			}
		}
		m = kept
		heap.Init(&m)
		const seldom = 1 << 12 // pairs between two looks at ctx
		for n := 0; len(m) > 0; n++ {
			if n%seldom == 0 && ctx.Err() != nil {
				yield(pair{}, ctx.Err())
				return
			}
			if !yield(m[0].head, nil) {
				return
			}
			ok, err := m[0].next()
			if err != nil {
				yield(pair{}, err)
				return
			}
			if ok {
				heap.Fix(&m, 0)
			} else {
				heap.Pop(&m)
			}
		}
	}
}

func (s *sorter) close() {
	for _, f := range s.runs {
		f.Close()
	}
	s.runs, s.pairs = nil, nil
}

// run is a sorted sequence of pairs, from memory or from a file.
type run struct {
	head pair
	rest []pair
	from io.Reader
}

func (r *run) next() (bool, error) {
	if len(r.rest) > 0 {
		r.head, r.rest = r.rest[0], r.rest[1:]
		return true, nil
	}
	if r.from == nil {
		return false, nil
	}
	var b [pairBytes]byte
	if _, err := io.ReadFull(r.from, b[:]); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("read back from scratch: %w", err)
	}
	r.head = pair{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}
	return true, nil
}

// merge is a heap of runs by their heads.
type merge []*run

func (m merge) Len() int           { return len(m) }
func (m merge) Less(a, b int) bool { return m[a].head.compare(m[b].head) < 0 }
func (m merge) Swap(a, b int)      { m[a], m[b] = m[b], m[a] }
func (m *merge) Push(r any)        { *m = append(*m, r.(*run)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
