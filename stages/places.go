package stages

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sort"
	"strings"

	"lpipe/runner"
)

// places tells the set of each row. Where that hangs on the row alone nothing is kept; else a byte a row.
type places struct {
	split  *Split
	sets   []int8     // by row number: unplaced, toDrop, or the set
	strata []uint16   // by row number
	names  []string   // of the strata
	near   *clusterer // signatures and bands
	grams  *sorter    // n-grams that several rows have
	proof  *proof
	share  float64 // of the stage's work that finding out was
}

const (
	unplaced = -1
	toDrop   = -2
)

func (p *places) close() {
	if p.near != nil {
		p.near.close()
	}
	if p.grams != nil {
		p.grams.close()
	}
}

// promptKey is a prompt's hash, blind for case and blanks. Rows without a prompt go by their id.
func promptKey(item splitItem) (hi, lo uint64) {
	if strings.TrimSpace(item.prompt) == "" {
		return textHash("id\x00" + item.id)
	}
	return promptHash(item.prompt)
}

// ownKey is what a row goes by if no other row has a say.
func (s *Split) ownKey(item splitItem) (uint64, error) {
	if s.By == "cluster" || s.By == "row" {
		key, _ := promptKey(item)
		return key, nil
	}
	value, err := item.mustHave(s.By, "split by")
	key, _ := textHash(value)
	return key, err
}

func (i splitItem) mustHave(column, what string) (string, error) {
	value, ok := i.column(column)
	if !ok {
		return "", fmt.Errorf("%s has no column %q to %s; it has %s (convert's keep carries others along)", i.where(), column, what, strings.Join(i.columns(), ", "))
	}
	return value, nil
}

// columns names what a row can be split by.
func (i splitItem) columns() []string {
	names := []string{"id", "source", "license", "answer"}
	for _, m := range i.meta {
		names = append(names, m.Name)
	}
	sort.Strings(names)
	return names
}

// of is the set of a row, toDrop if it has to go.
func (p *places) of(item splitItem) (int, error) {
	if item.number < int64(len(p.sets)) {
		if set := p.sets[item.number]; set != unplaced {
			return int(set), nil
		}
	}
	key, err := p.split.ownKey(item)
	return p.split.set(key), err
}

