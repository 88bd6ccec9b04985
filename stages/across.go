package stages

import (
	"context"
	"fmt"
	"math"
	"slices"

	"lpipe/dataset"
	"lpipe/runner"
)

// across is what is known about rows from other rows. What grows with what is found lies in scratch when it is much.
type across struct {
	sameID    *rowMap // row -> the first with its id; only of repeated ids
	conflicts *rowMap // row -> one with the same prompt and another answer
	passed    *rowMap // root of a cluster -> its first row that passed
	near      *clusters
	checked   bool // the rows were checked by themselves already; noted are those with findings
	noted     rowSet
	common    []uint16 // by row: looked-at phrases of its response that many rows have
	phrases   *PhrasesCheck
	share     float64 // of the stage's work
}

func (a *across) close() {
	for _, m := range []*rowMap{a.sameID, a.conflicts, a.passed} {
		m.close()
	}
}

// firstPass is what the first pass takes from a batch.
type firstPass struct {
	ids, answers, phrases []pair
	signs                 []signature
	bad                   []int64 // rows with errors of their own, which must not stand for their cluster
	noted                 []int64 // rows with findings of their own
	sizes                 []sizes
}

// acrossRows finds what rows say about one another. It reads the whole rows only for checks that need them, else the ids alone;
// for near duplicates it checks them by themselves as well, and the report gets their sizes.
func (v *Validate) acrossRows(ctx context.Context, env *runner.Env, c *checker, rep *report) (*across, error) {
	on := func(check int) bool { return c.severities[check] != "off" }
	texts := v.NearDuplicates.On || on(checkConflicts) || on(checkPhrases)
	a := &across{phrases: &v.Checks.Phrases}
	if !texts && !on(checkIDs) {
		return a, nil
	}
	columns := []string{"id"}
	if texts {
		columns = dataset.RowColumns()
	}
	a.share = 0.5
	s := newSeen(v.NearDuplicates, env.Scratch)
	defer s.close()
	hasher := newMinHasher(v.NearDuplicates)
	rows := &pass[firstPass]{
		env: env, files: paths(env, "data"), columns: columns, message: "looking for duplicates", share: a.share,
		work: func(_ int, b *dataset.Batch) (firstPass, error) { return v.firstPass(c, hasher, texts, b) },
		emit: func(f firstPass) error {
			rep.addSizes(f.sizes)
			for _, row := range f.noted {
				a.noted.set(row)
			}
			return s.add(f)
		},
	}
	a.checked = v.NearDuplicates.On
	if err := rows.run(ctx); err != nil {
		return nil, err
	}
	if err := a.settle(ctx, s, v); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// settle makes of what was seen what the second pass asks.
func (a *across) settle(ctx context.Context, s *seen, v *Validate) (err error) {
	if a.sameID, err = s.sameIDs(ctx); err != nil {
		return err
	}
	if a.conflicts, err = s.otherAnswers(ctx); err != nil {
		return err
	}
	if a.common, err = s.commonPhrases(ctx, v.Checks.Phrases.Rows); err != nil || !v.NearDuplicates.On {
		return err
	}
	if a.near, err = s.near.cluster(ctx); err != nil {
		return err
	}
	a.passed, err = a.near.firstPassed(ctx, s.bad, s.scratch)
	return err
}

// seen is what the first pass has seen so far.
type seen struct {
	scratch               string
	ids, answers, phrases *sorter
	near                  *clusterer
	bad                   rowSet
}

func newSeen(near NearDuplicates, scratch string) *seen {
	return &seen{scratch: scratch, ids: newSorter(scratch), answers: newSorter(scratch), phrases: newSorter(scratch), near: newClusterer(near, scratch)}
}

func (s *seen) close() {
	s.ids.close()
	s.answers.close()
	s.phrases.close()
	s.near.close()
}

func (s *seen) add(f firstPass) error {
	for _, one := range []struct {
		to    *sorter
		pairs []pair
	}{{s.ids, f.ids}, {s.answers, f.answers}, {s.phrases, f.phrases}} {
		for _, p := range one.pairs {
			if err := one.to.add(p); err != nil {
				return err
			}
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
func (s *seen) sameIDs(ctx context.Context) (*rowMap, error) {
	same := newRowMap(s.scratch)
	for rows, err := range s.ids.groups(ctx) {
		if err != nil {
			return nil, err
		}
		for _, row := range rows[1:] {
			if err := same.add(row, rows[0]); err != nil {
				return nil, err
			}
		}
	}
	return same, same.freeze(ctx)
}

// commonPhrases counts for each row the phrases that at least so many rows have.
func (s *seen) commonPhrases(ctx context.Context, least int) ([]uint16, error) {
	var count []uint16
	for rows, err := range s.phrases.groups(ctx) {
		if err != nil {
			return nil, err
		}
		if len(rows) < least {
			continue
		}
		for _, row := range rows {
			for uint64(len(count)) <= row {
				count = append(count, make([]uint16, max(1024, len(count)/2))...)
			}
			if count[row] < math.MaxUint16 {
				count[row]++
			}
		}
	}
	return count, nil
}

func (v *Validate) firstPass(c *checker, hasher *minHasher, texts bool, b *dataset.Batch) (firstPass, error) {
	var f firstPass
	if !texts { // the ids alone: the texts are passed over
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
		if c.severities[checkIDs] != "off" {
			f.addID(rows[i].ID, number)
		}
		if c.severities[checkConflicts] != "off" {
			f.addAnswer(&rows[i], number)
		}
		if c.severities[checkPhrases] != "off" {
			f.addPhrases(&rows[i], number, v.Checks.Phrases.Words)
		}
		if !v.NearDuplicates.On {
			continue
		}
		if s, ok := hasher.sign(rows[i].Prompt(), number); ok {
			f.signs = append(f.signs, s)
		}
		found, size, err := c.row(&rows[i])
		if err != nil {
			return f, fmt.Errorf("%s: %w", b.Where(i), err)
		}
		f.sizes = append(f.sizes, size)
		if len(found) > 0 {
			f.noted = append(f.noted, number)
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

// phraseSample is the share of phrases that are looked at: one in so many, by their hash, so that it is the same ones in all rows.
const phraseSample = 16

// samplePhrases calls each for the hashes of the phrases of a response that are looked at.
func samplePhrases(r *dataset.Row, words int, each func(hash uint64)) {
	hashes := appendWords(nil, r.Response())
	if len(hashes) < words {
		return
	}
	for _, h := range shingles(hashes, words) {
		if h%phraseSample == 0 {
			each(h)
		}
	}
}

func (f *firstPass) addPhrases(r *dataset.Row, row int64, words int) {
	have := map[uint64]bool{}
	samplePhrases(r, words, func(h uint64) {
		if !have[h] {
			have[h] = true
			f.phrases = append(f.phrases, pair{h, 0, uint64(row)})
		}
	})
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
func (c *clusters) firstPassed(ctx context.Context, bad rowSet, scratch string) (*rowMap, error) {
	first := newRowMap(scratch)
	for row := range c.parent {
		if c.parent[row] == 0 {
			continue
		}
		root := c.root(uint64(row))
		switch { // freeze keeps the smallest
		case !bad.has(int64(root)):
			if err := first.add(root, root); err != nil {
				return nil, err
			}
		case !bad.has(int64(row)):
			if err := first.add(root, uint64(row)); err != nil {
				return nil, err
			}
		}
	}
	return first, first.freeze(ctx)
}

// duplicates counts the clusters; nil where nobody looked for any.
func (a *across) duplicates() *duplicatesReport {
	if a.near == nil {
		return nil
	}
	const shown = 5
	d := &duplicatesReport{Largest: []clusterReport{}}
	members := make([]uint32, len(a.near.parent)) // by root, the root itself left out
	for row, up := range a.near.parent {
		if up != 0 {
			members[a.near.root(uint64(row))]++
		}
	}
	for row, n := range members {
		if n == 0 {
			continue
		}
		d.Clusters++
		d.Rows += int64(n) + 1
		at := len(d.Largest)
		for at > 0 && d.Largest[at-1].Rows < int64(n)+1 {
			at--
		}
		if at < shown {
			d.Largest = slices.Insert(d.Largest, at, clusterReport{int64(row), int64(n) + 1})
			d.Largest = d.Largest[:min(len(d.Largest), shown)]
		}
	}
	return d
}

// find is what other rows say about row number n.
func (a *across) find(n int64, row *dataset.Row, unit string) (found []finding, err error) {
	if first, ok, err := a.sameID.get(uint64(n)); err != nil {
		return nil, err
	} else if ok {
		found = append(found, finding{checkIDs, fmt.Sprintf("%s %d has the same id", unit, first)})
	}
	if other, ok, err := a.conflicts.get(uint64(n)); err != nil {
		return nil, err
	} else if ok {
		found = append(found, finding{checkConflicts, fmt.Sprintf("%s %d has the same prompt and another answer", unit, other)})
	}
	if n < int64(len(a.common)) && a.common[n] > 0 {
		if evidence := a.findPhrases(int(a.common[n]), row); evidence != "" {
			found = append(found, finding{checkPhrases, evidence})
		}
	}
	if a.near == nil {
		return found, nil
	}
	first, ok, err := a.passed.get(a.near.root(uint64(n)))
	if ok && first != uint64(n) {
		found = append(found, finding{checkNear, fmt.Sprintf("like %s %d", unit, first)})
	}
	return found, err
}

// findPhrases says whether so many common phrases are too many of a row's.
func (a *across) findPhrases(common int, row *dataset.Row) string {
	have := map[uint64]bool{}
	samplePhrases(row, a.phrases.Words, func(h uint64) { have[h] = true })
	if share := float64(common) / float64(max(len(have), 1)); share >= a.phrases.Share {
		return fmt.Sprintf("%.0f %% of its phrases of %d words stand in %d rows or more", 100*share, a.phrases.Words, a.phrases.Rows)
	}
	return ""
}
