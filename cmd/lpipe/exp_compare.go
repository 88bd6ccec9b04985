package main

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"lpipe/plot"
	"lpipe/runner"
)

func (p *program) expCompareCommand() *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "what two instances differ in: variables, metrics, curves, outputs", ArgsUsage: "A B",
		Description: "A and B are instances (ranks/rank=8), or experiments of one instance. Of curves the last number is compared;\n--curves draws them.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "what is equal, too"},
			&cli.BoolFlag{Name: "curves", Usage: "draw the curves of both, as the flags below and lpipe plots do"},
		}, curveFlags()...),
		Action: p.expCompare,
	}
}

// comparison is one thing in which two instances may differ; nil is nothing.
type comparison struct {
	Name string   `json:"name"`
	A    any      `json:"a"`
	B    any      `json:"b"`
	Diff *float64 `json:"diff,omitempty"` // of metrics and curves: B - A
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
	sides, curves, err := p.comparedCurves(c, a, b)
	if err != nil {
		return err
	}
	parts := []comparedPart{{"variable", compareVars(a, b)}, {"metric", compareMetrics(a, b)}, {"curve", compareCurves(curves)}, {"output", nil}}
	if parts[3].list, err = p.compareOutputs(dir, a, b); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "a": a.FullName(), "b": b.FullName(),
			"vars": parts[0].list, "metrics": parts[1].list, "curves": parts[2].list, "outputs": parts[3].list})
	}
	rows := comparedRows(parts, c.Bool("all"))
	if len(rows) == 0 {
		p.say("%s and %s differ in no variable, metric, curve or output", a.FullName(), b.FullName())
	} else {
		table(p.stdout, append([][]string{{"", a.FullName(), b.FullName(), ""}}, rows...))
	}
	if c.Bool("curves") && len(curves) > 0 {
		fmt.Fprintln(p.stdout)
		return p.drawCurves(c, sides, curves)
	}
	return nil
}

// comparedPart are the comparisons of one kind.
type comparedPart struct {
	name string
	list []comparison
}

func comparedRows(parts []comparedPart, all bool) (rows [][]string) {
	for _, part := range parts {
		for _, one := range part.list {
			if one.A == one.B && !all {
				continue
			}
			diff := ""
			if one.Diff != nil {
				diff = fmt.Sprintf("%+.6g", *one.Diff)
			}
			rows = append(rows, []string{part.name + " " + one.Name, cellText(one.A, false), cellText(one.B, false), diff})
		}
	}
	return rows
}

// comparedCurves reads the curves of both. A pipeline that cannot be read now keeps nobody from comparing the rest.
func (p *program) comparedCurves(c *cli.Context, a, b *runner.ExperimentRecord) ([]sided, []runCurve, error) {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		p.say("curves are left out, since the pipeline cannot be read; lpipe validate tells why")
		return nil, nil, nil
	}
	defer pr.close(p)
	sides, err := p.sides(c.Context, pr, []string{a.FullName(), b.FullName()})
	if err != nil {
		return nil, nil, err
	}
	curves, err := readCurves(p, pr, c, nil, sides, whole)
	return sides, curves, err
}

// compareCurves compares the last number of each curve.
func compareCurves(curves []runCurve) []comparison {
	last := map[string]*[2]*float64{}
	for _, one := range curves {
		facts, name := plot.FactsOf(one.Curve), one.stage+"."+one.Name
		if last[name] == nil {
			last[name] = &[2]*float64{}
		}
		if facts.Points > 0 {
			last[name][one.side] = &facts.Last
		}
	}
	list := []comparison{}
	for _, name := range sortedKeys(last) {
		list = append(list, compareNumbers(name, last[name][0], last[name][1]))
	}
	return list
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
		list = append(list, compareNumbers(name, a.Metrics[name], b.Metrics[name]))
	}
	return list
}

// compareNumbers compares two numbers, either of which may be missing.
func compareNumbers(name string, a, b *float64) comparison {
	one := comparison{Name: name}
	if a != nil {
		one.A = *a
	}
	if b != nil {
		one.B = *b
	}
	if a != nil && b != nil {
		diff := *b - *a
		one.Diff = &diff
	}
	return one
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