// places looks at all rows first where a row's set depends on others, or where a proof is asked for.
func (s *Split) places(ctx context.Context, env *runner.Env, from splitSource) (*places, error) {
	p := &places{split: s}
	proving := env.Out["report"] != ""
	if s.By == "row" && s.Stratify == "" && !proving {
		return p, nil
	}
	if err := p.look(ctx, env, from); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// looked is what the first pass takes from a row.
type looked struct {
	number  int64
	own     uint64 // key
	prompt  pair
	stratum string
	signed  bool
	sign    signature
	grams   []uint64
}

// look reads all rows and places them.
func (p *places) look(ctx context.Context, env *runner.Env, from splitSource) (err error) {
	near := NearDuplicates{On: true, Threshold: p.split.Similarity, Shingle: defaultNear().Shingle}
	hasher := newMinHasher(near)
	p.near = newClusterer(near, env.Scratch)
	grams, err := newGramFile(env.Scratch, p.split.Common, from.bytes())
	if err != nil {
		return err
	}
	defer grams.close()
	prompts := newSorter(env.Scratch)
	defer prompts.close()
	p.share = 0.5
	ids := map[string]uint16{}
	err = from.each(ctx, "looking for like prompts", 0, p.share,
		func(b *splitBatch) (any, error) { return p.lookAt(hasher, b) },
		func(v any) error {
			for _, one := range v.([]looked) {
				if err := p.take(one, ids, grams, prompts); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		return err
	}
	if p.grams, err = grams.shared(ctx); err != nil {
		return err
	}
	if err := p.settle(ctx, env, from, prompts); err != nil {
		return err
	}
	p.proof, err = p.prove(ctx)
	return err
}

func (p *places) lookAt(hasher *minHasher, b *splitBatch) ([]looked, error) {
	rows := make([]looked, b.len())
	for i := range rows {
		item, one := b.item(i), &rows[i]
		one.number = item.number
		var err error
		if one.own, err = p.split.ownKey(item); err != nil {
			return nil, err
		}
		if p.split.Stratify != "" {
			if one.stratum, err = item.mustHave(p.split.Stratify, "stratify by"); err != nil {
				return nil, err
			}
		}
		one.prompt.hi, one.prompt.lo = promptKey(item)
		if one.sign, one.signed = hasher.sign(item.prompt, item.number); one.signed {
			one.sign.key = one.own
		}
		if p.split.NGram > 0 {
			one.grams = shingles(appendWords(nil, item.prompt), p.split.NGram)
		}
	}
	return rows, nil
}

// take notes a row, in the order of rows.
func (p *places) take(one looked, ids map[string]uint16, grams *gramFile, prompts *sorter) error {
	for int64(len(p.sets)) <= one.number {
		p.sets = append(p.sets, unplaced)
	}
	p.sets[one.number] = int8(p.split.set(one.own))
	if p.split.Stratify != "" {
		id, known := ids[one.stratum]
		if !known {
			if len(ids) > math.MaxUint16 {
				return fmt.Errorf("stratify: column %q has more than %d values: it tells rows apart, not kinds of rows", p.split.Stratify, math.MaxUint16)
			}
			id = uint16(len(ids))
			ids[one.stratum], p.names = id, append(p.names, one.stratum)
		}
		for int64(len(p.strata)) <= one.number {
			p.strata = append(p.strata, 0)
		}
		p.strata[one.number] = id
	}
	if one.signed {
		if err := p.near.add(one.sign); err != nil {
			return err
		}
	}
	if p.split.NGram > 0 {
		if err := grams.add(uint64(one.number), one.grams); err != nil {
			return err
		}
	}
	if p.split.By == "cluster" {
		return nil // goes by n-grams and likeness, which equal prompts share
	}
	one.prompt.row = uint64(one.number)
	return prompts.add(one.prompt)
}

// settle gives each row its set, given all of them.
func (p *places) settle(ctx context.Context, env *runner.Env, from splitSource, prompts *sorter) error {
	if err := p.near.flush(); err != nil {
		return err
	}
	links := newSorter(env.Scratch)
	defer links.close()
	grams := 0 // linked
	switch p.split.By {
	case "cluster":
		var err error
		if grams, err = p.link(ctx, links); err != nil {
			return err
		}
	case "row": // equal prompts are one, also where strata take turns
		if err := linkEqual(ctx, prompts, links); err != nil {
			return err
		}
	default:
		return p.columns(ctx, prompts)
	}
	joined, err := p.follow(ctx, links, grams)
	if err != nil {
		return err
	}
	if p.split.By == "cluster" {
		logf(env, "%d %s join the set of an earlier one with a like prompt", joined, from.unit())
		return p.part(ctx)
	}
	return nil
}

// gramMark tells the number of an n-gram from that of a row in links.
const gramMark = 1 << 63

// link notes which earlier rows and which n-grams each row hangs together with. Of an n-gram that very many rows have, the
// first ones count: whatever comes behind them, those keep what they had.
func (p *places) link(ctx context.Context, links *sorter) (grams int, err error) {
	err = p.near.pairs(ctx, func(row, earlier uint64) error { return links.add(pair{hi: row, lo: earlier}) })
	if err != nil {
		return 0, err
	}
	err = sharedGrams(ctx, p.grams, func(rows []uint64) error {
		for _, row := range rows[:min(len(rows), p.split.Common)] {
			if err := links.add(pair{hi: row, lo: gramMark | uint64(grams)}); err != nil {
				return err
			}
		}
		grams++
		return nil
	})
	return grams, err
}

// linkEqual links each row to the first with the same prompt.
func linkEqual(ctx context.Context, prompts, links *sorter) error {
	for rows, err := range prompts.groups(ctx) {
		if err != nil {
			return err
		}
		for _, row := range rows[1:] {
			if err := links.add(pair{hi: row, lo: rows[0]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow walks through the rows in their order. A row goes where the earlier ones are that it hangs together with; alone, where
// its own key or its stratum's turn says. One that hangs together with rows of two sets is dropped: an earlier row never moves.
func (p *places) follow(ctx context.Context, links *sorter, grams int) (joined int, err error) {
	f := &follower{places: p, grams: make([]int8, grams)}
	for i := range f.grams {
		f.grams[i] = unplaced
	}
	turns := make([]uint64, len(p.names))
	next, stop := newPuller(ctx, links)
	defer stop()
	link, more, err := next()
	for row := range p.sets {
		if p.sets[row] == unplaced {
			continue
		}
		f.links = f.links[:0]
		for ; err == nil && more && link.hi == uint64(row); link, more, err = next() {
			f.links = append(f.links, link.lo)
		}
		if err != nil {
			return 0, err
		}
		set := f.set()
		switch {
		case set == toDrop:
		case set != unplaced:
			joined++
		case p.split.Stratify != "":
			set = int8(p.split.turn(p.names[p.strata[row]], turns[p.strata[row]]))
			turns[p.strata[row]]++
		default:
			set = p.sets[row]
		}
		p.sets[row] = set
		f.take(set)
	}
	return joined, nil
}

// follower knows where the rows walked through so far are.
type follower struct {
	*places
	grams []int8   // by n-gram: the set of the rows that have it
	links []uint64 // of the row in hand
}

// set is where the row in hand has to go: unplaced if nothing says, toDrop if two earlier ones say two things.
func (f *follower) set() int8 {
	set := int8(unplaced)
	for _, link := range f.links {
		var to int8
		if link&gramMark != 0 {
			to = f.grams[link&^gramMark]
		} else {
			to = f.sets[link]
		}
		switch {
		case to < 0: // not there yet, or dropped
		case set < 0:
			set = to
		case set != to:
			return toDrop
		}
	}
	return set
}

// take notes that the row in hand went to a set.
func (f *follower) take(set int8) {
	if set < 0 {
		return
	}
	for _, link := range f.links {
		if link&gramMark != 0 {
			f.grams[link&^gramMark] = set
		}
	}
}

// newPuller reads a sorter pair by pair.
func newPuller(ctx context.Context, s *sorter) (next func() (pair, bool, error), stop func()) {
	pull, stop := iter.Pull2(s.sorted(ctx))
	return func() (pair, bool, error) {
		p, err, more := pull()
		return p, more, err
	}, stop
}

// part drops the later of two like rows that stand in two sets all the same: rows are linked to the first of each band only,
// and of those one may be dropped.
func (p *places) part(ctx context.Context) error {
	_, err := p.near.across(ctx, p.sets, func(_, later uint64) error {
		p.sets[later] = toDrop
		return nil
	})
	return err
}

// columns finds prompts that stand in more than one set when rows go by a column. Of those the test set keeps
// its rows, else validation, and the others lose theirs.
func (p *places) columns(ctx context.Context, prompts *sorter) error {
	for rows, err := range prompts.groups(ctx) {
		if err != nil {
			return err
		}
		keeps := int8(setTrain)
		for _, row := range rows {
			keeps = max(keeps, p.sets[row])
		}
		for _, row := range rows {
			if p.sets[row] != keeps {
				p.sets[row] = toDrop
			}
		}
	}
	return nil
}

// proof is what is shared across the sets, counted anew after all rows had their place.
type proof struct {
	NGram  int   `json:"ngram"` // words; 0: not looked at
	Shared int64 `json:"shared_ngrams"`
	// Common are n-grams of so many rows that only the first of them count; they may stand in several sets.
	Common     int64   `json:"common_ngrams"`
	Similarity float64 `json:"similarity"`
	Pairs      int64   `json:"similar_pairs"`
	// Partly are rows of which so many share a band, without being alike, that they were compared with the first of them only.
	Partly int64 `json:"partly_compared,omitempty"`
}

func (p *places) prove(ctx context.Context) (*proof, error) {
	out := &proof{NGram: p.split.NGram, Similarity: p.split.Similarity}
	err := sharedGrams(ctx, p.grams, func(rows []uint64) error {
		common := len(rows) > p.split.Common
		if common {
			out.Common++
			rows = rows[:p.split.Common]
		}
		set := int8(unplaced)
		for _, row := range rows {
			switch at := p.sets[row]; {
			case at < 0:
			case set < 0:
				set = at
			case set != at:
				out.Shared++
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Partly, err = p.near.across(ctx, p.sets, func(_, _ uint64) error {
		out.Pairs++
		return nil
	})
	return out, err
}
