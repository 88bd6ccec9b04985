package engine

import (
	"fmt"
	"math"

	"lpipe/dataset"
	"lpipe/engine/model"
)

// Rows is what training reads: sequences of token ids, and which tokens are trained on, as targets.
// *dataset.Tokens fits.
type Rows interface {
	Len() int
	IDs(i int, dst []int32) []int32
	Mask(i int, dst []bool) []bool
}

// rowSet is a data set as training sees it: the rows that have a target, and how much of each counts.
type rowSet struct {
	Rows
	halves  twoTexts // where rows are two texts; else nil
	rows    []int32  // usable rows, in the data set's order
	length  []int32  // of usable row k: tokens up to its last target
	targets []int32  // of usable row k: targets
	unused  int      // rows without a target
	tokens  int64    // sum of length
	trained int64    // sum of targets
	longest int      // of length
}

// twoTexts are rows of two texts, one behind the other, which do not see each other.
type twoTexts interface {
	Split(i int) int // length of the first
}

// newRowSet reads all lengths and masks. What follows a row's last target is cut: nothing is learned from it, and
// with causal attention nothing before sees it. A trained first token is no target, since nothing predicts it.
func newRowSet(data Rows, vocabulary int) (*rowSet, error) {
	s := &rowSet{Rows: data}
	s.halves, _ = data.(twoTexts)
	var ids []int32
	var mask []bool
	for i := range data.Len() {
		mask = data.Mask(i, mask[:0])
		last, targets := 0, 0
		for t := 1; t < len(mask); t++ {
			if mask[t] {
				last, targets = t, targets+1
			}
		}
		if targets == 0 {
			s.unused++
			continue
		}
		ids = data.IDs(i, ids[:0])
		for t, id := range ids[:last+1] {
			if id < 0 || int(id) >= vocabulary {
				return nil, fmt.Errorf("row %d: token %d at position %d is outside the model's vocabulary of %d: "+
					"tokenize the data with this model's tokenizer", i, id, t, vocabulary)
			}
		}
		s.rows = append(s.rows, int32(i))
		s.length = append(s.length, int32(last+1))
		s.targets = append(s.targets, int32(targets))
		s.tokens += int64(last + 1)
		s.trained += int64(targets)
		s.longest = max(s.longest, last+1)
	}
	switch {
	case data.Len() == 0:
		return nil, fmt.Errorf("no rows: the data set is empty")
	case len(s.rows) == 0:
		return nil, fmt.Errorf("no token of its %d rows is trained on: every label is masked, or the only token of its row, "+
			"which nothing stands before; look at train_on and max_tokens of the tokenize stage", data.Len())
	}
	return s, nil
}

// document is how long the document is that a token of the set stands in, on average over the tokens: attention's work is
// proportional to it, however long the packs are.
func (s *rowSet) document() float64 {
	squares := 0.0
	for k, n := range s.length {
		length, first := float64(n), 0.0
		if s.halves != nil { // two documents
			first = float64(s.halves.Split(int(s.rows[k])))
		}
		squares += first*first + (length-first)*(length-first)
	}
	return squares / float64(s.tokens)
}

// spread returns at most limit usable rows (all with 0), evenly spaced over the set: a set sorted by source is
// still seen as a whole, and the choice depends on nothing else.
func (s *rowSet) spread(limit int) []int32 {
	n := len(s.rows)
	if limit <= 0 || limit > n {
		limit = n
	}
	picked := make([]int32, limit)
	for i := range picked {
		picked[i] = int32(i * n / limit)
	}
	return picked
}

// plan says which rows each optimiser step trains on.
//
// Rows follow each other in an endless order: every epoch is a permutation of all usable rows, drawn from the seed
// and the epoch's number. A step takes the next rows for as long as their tokens fit into batch_tokens, and packs
// them, longest first, into packs of at most sequence_length tokens. An epoch's rest opens the next epoch's first
// step, so that no step is small but the very last one. Step n thus depends on seed, data, batch_tokens and n:
// a run that resumes, or one that goes on for longer, meets the same rows.
type plan struct {
	planOptions
	set      *rowSet
	capacity int     // tokens of one pack
	done     int     // steps made before this plan
	start    []int64 // start[n]: place in the endless order where step done+n+1 begins; one more than steps left

	epoch int // whose order is held
	order []int32
}

