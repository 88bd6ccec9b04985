package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"

	"lpipe/dataset"
	"lpipe/runner"
)

// Mix makes one set of several, each with its share.
type Mix struct {
	Weights []float64 `hcl:"weights,optional" doc:"share of each set among the rows written, in the order of data; none: every row of every set once"`
	Seed    int64     `hcl:"seed,optional" doc:"decides which rows stand for a set that is not needed whole"`
	Limit   int       `hcl:"limit,optional" doc:"rows to write; a set too small for its share is repeated. 0: as many as the shares allow with no row twice" unit:"rows"`
}

func mixKind() *runner.Kind {
	return &runner.Kind{
		Name:    "mix",
		Doc:     "Several sets of rows by weight, interleaved.",
		Version: 1,
		Shared:  true,
		In:      []runner.Port{{Name: "data", List: true, Doc: "sets of rows"}},
		Out:     []runner.Port{{Name: "data", Ext: ".jsonl", Doc: "rows, as JSONL or Parquet by extension"}},
		New:     func() runner.Stage { return &Mix{Seed: 42} },
	}
}

// Check finds weights that make no shares.
func (m *Mix) Check() error {
	sum := 0.0
	for _, w := range m.Weights {
		if !(w >= 0) || math.IsInf(w, 0) {
			return fmt.Errorf("weights: must be 0 or more, not %v", w)
		}
		sum += w
	}
	if len(m.Weights) > 0 && sum == 0 {
		return errors.New("weights: at least one must be above 0")
	}
	if m.Limit < 0 {
		return errors.New("limit: must not be negative")
	}
	return nil
}

// Run reads every set twice: first to count its rows, then to take its share of them, evenly spread over the output.
func (m *Mix) Run(ctx context.Context, env *runner.Env) error {
	files := paths(env, "data")
	if len(m.Weights) > 0 && len(m.Weights) != len(files) {
		return fmt.Errorf("weights: %d for %d sets in data; give one to each", len(m.Weights), len(files))
	}
	sets, err := m.count(ctx, env, files)
	if err != nil {
		return err
	}
	if err := m.apportion(sets); err != nil {
		return err
	}
	out, err := dataset.CreateRows(env.Out["data"])
	if err != nil {
		return err
	}
	defer out.Abandon()
	if err := m.write(ctx, env, sets, out); err != nil {
		return err
	}
	for _, s := range sets {
		logf(env, "%d rows of %d in %s", s.wanted, s.rows, shown(env, s.path))
	}
	return out.Close()
}

// mixed is one set.
type mixed struct {
	path    string
	rows    int // in the file
	weight  float64
	wanted  int // to be written
	written int

	reader *dataset.RowReader
	random *rand.Rand
	at     int // rows read
	extra  int // of the rows left in the file, how many are taken once more than the others
	row    *dataset.Row
	copies int // of row, still to be written
}

func (m *Mix) count(ctx context.Context, env *runner.Env, files []string) ([]*mixed, error) {
	var sets []*mixed
	for i, path := range files {
		s := &mixed{path: path}
		r, err := dataset.OpenRows(path)
		if err != nil {
			return nil, err
		}
		for err == nil {
			if _, err = r.Next(); err == nil {
				s.rows++
				err = ctx.Err()
			}
		}
		r.Close()
		if !errors.Is(err, io.EOF) {
			return nil, err
		}
		if s.weight = float64(s.rows); len(m.Weights) > 0 {
			s.weight = m.Weights[i]
		}
		if s.rows == 0 && s.weight > 0 {
			return nil, fmt.Errorf("%s: no rows in it, and it has a share", shown(env, path))
		}
		sets = append(sets, s)
	}
	return sets, nil
}

// apportion says how many rows each set gives: its share of limit, or of the largest number with which no set runs out.
// What rounding leaves of limit goes to the first sets that have a share.
func (m *Mix) apportion(sets []*mixed) error {
	sum := 0.0
	for _, s := range sets {
		sum += s.weight
	}
	if sum == 0 {
		return errors.New("data: no rows in any of the sets")
	}
	total := float64(m.Limit)
	if m.Limit == 0 {
		total = math.Inf(1)
		for _, s := range sets {
			if s.weight > 0 {
				total = min(total, float64(s.rows)*sum/s.weight)
			}
		}
		total = math.Floor(total + 1e-6)
	}
	left := m.Limit
	for _, s := range sets {
		s.wanted = int(total*s.weight/sum + 1e-9)
		left -= s.wanted
	}
	for i := 0; left > 0; i = (i + 1) % len(sets) {
		if sets[i].weight > 0 {
			sets[i].wanted++
			left--
		}
	}
	return nil
}

func (m *Mix) write(ctx context.Context, env *runner.Env, sets []*mixed, out *dataset.RowWriter) (err error) {
	total := 0
	for i, s := range sets {
		total += s.wanted
		s.random = rand.New(rand.NewPCG(uint64(m.Seed), uint64(i)))
		if s.wanted == 0 {
			continue
		}
		s.extra = s.wanted % s.rows
		if s.reader, err = dataset.OpenRows(s.path); err != nil {
			return err
		}
		defer s.reader.Close()
	}
	for n := 0; n < total; n++ {
		if n%4096 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if env.Report != nil {
				env.Report(runner.Event{Done: float64(n), Total: float64(total), Unit: "rows"})
			}
		}
		row, err := behindMost(sets).next()
		if err != nil {
			return err
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// behindMost is the set that has given the smallest part of what it is to give, the first of equals.
func behindMost(sets []*mixed) *mixed {
	var next *mixed
	for _, s := range sets {
		if s.written < s.wanted && (next == nil || s.written*next.wanted < next.written*s.wanted) {
			next = s
		}
	}
	return next
}

// next is the set's next row to write. Of n rows in the file each is taken wanted/n times; the rest are drawn by selection
// sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S): each with the same chance, in the file's order.
func (s *mixed) next() (*dataset.Row, error) {
	for s.copies == 0 {
		row, err := s.reader.Next()
		if err != nil {
			return nil, fmt.Errorf("%s changed while it was read: %w", s.path, err)
		}
		s.row, s.copies = row, s.wanted/s.rows
		if s.random.IntN(s.rows-s.at) < s.extra {
			s.copies++
			s.extra--
		}
		s.at++
	}
	s.copies--
	s.written++
	return s.row, nil
}
