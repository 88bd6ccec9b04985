package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) expCompareCommand() *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "what two instances differ in: variables, metrics, outputs", ArgsUsage: "A B",
		Description: "A and B are instances (ranks/rank=8), or experiments of one instance.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "what is equal, too"}},
		Action:      p.expCompare,
	}
}

// comparison is one thing in which two instances may differ; nil is nothing.
type comparison struct {
	Name string   `json:"name"`
	A    any      `json:"a"`
	B    any      `json:"b"`
	Diff *float64 `json:"diff,omitempty"` // of metrics: B - A
}

func (p *program) expCompare(c *cli.Context) error {
	if c.Args().Len() != 2 {
		return usagef("exp compare takes two instances; lpipe exp show lists them")
	}
	dir, err := p.workspace()
	if err != nil {
		return err
	}
	a, err := oneInstance(dir, c.Args().Get(0))
	if err != nil {
		return err
	}
	b, err := oneInstance(dir, c.Args().Get(1))
	if err != nil {
		return err
	}
	vars, metrics := compareVars(a, b), compareMetrics(a, b)
	outputs, err := p.compareOutputs(dir, a, b)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "a": a.FullName(), "b": b.FullName(), "vars": vars, "metrics": metrics, "outputs": outputs})
	}
	rows := [][]string{{"", a.FullName(), b.FullName(), ""}}
	for _, part := range []struct {
		name string
		list []comparison
	}{{"variable", vars}, {"metric", metrics}, {"output", outputs}} {
		for _, one := range part.list {
			if one.A == one.B && !c.Bool("all") {
				continue
			}
			diff := ""
			if one.Diff != nil {
				diff = fmt.Sprintf("%+.6g", *one.Diff)
			}
			rows = append(rows, []string{part.name + " " + one.Name, cellText(one.A, false), cellText(one.B, false), diff})
		}
	}
	if len(rows) == 1 {
		p.say("%s and %s differ in no variable, metric or output", a.FullName(), b.FullName())
		return nil
	}
	table(p.stdout, rows)
	return nil
}

// oneInstance is the record that a name means, if it means one.
func oneInstance(dir, name string) (*runner.ExperimentRecord, error) {
	_, records, err := runner.FindExperiments(dir, name)
	if err != nil {
		return nil, err
	}
	if len(records) != 1 {
		return nil, usagef("%s has %d instances; name one of them, like %s", name, len(records), records[0].FullName())
	}
	return records[0], nil
}

func compareVars(a, b *runner.ExperimentRecord) []comparison {
	all := map[string]bool{}
	for _, r := range []*runner.ExperimentRecord{a, b} {
		for name := range r.Vars {
			all[name] = true
		}
	}
	list := []comparison{}
	for _, name := range sortedKeys(all) {
		list = append(list, comparison{Name: name, A: a.Cell(name), B: b.Cell(name)})
	}
	return list
}

func compareMetrics(a, b *runner.ExperimentRecord) []comparison {
	all := map[string]bool{}
	for _, r := range []*runner.ExperimentRecord{a, b} {
		for name := range r.Metrics {
			all[name] = true
		}
	}
	list := []comparison{}
	for _, name := range sortedKeys(all) {
		one := comparison{Name: name}
		x, y := a.Metrics[name], b.Metrics[name]
		if x != nil {
			one.A = *x
		}
		if y != nil {
			one.B = *y
		}
		if x != nil && y != nil {
			diff := *y - *x
			one.Diff = &diff
		}
		list = append(list, one)
	}
	return list
}

// compareOutputs compares by content, which is shown in short.
func (p *program) compareOutputs(dir string, a, b *runner.ExperimentRecord) ([]comparison, error) {
	outputs, err := [2]map[string]string{}, error(nil)
	all := map[string]bool{}
	for i, r := range []*runner.ExperimentRecord{a, b} {
		outputs[i] = map[string]string{}
		e, _, found := runner.FindExperiments(dir, r.Experiment)
		if found != nil {
			return nil, found
		}
		var lock *runner.Lock
		if lock, err = runner.ReadLock(runner.LockPath(filepath.Clean(r.Dir(dir)), e.Profile)); err != nil {
			return nil, err
		}
		for stage, recorded := range lock.Stages {
			for name, out := range recorded.Out {
				outputs[i][stage+"."+name] = out.ID.String()[:12]
				all[stage+"."+name] = true
			}
		}
	}
	list := []comparison{}
	for _, name := range sortedKeys(all) {
		one := comparison{Name: name}
		if id, ok := outputs[0][name]; ok {
			one.A = id
		}
		if id, ok := outputs[1][name]; ok {
			one.B = id
		}
		list = append(list, one)
	}
	return list, nil
}
