package engine

import (
	"fmt"
	"math"

	"lpipe/dataset"
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
	rows    []int32 // usable rows, in the data set's order
	length  []int32 // of usable row k: tokens up to its last target
	targets []int32 // of usable row k: targets
	unused  int     // rows without a target
	tokens  int64   // sum of length
	trained int64   // sum of targets
	longest int     // of length
}

// newRowSet reads all lengths and masks. What follows a row's last target is cut: nothing is learned from it, and
// with causal attention nothing before sees it. A trained first token is no target, since nothing predicts it.
func newRowSet(data Rows, vocabulary int) (*rowSet, error) {
	s := &rowSet{Rows: data}
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
		return nil, fmt.Errorf("no token of its %d rows is trained on: every label is masked; look at train_on and "+
			"max_tokens of the tokenize stage", data.Len())
	}
	return s, nil
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
	set      *rowSet
	seed     uint64
	capacity int     // tokens of one pack
	start    []int64 // start[n]: place in the endless order where step n+1 begins; one more than steps

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
	p := &plan{set: set, seed: o.Seed, capacity: min(o.SequenceLength, o.BatchTokens), epoch: -1}
	if set.longest > p.capacity {
		name := "sequence_length"
		if o.BatchTokens < o.SequenceLength {
			name = "batch_tokens"
		}
		return nil, fmt.Errorf("%s: the longest row has %d tokens, more than %d: raise %s, or cut rows with "+
			"max_tokens in the tokenize stage", name, set.longest, p.capacity, name)
	}
	n := int64(len(set.rows))
	end := int64(math.MaxInt64)
	if o.Steps == 0 {
		end = int64(math.Ceil(o.Epochs * float64(n)))
	}
	p.start = []int64{0}
	for at := int64(0); at < end && (o.Steps == 0 || len(p.start) <= o.Steps); {
		used := 0
		for at < end {
			l := int(set.length[p.at(at)])
			if used+l > o.BatchTokens {
				break
			}
			used += l
			at++
		}
		p.start = append(p.start, at)
	}
	return p, nil
}

// steps returns the number of optimiser steps.
func (p *plan) steps() int { return len(p.start) - 1 }

// at returns the usable row at a place of the endless order.
func (p *plan) at(place int64) int32 {
	n := int64(len(p.set.rows))
	if epoch := int(place / n); epoch != p.epoch {
		p.epoch = epoch
		p.order = newRandom(p.seed, forOrder, uint64(epoch)).permutation(int(n))
	}
	return p.order[place%n]
}

// step returns the packs of optimiser step n, counted from 1, and how many targets they hold.
func (p *plan) step(n int) (packs [][]int32, targets int) {
	var rows []int32
	for place := p.start[n-1]; place < p.start[n]; place++ {
		k := p.at(place)
		rows = append(rows, k)
		targets += int(p.set.targets[k])
	}
	return p.set.pack(rows, p.capacity), targets
}

// epochs returns how often each row has been seen on average after step n.
func (p *plan) epochs(n int) float64 {
	return float64(p.start[n]) / float64(len(p.set.rows))
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