// planOptions are the settings that decide a plan. Steps 0 means that Epochs decides.
type planOptions struct {
	Seed                        uint64
	SequenceLength, BatchTokens int
	Epochs                      float64
	Steps                       int
}

func newPlan(set *rowSet, o planOptions) (*plan, error) {
	p := &plan{planOptions: o, set: set, capacity: min(o.SequenceLength, o.BatchTokens), epoch: -1}
	if set.longest > p.capacity {
		name := "sequence_length"
		if o.BatchTokens < o.SequenceLength {
			name = "batch_tokens"
		}
		return nil, fmt.Errorf("%s: the longest row has %d tokens, more than %d: raise %s, or cut rows with "+
			"max_tokens in the tokenize stage", name, set.longest, p.capacity, name)
	}
	return p, p.continueFrom(0, 0)
}

// continueFrom plans the steps behind the given number of steps, which ended at the given place.
func (p *plan) continueFrom(done int, place int64) error {
	end := int64(math.MaxInt64)
	if p.Steps == 0 {
		end = int64(math.Ceil(p.Epochs * float64(len(p.set.rows))))
	}
	if p.Steps > 0 && done > p.Steps || place > end {
		return fmt.Errorf("%d steps are already made, more than this run has: raise steps or epochs", done)
	}
	p.done, p.start = done, []int64{place}
	for at := place; at < end && (p.Steps == 0 || p.steps() < p.Steps); {
		for used := 0; at < end; at++ {
			used += int(p.set.length[p.at(at)])
			if used > p.BatchTokens {
				break
			}
		}
		p.start = append(p.start, at)
	}
	return nil
}

// steps returns the number of optimiser steps of the whole run.
func (p *plan) steps() int { return p.done + len(p.start) - 1 }

// place returns where the endless order stands after step n.
func (p *plan) place(n int) int64 { return p.start[n-p.done] }

// at returns the usable row at a place of the endless order.
func (p *plan) at(place int64) int32 {
	n := int64(len(p.set.rows))
	if epoch := int(place / n); epoch != p.epoch {
		p.epoch = epoch
		p.order = newRandom(p.Seed, forOrder, uint64(epoch)).permutation(int(n))
	}
	return p.order[place%n]
}

// step returns the packs of optimiser step n, counted from 1, and how many targets they hold.
func (p *plan) step(n int) (packs [][]int32, targets int) {
	var rows []int32
	for place := p.place(n - 1); place < p.place(n); place++ {
		k := p.at(place)
		rows = append(rows, k)
		targets += int(p.set.targets[k])
	}
	return p.set.pack(rows, p.capacity), targets
}

// epochs returns how often each row has been seen on average at a place.
func (s *rowSet) epochs(place int64) float64 {
	return float64(place) / float64(len(s.rows))
}

// pack puts usable rows into packs of at most capacity tokens.
func (s *rowSet) pack(rows []int32, capacity int) [][]int32 {
	lengths := make([]int, len(rows))
	for i, k := range rows {
		lengths[i] = int(s.length[k])
	}
	bins := dataset.Pack(lengths, capacity)
	packs := make([][]int32, len(bins))
	for b, bin := range bins {
		for _, i := range bin {
			packs[b] = append(packs[b], rows[i])
		}
	}
	return packs
}

// batch is the memory of one pack after the other.
type batch struct {
	model.Batch
	mask []bool
}

// fill lays usable rows one behind the other as one packed sequence: each is a document of its own, or two.
func (b *batch) fill(s *rowSet, rows []int32) model.Batch {
	b.IDs, b.Labels = b.IDs[:0], b.Labels[:0]
	b.Positions, b.Sequence = b.Positions[:0], b.Sequence[:0]
	number := int32(-1)
	for _, k := range rows {
		i, from, split := int(s.rows[k]), len(b.IDs), int(s.length[k])
		if s.halves != nil {
			split = s.halves.Split(i)
		}
		b.IDs = s.IDs(i, b.IDs)[:from+int(s.length[k])]
		b.mask = s.Mask(i, b.mask[:0])
		for t, id := range b.IDs[from:] {
			if !b.mask[t] {
				id = model.Ignored
			}
			position := t
			if t >= split {
				position -= split
			}
			if position == 0 {
				number++
			}
			b.Labels = append(b.Labels, id)
			b.Positions = append(b.Positions, int32(position))
			b.Sequence = append(b.Sequence, number)
		}
	}
	b.B, b.T = 1, len(b.IDs)
	return b.Batch
}
