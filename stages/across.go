package stages

import (
	"context"
	"fmt"

	"lpipe/dataset"
	"lpipe/runner"
)

// across is what is known about rows from other rows.
type across struct {
	sameID map[int64]int64 // row -> the first with its id; only of repeated ids
	near   *clusters
	passed map[uint64]uint64 // root of a cluster -> its first row that passed
	share  float64           // of the stage's work
}

// firstPass is what the first pass takes from a row.
type firstPass struct {
	ids   []pair
	signs []signature
	bad   []int64 // rows with errors of their own, which must not stand for their cluster
}

// acrossRows finds them. It reads the whole rows only if near duplicates are looked for, else the ids alone.
func (v *Validate) acrossRows(ctx context.Context, env *runner.Env, c *checker) (*across, error) {
	a := &across{}
	ids := c.severities[checkIDs] != "off"
	if !ids && !v.NearDuplicates.On {
		return a, nil
	}
	a.share = 0.5
	columns := []string{"id"}
	if v.NearDuplicates.On {
		columns = dataset.RowColumns()
	}
	s, err := newSeen(v.NearDuplicates, env.Scratch)
	if err != nil {
		return nil, err
	}
	defer s.close()
	hasher := newMinHasher(v.NearDuplicates)
	rows := &pass[firstPass]{
		env: env, files: paths(env, "data"), columns: columns, message: "looking for duplicates", share: a.share,
		work: func(_ int, b *dataset.Batch) (firstPass, error) { return v.firstPass(c, hasher, ids, b) },
		emit: s.add,
	}
	if err := rows.run(ctx); err != nil {
		return nil, err
	}
	if a.sameID, err = s.sameIDs(); err != nil || !v.NearDuplicates.On {
		return a, err
	}
	if a.near, err = s.near.cluster(ctx); err != nil {
		return nil, err
	}
	a.passed = a.near.firstPassed(s.bad)
	return a, nil
}

// seen is what the first pass has seen so far.
type seen struct {
	ids  *sorter
	near *clusterer
	bad  rowSet
}

func newSeen(near NearDuplicates, scratch string) (*seen, error) {
	c, err := newClusterer(near, scratch)
	return &seen{ids: newSorter(scratch), near: c}, err
}

func (s *seen) close() {
	s.ids.close()
	s.near.close()
}

func (s *seen) add(f firstPass) error {
	for _, id := range f.ids {
		if err := s.ids.add(id); err != nil {
			return err
		}
	}
	for _, sign := range f.signs {
		if err := s.near.add(sign); err != nil {
			return err
		}
	}
	for _, row := range f.bad {
		s.bad.set(row)
	}
	return nil
}

// sameIDs maps each row whose id an earlier one has to the first that has it.
func (s *seen) sameIDs() (map[int64]int64, error) {
	same := map[int64]int64{}
	for rows, err := range s.ids.groups() {
		if err != nil {
			return nil, err
		}
		for _, row := range rows[1:] {
			same[int64(row)] = int64(rows[0])
		}
	}
	return same, nil
}

func (v *Validate) firstPass(c *checker, hasher *minHasher, ids bool, b *dataset.Batch) (firstPass, error) {
	var f firstPass
	if !v.NearDuplicates.On { // the ids alone: the texts are passed over
		records, err := b.Records()
		for i, record := range records {
			f.addID(record.Get("id").String(), b.Number(i))
		}
		return f, err
	}
	rows, err := b.Rows()
	if err != nil {
		return f, err
	}
	for i := range rows {
		number := b.Number(i)
		if ids {
			f.addID(rows[i].ID, number)
		}
		if s, ok := hasher.sign(rows[i].Prompt(), number); ok {
			f.signs = append(f.signs, s)
		}
		found, _, err := c.row(&rows[i])
		if err != nil {
			return f, err
		}
		if c.fails(found) {
			f.bad = append(f.bad, number)
		}
	}
	return f, nil
}

func (f *firstPass) addID(id string, row int64) {
	if id != "" {
		hi, lo := textHash(id)
		f.ids = append(f.ids, pair{hi, lo, uint64(row)})
	}
}

// fails says whether one of the findings is an error.
func (c *checker) fails(found []finding) bool {
	for _, f := range found {
		if c.severities[f.check] == "error" {
			return true
		}
	}
	return false
}

// firstPassed finds for each cluster of two or more its first row that is not bad.
func (c *clusters) firstPassed(bad rowSet) map[uint64]uint64 {
	first := map[uint64]uint64{}
	for row := range c.parent {
		if c.parent[row] == 0 {
			continue
		}
		root := c.root(uint64(row))
		if _, ok := first[root]; !ok && !bad.has(int64(root)) {
			first[root] = root
		}
		if _, ok := first[root]; !ok && !bad.has(int64(row)) {
			first[root] = uint64(row)
		}
	}
	return first
}

// find is what other rows say about row number n.
func (a *across) find(n int64, unit string) (found []finding) {
	if first, ok := a.sameID[n]; ok {
		found = append(found, finding{checkIDs, fmt.Sprintf("%s %d has the same id", unit, first)})
	}
	if a.near == nil {
		return found
	}
	if first, ok := a.passed[a.near.root(uint64(n))]; ok && first != uint64(n) {
		found = append(found, finding{checkNear, fmt.Sprintf("like %s %d", unit, first)})
	}
	return found
}
