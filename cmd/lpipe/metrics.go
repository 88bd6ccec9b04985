package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) metricsCommand() *cli.Command {
	return &cli.Command{
		Name: "metrics", Category: categoryLook, Usage: "numbers that the stages' outputs hold", ArgsUsage: "[TARGET...]",
		Description: "Reads the outputs marked as metrics (built-in kinds know theirs; `metrics = [\"name\"]` in a shell stage):\n" +
			"JSON files whole, of JSONL files the last line. Names are dotted paths. A stage named diff: lpipe metrics -- diff.",
		Flags:       append([]cli.Flag{ofFlag()}, tableFlags()...),
		Subcommands: []*cli.Command{p.metricsDiffCommand()},
		Action:      p.metrics,
	}
}

func ofFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "of", Usage: "of `NAME` instead of the workspace: an experiment, an instance, a lock file, a profile, a Git revision, \"workspace\" (again for more)"}
}

func tableFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "csv", Usage: "print CSV"}, &cli.BoolFlag{Name: "md", Usage: "print a Markdown table"}}
}

// metric is one number; NaN and infinities are null.
type metric struct {
	Of    string   `json:"of,omitempty"` // where it was asked for
	Stage string   `json:"stage"`
	Name  string   `json:"name"`
	Value *float64 `json:"value"`
}

func (p *program) metrics(c *cli.Context) error {
	if len(c.StringSlice("of")) > 0 {
		return p.metricsOfMany(c)
	}
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	steps, err := p.choose(pipeline, c.Args().Slice())
	if err != nil {
		return err
	}
	found, missing := []metric{}, []string{}
	for _, step := range steps {
		for _, out := range step.MetricOutputs() {
			numbers, err := runner.ReadMetrics(filepath.Join(pipeline.Dir, filepath.FromSlash(out.Path)))
			if errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, step.Name)
				continue
			}
			if err != nil {
				return fmt.Errorf("metrics of %s: %s: %w", step.Name, out.Path, err)
			}
			for _, n := range numbers {
				found = append(found, metric{"", step.Name, n.Name, n.Value})
			}
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "metrics": found})
	}
	rows := [][]string{}
	if c.Bool("csv") || c.Bool("md") {
		rows = append(rows, []string{"stage", "name", "value"})
	}
	for _, m := range found {
		rows = append(rows, []string{m.Stage, m.Name, valueText(m.Value, c.Bool("csv"), "null")})
	}
	if err := p.printRows(c, rows); err != nil {
		return err
	}
	switch {
	case len(missing) > 0:
		p.say("not there yet: %s; lpipe repro makes them", joinNames(slices.Compact(missing)))
	case len(found) == 0:
		p.say("no stage here has metrics; train and evaluate do, a shell stage names its own with metrics = [\"…\"]")
	}
	return nil
}

// valueText is a number for people, or with all its digits; what is none is written as given.
func valueText(value *float64, whole bool, none string) string {
	switch {
	case value == nil:
		return none
	case whole:
		return strconv.FormatFloat(*value, 'g', -1, 64)
	}
	return shortNumber(*value)
}

// metricsOfMany prints a column for each thing that is named by --of.
func (p *program) metricsOfMany(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	sides, err := p.sides(c.Context, pr, c.StringSlice("of"))
	if err != nil {
		return err
	}
	found := []metric{}
	for _, side := range sides {
		stages, err := p.stagesOf(pr, side, c.Args().Slice())
		if err != nil {
			return err
		}
		for _, stage := range stages {
			numbers := p.metricsOrWhy(pr, side, stage)
			for _, name := range sortedKeys(numbers) {
				found = append(found, metric{side.Name, stage, name, numbers[name]})
			}
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "metrics": found})
	}
	head := []string{"stage", "name"}
	for _, side := range sides {
		head = append(head, side.Name)
	}
	return p.printRows(c, append([][]string{head}, pivot(found, sides, c.Bool("csv"))...))
}

