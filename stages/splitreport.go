package stages

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"lpipe/runner"
)

// splitReport is the output report of split, schema 1.
type splitReport struct {
	Schema  int         `json:"schema"`
	By      string      `json:"by"`
	Rows    int64       `json:"rows"`
	Sets    []setReport `json:"sets"`
	Dropped int64       `json:"dropped"`
	// List are the dropped rows: those whose prompt hangs together with rows of two sets.
	List  []droppedRow `json:"dropped_rows"`
	Proof *proof       `json:"proof"`
	// Strata are the rows by set of each value of the column stratify.
	Strata []stratumReport `json:"strata,omitempty"`

	split  *Split
	strata map[string]*[setCount]int64
}

type setReport struct {
	Set   string  `json:"set"`
	Rows  int64   `json:"rows"`
	Share float64 `json:"share"`
	Asked float64 `json:"asked"`
}

type droppedRow struct {
	Row int64  `json:"row"`
	ID  string `json:"id"`
}

type stratumReport struct {
	Value string          `json:"value"`
	Rows  [setCount]int64 `json:"rows"` // train, validation, test
}

func newSplitReport(s *Split, p *places) *splitReport {
	r := &splitReport{Schema: 1, By: s.By, List: []droppedRow{}, Proof: p.proof, split: s, strata: map[string]*[setCount]int64{}}
	for i, name := range setNames {
		r.Sets = append(r.Sets, setReport{Set: name, Asked: s.Ratios.list()[i]})
	}
	return r
}

func (r *splitReport) count(set int, item splitItem) {
	r.Rows++
	r.Sets[set].Rows++
	if r.split.Stratify == "" {
		return
	}
	value, _ := item.column(r.split.Stratify)
	if r.strata[value] == nil {
		r.strata[value] = &[setCount]int64{}
	}
	r.strata[value][set]++
}

// drop lists a row that is dropped.
func (r *splitReport) drop(item splitItem) {
	r.Rows++
	r.Dropped++
	r.List = append(r.List, droppedRow{item.number, item.id})
}

func (r *splitReport) log(env *runner.Env) {
	if len(r.List) > 0 {
		logf(env, "  %d dropped: the prompt hangs together with rows of two sets (first: number %d, id %q)", r.Dropped, r.List[0].Row, r.List[0].ID)
	}
	if p := r.Proof; p != nil {
		logf(env, "  shared by two sets: %d runs of %d words, %d pairs of prompts alike by %g or more; %d runs that stand in very many rows", p.Shared, p.NGram, p.Pairs, p.Similarity, p.Common)
		if p.Partly > 0 {
			logf(env, "  %d rows have very many others that are half like them, and were compared with %d of those in a band", p.Partly, mostKinds)
		}
	}
}

// write writes the output report, where it is declared.
func (r *splitReport) write(path string) error {
	if path == "" {
		return nil
	}
	for i := range r.Sets {
		r.Sets[i].Share = round4(float64(r.Sets[i].Rows) / float64(max(r.Rows-r.Dropped, 1)))
	}
	for value, rows := range r.strata {
		r.Strata = append(r.Strata, stratumReport{value, *rows})
	}
	slices.SortFunc(r.Strata, func(a, b stratumReport) int { return strings.Compare(a.Value, b.Value) })
	raw, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = writeFile(path, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
