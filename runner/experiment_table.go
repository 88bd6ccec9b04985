package runner

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Cell is what a record holds under a column's name: name, state, seconds, rung, a variable, or a metric; a string, a
// float64, or nil for nothing.
func (r *ExperimentRecord) Cell(column string) any {
	switch column {
	case "name":
		return r.FullName()
	case "state":
		return r.State
	case "seconds":
		return r.Seconds
	case "rung":
		if !r.Stopped() {
			return nil
		}
		return float64(r.Rung)
	}
	if value, ok := r.Vars[column]; ok {
		var number float64
		if json.Unmarshal(value, &number) == nil && string(value) != "null" {
			return number
		}
		return ValueText(string(value))
	}
	if value := r.Metrics[column]; value != nil {
		return *value
	}
	return nil
}

// ExperimentColumns are the names that Cell knows for some records: first the fixed ones, then variables, then metrics.
func ExperimentColumns(records []*ExperimentRecord) []string {
	vars, metrics := map[string]bool{}, map[string]bool{}
	for _, r := range records {
		for name := range r.Vars {
			vars[name] = true
		}
		for name := range r.Metrics {
			metrics[name] = true
		}
	}
	return slices.Concat([]string{"name", "state", "seconds", "rung"}, sortedKeys(vars), sortedKeys(metrics))
}

// SortExperiments sorts by a column, with a "-" before its name from the top down. Records without a value come last;
// equal ones keep the order of their points.
func SortExperiments(records []*ExperimentRecord, column string) error {
	varying := VaryingVars(records)
	slices.SortStableFunc(records, func(a, b *ExperimentRecord) int {
		order := strings.Compare(a.Experiment, b.Experiment)
		for _, name := range varying {
			order = cmp.Or(order, compareCells(a.Cell(name), b.Cell(name)))
		}
		return cmp.Or(order, strings.Compare(a.Instance, b.Instance))
	})
	if column == "" {
		return nil
	}
	name, down := strings.CutPrefix(column, "-")
	if known := ExperimentColumns(records); len(records) > 0 && !slices.Contains(known, name) {
		return usage("there is no column %q to sort by. %s", name, suggest(name, known, "columns"))
	}
	slices.SortStableFunc(records, func(a, b *ExperimentRecord) int {
		x, y := a.Cell(name), b.Cell(name)
		if down && x != nil && y != nil {
			return compareCells(y, x)
		}
		return compareCells(x, y)
	})
	return nil
}

// compareCells puts numbers before text, and nothing last.
func compareCells(a, b any) int {
	x, aNumber := a.(float64)
	y, bNumber := b.(float64)
	switch {
	case aNumber && bNumber:
		return cmp.Compare(x, y)
	case a == nil || b == nil:
		return cmp.Compare(btoi(a == nil), btoi(b == nil))
	case aNumber || bNumber:
		return cmp.Compare(btoi(bNumber), btoi(aNumber))
	}
	return strings.Compare(a.(string), b.(string))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FilterExperiments keeps the records that meet every condition: COLUMN OP VALUE, with one of = != < <= > >=.
func FilterExperiments(records []*ExperimentRecord, conditions []string) ([]*ExperimentRecord, error) {
	kept := slices.Clone(records)
	known := ExperimentColumns(records)
	for _, text := range conditions {
		at := strings.IndexAny(text, "=!<>")
		if at <= 0 {
			return nil, usage("%q is no condition; write it as COLUMN=VALUE, with one of = != < <= > >=", text)
		}
		column, rest := strings.TrimSpace(text[:at]), text[at:]
		op := rest[:1]
		if len(rest) > 1 && rest[1] == '=' {
			op = rest[:2]
		}
		value := strings.TrimSpace(rest[len(op):])
		if op == "!" {
			return nil, usage("%q is no condition; write it as COLUMN=VALUE, with one of = != < <= > >=", text)
		}
		if len(records) > 0 && !slices.Contains(known, column) {
			return nil, usage("there is no column %q to filter by. %s", column, suggest(column, known, "columns"))
		}
		kept = slices.DeleteFunc(kept, func(r *ExperimentRecord) bool { return !holds(r.Cell(column), op, value) })
	}
	return kept, nil
}

// holds compares as numbers where both sides are, else as text. Nothing differs from everything.
func holds(cell any, op, value string) bool {
	if cell == nil {
		return op == "!="
	}
	var want any = value
	if _, number := cell.(float64); number {
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return op == "!="
		}
		want = f
	}
	order := compareCells(cell, want)
	switch op {
	case "=", "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order >= 0
}

// Spread is what some numbers have in common: their mean, and the standard deviation of the sample (0 of one).
type Spread struct {
	Count int     `json:"count"`
	Mean  float64 `json:"mean"`
	Std   float64 `json:"std"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
}

// ExperimentGroup are the finished records with the same values of some variables.
type ExperimentGroup struct {
	Vars    map[string]json.RawMessage `json:"vars"`
	Count   int                        `json:"count"`
	Metrics map[string]Spread          `json:"metrics"`
	Seconds Spread                     `json:"seconds"`
	Records []*ExperimentRecord        `json:"-"`
}

// GroupExperiments puts finished records together that agree in some variables, in the order of their values.
func GroupExperiments(records []*ExperimentRecord, by []string) ([]ExperimentGroup, error) {
	vars := map[string]bool{}
	for _, r := range records {
		for name := range r.Vars {
			vars[name] = true
		}
	}
	for _, name := range by {
		if len(records) > 0 && !vars[name] {
			return nil, usage("there is no variable %q to group by. %s", name, suggest(name, sortedKeys(vars), "variables"))
		}
	}
	members, order := map[string][]*ExperimentRecord{}, []string{}
	sorted := slices.Clone(records)
	slices.SortStableFunc(sorted, func(a, b *ExperimentRecord) (order int) {
		for _, name := range by {
			order = cmp.Or(order, compareCells(a.Cell(name), b.Cell(name)))
		}
		return order
	})
	for _, r := range sorted {
		if r.State != ExperimentDone {
			continue
		}
		var key strings.Builder
		for _, name := range by {
			key.Write(append(r.Vars[name], '\n'))
		}
		if _, seen := members[key.String()]; !seen {
			order = append(order, key.String())
		}
		members[key.String()] = append(members[key.String()], r)
	}
	groups := []ExperimentGroup{}
	for _, key := range order {
		groups = append(groups, groupOf(members[key], by))
	}
	return groups, nil
}

func groupOf(records []*ExperimentRecord, by []string) ExperimentGroup {
	g := ExperimentGroup{Vars: map[string]json.RawMessage{}, Count: len(records), Metrics: map[string]Spread{}, Records: records}
	for _, name := range by {
		g.Vars[name] = records[0].Vars[name]
	}
	values := map[string][]float64{}
	var seconds []float64
	for _, r := range records {
		seconds = append(seconds, r.Seconds)
		for name, value := range r.Metrics {
			if value != nil {
				values[name] = append(values[name], *value)
			}
		}
	}
	for name, list := range values {
		g.Metrics[name] = spreadOf(list)
	}
	g.Seconds = spreadOf(seconds)
	return g
}

func spreadOf(values []float64) Spread {
	s := Spread{Count: len(values), Min: slices.Min(values), Max: slices.Max(values)}
	for _, v := range values {
		s.Mean += v
	}
	s.Mean /= float64(len(values))
	if len(values) > 1 {
		for _, v := range values {
			s.Std += (v - s.Mean) * (v - s.Mean)
		}
		s.Std = math.Sqrt(s.Std / float64(len(values)-1))
	}
	return s
}