// pivot makes a row of each number, with a column for each side.
func pivot(found []metric, sides []sided, whole bool) [][]string {
	values := map[[2]string]map[string]*float64{}
	var order [][2]string
	for _, m := range found {
		at := [2]string{m.Stage, m.Name}
		if values[at] == nil {
			values[at] = map[string]*float64{}
			order = append(order, at)
		}
		values[at][m.Of] = m.Value
	}
	slices.SortStableFunc(order, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	rows := [][]string{}
	for _, at := range order {
		row := []string{at[0], at[1]}
		for _, side := range sides {
			none := ""
			if _, there := values[at][side.Name]; there {
				none = "null"
			}
			row = append(row, valueText(values[at][side.Name], whole, none))
		}
		rows = append(rows, row)
	}
	return rows
}

// metricsOrWhy is metricsOf that says what cannot be read.
func (p *program) metricsOrWhy(pr *project, side sided, stage string) map[string]*float64 {
	for _, file := range markedFiles(pr, side, stage, metricFiles()) {
		if _, err := file.metrics(); err != nil {
			p.sayUnread(side, file, err)
		}
	}
	return metricsOf(pr, side, stage)
}

// sayUnread says why a file gives nothing, and what to do.
func (p *program) sayUnread(side sided, file markedFile, err error) {
	switch {
	case missing(err) && side.workspace:
		p.say("not there yet: %s; lpipe repro makes it", file.stage)
	case missing(err):
		p.say("%s of %s is neither in the cache nor in a workspace; lpipe fetch may bring it", file.path, side.Name)
	default:
		p.warn("%s of %s: %v", file.path, side.Name, err)
	}
}

func (p *program) metricsDiffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "numbers that differ between two locks, profiles, instances of experiments or Git revisions, or to the workspace", ArgsUsage: "[A] [B]",
		Description: "Without B, A is compared with the workspace; without A, the lock is. Nothing is hashed: numbers are compared, not files.",
		Flags:       append([]cli.Flag{&cli.BoolFlag{Name: "all", Usage: "what is equal, too"}}, tableFlags()...),
		Action:      p.metricsDiff,
	}
}

func (p *program) metricsDiff(c *cli.Context) error {
	if c.Args().Len() > 2 {
		return usagef("metrics diff takes two of: lock files, profiles, experiments' instances, Git revisions")
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	a, err := p.diffSide(c.Context, pr, c.Args().Get(0))
	if err != nil {
		return err
	}
	b := workspaceSide(pr)
	if c.Args().Len() == 2 {
		if b, err = p.diffSide(c.Context, pr, c.Args().Get(1)); err != nil {
			return err
		}
	}
	diffs := []metricDiff{}
	for _, stage := range sortedKeys(mergedStages(a, b)) {
		diffs = append(diffs, diffNumbers(stage, p.metricsOrWhy(pr, a, stage), p.metricsOrWhy(pr, b, stage), c.Bool("all"))...)
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "a": a.Name, "b": b.Name, "metrics": diffs})
	}
	if len(diffs) == 0 {
		p.say("no number differs between %s and %s", a.Name, b.Name)
		return nil
	}
	rows := [][]string{{"stage", "name", a.Name, b.Name, "difference"}}
	for _, d := range diffs {
		rows = append(rows, []string{d.Stage, d.Name, valueText(d.Old, c.Bool("csv"), ""), valueText(d.New, c.Bool("csv"), ""), differenceText(d)})
	}
	return p.printRows(c, rows)
}

func mergedStages(a, b sided) map[string]bool {
	names := map[string]bool{}
	for _, side := range []sided{a, b} {
		for name := range side.Stages {
			names[name] = true
		}
	}
	return names
}

// diffNumbers lists the numbers of a stage that differ, or all of them.
func diffNumbers(stage string, was, is map[string]*float64, all bool) []metricDiff {
	names := map[string]bool{}
	for _, numbers := range []map[string]*float64{was, is} {
		for name := range numbers {
			names[name] = true
		}
	}
	var diffs []metricDiff
	for _, name := range sortedKeys(names) {
		old, before := was[name]
		fresh, now := is[name]
		same := before == now && (old == nil) == (fresh == nil) && (old == nil || *old == *fresh)
		if all || !same {
			diffs = append(diffs, metricDiff{stage, name, old, fresh})
		}
	}
	return diffs
}

// choose returns the steps that targets name, all without targets.
func (p *program) choose(pipeline *runner.Pipeline, targets []string) ([]*runner.Step, error) {
	if len(targets) == 0 {
		return pipeline.Steps, nil
	}
	plan, diags := runner.NewPlan(pipeline, runner.PlanOptions{Known: func(string) bool { return true }})
	if err := p.diagnosePlan(diags, pipeline); err != nil {
		return nil, err
	}
	nodes, err := plan.Select(runner.Selection{Targets: targets, Only: true})
	if err != nil {
		return nil, err
	}
	var steps []*runner.Step
	for _, node := range nodes {
		steps = append(steps, node.Step)
	}
	return steps, nil
}
