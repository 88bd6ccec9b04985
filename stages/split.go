package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"lpipe/dataset"
	"lpipe/runner"
)

// Split parts rows or sequences into train, validation and test, so that no problem stands in two of them.
type Split struct {
	Ratios     Ratios  `hcl:"ratios,optional" type:"object or list" doc:"shares of the rows: { train = 0.9, validation = 0.05, test = 0.05 }, or a list in this order; together 1"`
	Seed       int64   `hcl:"seed,optional" doc:"another seed, another split; a row's place depends on it and on the row alone"`
	By         string  `hcl:"by,optional" doc:"what stays together: cluster (rows with the same or a like prompt), row (the same prompt), or the rows of one value of a column: source, or one that convert keeps"`
	Stratify   string  `hcl:"stratify,optional" doc:"a column, as source: each of its values has the ratios among its own rows, nearly exactly; rows take turns in their order"`
	NGram      int     `hcl:"ngram,optional" unit:"words" doc:"by cluster: prompts that share so many words in a row stay together; shorter prompts as a whole; 0: only similarity counts"`
	Common     int     `hcl:"common,optional" unit:"rows" doc:"of words in a row that more rows have, a preamble say, the first so many rows stay together"`
	Similarity float64 `hcl:"similarity,optional" doc:"by cluster: prompts are alike from this Jaccard similarity of their five-word shingles on"`
}

// Ratios are the shares of the three sets.
type Ratios struct {
	Train      float64 `json:"train"`
	Validation float64 `json:"validation"`
	Test       float64 `json:"test"`
}

// UnmarshalJSON reads an object or a list; what an object leaves out is 0.
func (r *Ratios) UnmarshalJSON(b []byte) error {
	type plain Ratios
	var object plain
	if err := strictJSON(b, &object); err == nil {
		*r = Ratios(object)
		return nil
	}
	var list []float64
	if err := json.Unmarshal(b, &list); err != nil || len(list) < 1 || len(list) > 3 {
		return errors.New("takes { train = 0.9, validation = 0.05, test = 0.05 } or [0.9, 0.05, 0.05]")
	}
	list = append(list, 0, 0)
	*r = Ratios{list[0], list[1], list[2]}
	return nil
}

const (
	setTrain = iota
	setValidation
	setTest
	setCount
)

var setNames = [setCount]string{"train", "validation", "test"}

func (r Ratios) list() [setCount]float64 { return [setCount]float64{r.Train, r.Validation, r.Test} }

func splitKind() *runner.Kind {
	in := []runner.Port{
		{Name: "data", Optional: true, Doc: "rows; or else tokens"},
		{Name: "tokens", Optional: true, Doc: "token folder; or else data"},
	}
	outs := func(folder bool) []runner.Port {
		var list []runner.Port
		for _, name := range setNames {
			port := runner.Port{Name: name, Doc: "the " + name + " set: rows of data, or a token folder of tokens", Ext: ".jsonl"}
			if folder {
				port.Folder, port.Ext = true, ""
			}
			list = append(list, port)
		}
		return append(list, runner.Port{Name: "report", Optional: true, Ext: ".json", Doc: "sizes, what was dropped, and the proof that the sets share nothing"})
	}
	return &runner.Kind{
		Name:    "split",
		Doc:     "Train, validation and test sets without leakage.",
		Version: 2, // 2: rolling hashes of n-grams
		Shared:  true,
		In:      in,
		Out:     outs(false),
		Ports: func(_ runner.Stage, given map[string]bool) (ins, out []runner.Port) {
			return in, outs(given["tokens"])
		},
		New: func() runner.Stage {
			return &Split{Ratios: Ratios{0.9, 0.05, 0.05}, Seed: 42, By: "cluster", NGram: 8, Common: 1000, Similarity: 0.8}
		},
	}
}

// Check finds settings that do not fit together.
func (s *Split) Check() error {
	sum := 0.0
	for i, share := range s.Ratios.list() {
		if share < 0 || share > 1 {
			return fmt.Errorf("ratios: %s must be 0..1, not %v", setNames[i], share)
		}
		sum += share
	}
	if math.Abs(sum-1) > 1e-9 {
		return fmt.Errorf("ratios: must be 1 together, not %.6g", sum)
	}
	switch {
	case s.By == "":
		return errors.New("by: must be cluster, row or the name of a column")
	case s.Stratify != "" && s.By != "cluster" && s.By != "row":
		return fmt.Errorf("stratify: rows that stay together by column %q cannot be shared out by another; take by = \"cluster\"", s.By)
	case s.NGram < 0 || s.NGram > 100:
		return fmt.Errorf("ngram: must be 0..100 words, not %d", s.NGram)
	case s.Common < 2:
		return fmt.Errorf("common: must be at least 2 rows, not %d", s.Common)
	}
	return NearDuplicates{On: true, Threshold: s.Similarity, Shingle: defaultNear().Shingle}.check("similarity")
}

