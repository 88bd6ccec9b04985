package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
	"lpipe/stages"
)

func (p *program) diffCommand() *cli.Command {
	return &cli.Command{
		Name: "diff", Category: categoryLook, Usage: "what differs between two locks, profiles or Git revisions, or to the workspace", ArgsUsage: "[A] [B]",
		Description: "A and B are lock files, profiles, experiments' instances or Git revisions. Without B, A is compared with the workspace;\n" +
			"without A, the lock is. Shows stages and what changed of their keys, outputs and the files in them,\n" +
			"sources, metrics, and variables where both sides' values are known.",
		Action: p.diff,
	}
}

// sided is one side of a diff.
type sided struct {
	runner.Snapshot
	workspace bool
	dir       string                   // where its outputs stand, if they do anywhere; absolute
	record    *runner.ExperimentRecord // of an experiment's instance
}

func (p *program) diff(c *cli.Context) error {
	if c.Args().Len() > 2 {
		return usagef("diff takes two of: lock files, profiles, experiments' instances, Git revisions")
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
	b := sided{workspace: true}
	if c.Args().Len() == 2 {
		b, err = p.diffSide(c.Context, pr, c.Args().Get(1))
	} else {
		b.Snapshot, err = pr.runner.WorkspaceSnapshot(c.Context)
	}
	if err != nil {
		return err
	}
	report := diffReport{pr.runner.Diff(a.Snapshot, b.Snapshot), p.diffMetrics(pr, a, b)}
	if p.json {
		return p.printJSON(report)
	}
	p.printDiff(report)
	return nil
}

// diffReport is schema 1 of `diff --json`.
type diffReport struct {
	runner.DiffReport
	Metrics []metricDiff `json:"metrics"`
}

type metricDiff struct {
	Stage string   `json:"stage"`
	Name  string   `json:"name"`
	Old   *float64 `json:"old"`
	New   *float64 `json:"new"`
}

// diffSide finds what an argument means: "" is the lock of the current profile; else a lock file, a profile, an instance
// of an experiment, a Git revision, in this order.
func (p *program) diffSide(ctx context.Context, pr *project, arg string) (sided, error) {
	if arg == "" {
		s, err := pr.runner.RecordedSnapshot()
		return sided{Snapshot: s}, err
	}
	if info, err := os.Stat(p.path(arg)); err == nil && info.Mode().IsRegular() {
		lock, err := runner.ReadLock(p.path(arg))
		if err != nil {
			return sided{}, err
		}
		return sided{Snapshot: pr.runner.LockSnapshot(arg, lock)}, nil
	}
	other := p.decodeProfile(pr.pipeline.Dir, arg)
	at := runner.LockPath(pr.pipeline.Dir, arg)
	if _, err := os.Stat(at); err == nil && filepath.Base(arg) == arg {
		lock, err := runner.ReadLock(at)
		if err != nil {
			return sided{}, err
		}
		s := pr.runner.LockSnapshot("profile "+arg, lock)
		s.Variables = other
		return sided{Snapshot: s}, nil
	}
	if other == nil && runner.HasExperiment(pr.pipeline.Dir, arg) {
		record, err := oneInstance(pr.pipeline.Dir, arg)
		if err != nil {
			return sided{}, err
		}
		experiment, _, err := runner.FindExperiments(pr.pipeline.Dir, record.FullName())
		if err != nil {
			return sided{}, err
		}
		return instanceSide(pr, experiment, record)
	}
	s, err := p.gitSide(ctx, pr, arg)
	if err != nil && other != nil {
		return sided{}, usagef("profile %s has no lock yet; lpipe --profile %s repro makes one", arg, arg)
	}
	return sided{Snapshot: s}, err
}

// instanceSide is what the lock of an experiment's instance tells; an instance that never came so far has nothing.
func instanceSide(pr *project, experiment *runner.Experiment, record *runner.ExperimentRecord) (sided, error) {
	dir := record.Dir(pr.pipeline.Dir)
	lock, err := runner.ReadLock(runner.LockPath(dir, experiment.Profile))
	if err != nil {
		return sided{}, fmt.Errorf("lock of %s: %w", record.FullName(), err)
	}
	s := sided{Snapshot: pr.runner.LockSnapshot(record.FullName(), lock), dir: dir, record: record}
	for _, name := range sortedKeys(record.Vars) {
		s.Variables = append(s.Variables, runner.Variable{Name: name, Value: string(record.Vars[name])})
	}
	return s, nil
}

// decodeProfile returns the values that a profile's variables have now; nil without such a profile.
func (p *program) decodeProfile(dir, profile string) []runner.Variable {
	pipeline, diags := runner.Decode(runner.DecodeOptions{
		Dir: p.dir, Files: p.files, Profile: profile, Vars: p.vars, VarFiles: p.varFiles,
		Getenv: p.lookupEnv, Environ: p.envNames(), Version: release, Kinds: stages.Kinds(),
	})
	if diags.HasErrors() || pipeline == nil || pipeline.Dir != dir {
		return nil
	}
	return pipeline.Variables
}

// diffMetrics compares the numbers in the outputs marked as metrics, of stages that have them on either side.
func (p *program) diffMetrics(pr *project, a, b sided) []metricDiff {
	diffs := []metricDiff{}
	for _, stage := range sortedKeys(mergedStages(a, b)) {
		if _, both := a.Stages[stage]; both && maps.Equal(a.Stages[stage].Out, b.Stages[stage].Out) {
			continue
		}
		diffs = append(diffs, diffNumbers(stage, metricsOf(pr, a, stage), metricsOf(pr, b, stage), false)...)
	}
	return diffs
}

// metricsOf reads one stage's numbers from the cache, or from the workspace where that is the side. What is nowhere, or
// holds no numbers, has none: diff tells what is known.
func metricsOf(pr *project, side sided, stage string) map[string]*float64 {
	found := map[string]*float64{}
	for _, file := range markedFiles(pr, side, stage, metricFiles()) {
		numbers, err := file.metrics()
		if err != nil {
			continue
		}
		for _, n := range numbers {
			found[n.Name] = n.Value
		}
	}
	return found
}

// shownFiles is how many files of a changed folder are listed without --verbose.
const shownFiles = 10

func (p *program) printDiff(d diffReport) {
	if d.Same() && len(d.Metrics) == 0 {
		p.result("nothing differs between %s and %s", d.A, d.B)
		return
	}
	p.say("%s → %s", d.A, d.B)
	for _, s := range d.Stages {
		p.result("%s", strings.TrimRight(p.changeMark(s.Change)+" stage "+p.paintResult(bold, s.Name)+"  "+reasonText(s.Reasons), " "))
		for _, out := range s.Outputs {
			p.printContentDiff("    ", "output", out)
		}
	}
	for _, s := range d.Sources {
		p.printContentDiff("", "source", s)
	}
	rows := [][]string{}
	for _, m := range d.Metrics {
		rows = append(rows, []string{p.changeMark(runner.ChangeChanged) + " metric " + m.Stage, m.Name, numberText(m.Old) + " → " + numberText(m.New), differenceText(m)})
	}
	table(p.stdout, rows)
	for _, v := range d.Variables {
		p.result("%s variable %s%s", p.changeMark(runner.ChangeChanged), v.Name, change(runner.Reason{Old: v.Old, New: v.New}, 60))
	}
}

func (p *program) printContentDiff(indent, what string, d runner.ContentDiff) {
	sizes := ""
	switch {
	case d.Change == runner.ChangeAdded:
		sizes = bytesText(d.NewBytes)
	case d.Change == runner.ChangeRemoved:
		sizes = bytesText(d.OldBytes)
	case d.OldBytes != d.NewBytes:
		sizes = bytesText(d.OldBytes) + " → " + bytesText(d.NewBytes)
	case d.Old != d.New:
		sizes = bytesText(d.NewBytes) + ", other content"
	}
	path := d.Path
	if d.OldPath != "" {
		path = d.OldPath + " → " + d.Path
	}
	p.result("%s%s %s %s  %s", indent, p.changeMark(d.Change), what, path, sizes)
	count := len(d.Files)
	if !p.verbose {
		count = min(count, shownFiles)
	}
	for _, f := range d.Files[:count] {
		p.result("%s    %s %s", indent, p.changeMark(f.Change), f.Path)
	}
	if more := len(d.Files) - count; more > 0 {
		p.result("%s      … and %d more (-v lists them)", indent, more)
	}
	if d.Unknown {
		p.result("%s      the cache lacks a part of it, so not every file is known; lpipe fetch may bring it", indent)
	}
}

// changeMark is +, - or ~ for added, removed and changed.
func (p *program) changeMark(change string) string {
	switch change {
	case runner.ChangeAdded:
		return p.paintResult(green, "+")
	case runner.ChangeRemoved:
		return p.paintResult(red, "-")
	}
	return p.paintResult(yellow, "~")
}

func numberText(n *float64) string {
	if n == nil {
		return "none"
	}
	return strconv.FormatFloat(*n, 'g', 6, 64)
}

func differenceText(m metricDiff) string {
	if m.Old == nil || m.New == nil {
		return ""
	}
	text := strconv.FormatFloat(*m.New-*m.Old, 'g', 3, 64)
	if !strings.HasPrefix(text, "-") {
		text = "+" + text
	}
	return text
}