// Run splits.
func (s *Split) Run(ctx context.Context, env *runner.Env) error {
	data, folder := one(env, "data"), one(env, "tokens")
	if (data == "") == (folder == "") {
		return errors.New("in: name either data (rows) or tokens (a token folder)")
	}
	var from splitSource = &rowSource{env: env}
	if folder != "" {
		tokens, err := dataset.OpenTokens(folder)
		if err != nil {
			return err
		}
		defer tokens.Close()
		from = &tokenSource{env: env, tokens: tokens}
	}
	places, err := s.places(ctx, env, from)
	if err != nil {
		return err
	}
	defer places.close()
	return s.write(ctx, env, from, places)
}

// placed is a batch with the set of each of its rows; toDrop for one that has to go.
type placed struct {
	batch *splitBatch
	sets  []int
}

func (p *places) place(b *splitBatch) (any, error) {
	sets := make([]int, b.len())
	for i := range sets {
		var err error
		if sets[i], err = p.of(b.item(i)); err != nil {
			return nil, err
		}
	}
	return placed{b, sets}, nil
}

// write puts every row into its set.
func (s *Split) write(ctx context.Context, env *runner.Env, from splitSource, places *places) error {
	var to [setCount]splitSink
	for i, name := range setNames {
		sink, err := from.create(env.Out[name])
		if err != nil {
			return err
		}
		defer sink.Abandon()
		to[i] = sink
	}
	var counts [setCount]int64
	rep := newSplitReport(s, places)
	err := from.each(ctx, "splitting", places.share, 1-places.share, places.place, func(v any) error {
		p := v.(placed)
		for i, set := range p.sets {
			if set < 0 {
				rep.drop(p.batch.item(i))
				continue
			}
			counts[set]++
			rep.count(set, p.batch.item(i))
			if err := to[set].take(p.batch, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.judge(env, from, counts); err != nil {
		return err
	}
	rep.log(env)
	if err := rep.write(env.Out["report"]); err != nil {
		return err
	}
	for _, sink := range to {
		if err := sink.Close(); err != nil {
			return err
		}
	}
	return nil
}

// judge says how large the sets are, and refuses one that was asked for and got nothing.
func (s *Split) judge(env *runner.Env, from splitSource, counts [setCount]int64) error {
	total := counts[0] + counts[1] + counts[2]
	if total == 0 {
		return fmt.Errorf("%s: nothing in it to split", from.name())
	}
	for i, n := range counts {
		if share := s.Ratios.list()[i]; n == 0 && share > 0 {
			return fmt.Errorf("set %s got none of the %d %s: a share of %v is too small for so few; raise it in ratios, set it to 0, or try another seed", setNames[i], total, from.unit(), share)
		}
		logf(env, "%s: %d %s (%.2f %%)", setNames[i], n, from.unit(), 100*float64(n)/float64(total))
	}
	return nil
}

// set is the place of a hash among the shares.
func (s *Split) set(key uint64) int {
	return s.at(float64(mix(key^mix(uint64(s.Seed)))>>11) / (1 << 53))
}

// turn is the set of the n-th cluster of a stratum: multiples of the golden ratio, from a start by the stratum's name, fill the
// shares evenly from the first on (Weyl's sequence), and what comes later changes nothing.
func (s *Split) turn(stratum string, n uint64) int {
	start, _ := textHash(stratum)
	const golden = 0x9e3779b97f4a7c15 // 2^64 / φ
	return s.at(float64((mix(start^mix(uint64(s.Seed)))+n*golden)>>11) / (1 << 53))
}

// at is the set in whose share a number of 0..1 lies.
func (s *Split) at(u float64) int {
	sum := 0.0
	last := setTrain
	for i, share := range s.Ratios.list() {
		if share == 0 {
			continue
		}
		last = i
		if sum += share; u < sum {
			return i
		}
	}
	return last // the shares add up to a little less than 1
}
