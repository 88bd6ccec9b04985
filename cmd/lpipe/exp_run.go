package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/plot"
	"lpipe/runner"
)

func isDamaged(err error) bool { return errors.Is(err, errDamaged) }

func (p *program) expRunCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "run an experiment, or go on with one", ArgsUsage: "[NAME[/INSTANCE] [TARGET...]]",
		Description: "NAME is an experiment block of pipeline.hcl, or a name for what --set says; without it, the only block there is, or\n" +
			"the names of the variables. Instances run in parallel, each in a workspace of its own under .lpipe/exp; what they share\n" +
			"is computed once. Stop it at any time: the same command goes on, and runs failed instances again.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "set", Usage: "`NAME=VALUE`, or several as a list: 'rank=[8,16]', 'lr=logspace(1e-4, 1e-2, 5)' (again for more variables)"},
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "run `N` stages at once (default: as many as CPUs)"},
			&cli.BoolFlag{Name: "no-remote", Usage: "look no results up in the remote"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only list the instances"},
		},
		Action: p.expRun,
	}
}

func (p *program) expRun(c *cli.Context) error {
	if c.Int("jobs") < 0 {
		return usagef("-j needs a number of stages above 0")
	}
	options := p.decodeOptions()
	options.Sets = c.StringSlice("set")
	pipeline, err := p.decodeWith(options)
	if err != nil {
		return err
	}
	named, targets := c.Args().First(), c.Args().Tail()
	if p.isTarget(pipeline, named) {
		named, targets = "", c.Args().Slice()
	}
	name, only, _ := strings.Cut(named, "/")
	block, declared, err := chooseExperiment(pipeline, name)
	if err != nil {
		return err
	}
	if len(targets) > 0 {
		block.Targets = targets
	}
	if _, err := p.choose(pipeline, block.Targets); err != nil {
		return err
	}
	instances, err := block.Instances(pipeline.Sets)
	if err != nil {
		return err
	}
	if instances, err = onlyInstance(instances, block.Name, only); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return p.listInstances(block, instances)
	}
	sweep, err := p.decodeInstances(instances)
	if err != nil {
		return err
	}
	return p.sweep(c, pipeline, runner.SweepOptions{Experiment: block, Block: declared, Instances: sweep, Whole: only != "", Curve: curvePoints})
}

// isTarget tells whether the first word beside --set is a target rather than a name: no experiment is called so, and a
// stage or an output is.
func (p *program) isTarget(pipeline *runner.Pipeline, word string) bool {
	if word == "" || len(pipeline.Sets) == 0 {
		return false
	}
	name, _, _ := strings.Cut(word, "/")
	for _, b := range pipeline.Experiments {
		if b.Name == name {
			return false
		}
	}
	if _, _, err := runner.FindExperiments(pipeline.Dir, name); err == nil {
		return false
	}
	_, err := p.choose(pipeline, []string{word})
	return err == nil
}

// chooseExperiment finds what a name means: a block, else what --set describes, else an earlier --set by its name.
func chooseExperiment(pipeline *runner.Pipeline, name string) (block runner.ExperimentBlock, declared bool, err error) {
	blocks := pipeline.Experiments
	var names []string
	for _, b := range blocks {
		names = append(names, b.Name)
	}
	switch {
	case name == "" && len(pipeline.Sets) > 0:
		name = strings.Join(setNames(pipeline), "-")
	case name == "" && len(blocks) == 1:
		return *blocks[0], true, nil
	case name == "" && len(blocks) == 0:
		return block, false, usagef("pipeline.hcl declares no experiment; add a block (experiment \"ranks\" { matrix = { rank = [8, 16] } }) or say what to vary: lpipe exp run --set 'rank=[8,16]'")
	case name == "":
		return block, false, usagef("name the experiment to run: %s", strings.Join(names, ", "))
	}
	for _, b := range blocks {
		if b.Name == name {
			return *b, true, nil
		}
	}
	block, err = adHoc(pipeline, name, names)
	return block, false, err
}

// adHoc is an experiment that only --set describes, now or when it was run first.
func adHoc(pipeline *runner.Pipeline, name string, blocks []string) (runner.ExperimentBlock, error) {
	block := runner.ExperimentBlock{Name: name}
	e, _, err := runner.FindExperiments(pipeline.Dir, name)
	var unknown *runner.UsageError
	if err != nil && !errors.As(err, &unknown) {
		return block, err
	}
	if e == nil {
		if len(pipeline.Sets) > 0 {
			return block, runner.CheckExperimentName(name)
		}
		if len(blocks) == 0 {
			return block, usagef("there is no experiment %q; give its values with --set, or declare it in pipeline.hcl", name)
		}
		return block, usagef("there is no experiment %q%s; the blocks are: %s; or give its values with --set", name, didYouMean(name, blocks), strings.Join(blocks, ", "))
	}
	if e.Block {
		return block, usagef("experiment %q was run from a block that pipeline.hcl no longer has; declare it again, choose another name, or remove it: lpipe exp rm %s", name, name)
	}
	block.Targets, block.Metric, block.Goal, block.Desc, block.Halving = e.Targets, e.Metric, e.Goal, e.Desc, e.Halving
	var axes []string
	for _, instance := range sortedKeys(e.Instances) {
		point := e.Instances[instance]
		axes = sortedKeys(point)
		one := map[string]string{}
		for variable, value := range point {
			one[variable] = string(value)
		}
		block.Include = append(block.Include, one)
	}
	if len(pipeline.Sets) == 0 {
		return block, nil
	}
	if !slices.Equal(axes, setNames(pipeline)) {
		return block, usagef("the name %q is taken by an experiment over %s; choose another, or remove that: lpipe exp rm %s", name, joinNames(axes), name)
	}
	block.Include = nil
	return block, nil
}

// setNames are the variables of --set, sorted.
func setNames(pipeline *runner.Pipeline) (names []string) {
	for _, set := range pipeline.Sets {
		names = append(names, set.Name)
	}
	slices.Sort(names)
	return names
}

func onlyInstance(instances []runner.ExperimentInstance, experiment, only string) ([]runner.ExperimentInstance, error) {
	if only == "" {
		return instances, nil
	}
	var names []string
	for _, one := range instances {
		if one.Name == only {
			return []runner.ExperimentInstance{one}, nil
		}
		names = append(names, one.Name)
	}
	return nil, usagef("experiment %s has no instance %q%s; lpipe exp run -n %s lists them", experiment, only, didYouMean(only, names), experiment)
}

func (p *program) listInstances(block runner.ExperimentBlock, instances []runner.ExperimentInstance) error {
	if p.json {
		names := []string{}
		for _, one := range instances {
			names = append(names, block.Name+"/"+one.Name)
		}
		return p.printJSON(map[string]any{"schema": 1, "instances": names})
	}
	for _, one := range instances {
		p.result("%s/%s", block.Name, one.Name)
	}
	return nil
}

// decodeInstances decodes the pipeline once an instance, all before the first one runs: a value that a validation
// refuses is told now.
func (p *program) decodeInstances(instances []runner.ExperimentInstance) ([]runner.SweepInstance, error) {
	defer p.collector.seldom()()
	sweep, diags := make([]runner.SweepInstance, len(instances)), make([]hcl.Diagnostics, len(instances))
	options := p.decodeOptions()
	var wait sync.WaitGroup
	workers := min(len(instances), runtime.NumCPU())
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(instances); i += workers {
				o := options
				o.Experiment = instances[i].Vars
				sweep[i].ExperimentInstance = instances[i]
				sweep[i].Pipeline, diags[i] = runner.Decode(o)
			}
		})
	}
	wait.Wait()
	for i := range instances {
		if diags[i].HasErrors() {
			fmt.Fprintf(p.stderr, "instance %s:\n", instances[i].Name)
			return nil, diagnosed{diags[i], sweep[i].Pipeline.HCL}
		}
		sweep[i].Pipeline.HCL = nil
	}
	return sweep, nil
}

// sweep runs the instances and says how they ended.
func (p *program) sweep(c *cli.Context, pipeline *runner.Pipeline, o runner.SweepOptions) error {
	release, err := p.lockExperiments(c.Context, pipeline.Dir)
	if err != nil {
		return err
	}
	defer release()
	p.goOn = "lpipe exp run " + o.Experiment.Name
	view := p.newProgressView()
	var track *tracked
	pr, err := p.openPipeline(c.Context, pipeline, projectOptions{
		jobs: c.Int("jobs"), remote: !c.Bool("no-remote"),
		report: func(e runner.RunEvent) {
			track.event(e)
			view.event(e)
			if p.json && e.Event == "stage" {
				_ = p.printJSONLine(stageEvent{"stage", e.Stage, e.How, e.Seconds, e.Log})
			}
		},
	})
	if err != nil {
		view.close()
		return err
	}
	defer pr.close(p)
	state := filepath.Join(pipeline.Dir, ".lpipe", "exp.state")
	seedState(filepath.Join(pipeline.Dir, ".lpipe", "state"), state)
	o.Options, o.Git = pr.runner.Options, p.gitState(c.Context, pipeline.Dir)
	if o.State, err = cache.OpenState(state); err != nil {
		view.close()
		return err
	}
	track = p.trackSweep(c.Context, pr, o)
	end := p.collector.roomy()
	summary, err := runner.RunSweep(c.Context, o)
	end()
	view.close()
	track.outcomes(o, summary)
	err = p.sweepDone(o, summary, err)
	track.close(c.Context, err)
	return err
}

// sweepEvent is the last line of `exp run --json`.
type sweepEvent struct {
	Event        string  `json:"event"`
	Experiment   string  `json:"experiment"`
	Done         int     `json:"done"`
	Failed       int     `json:"failed"`
	Unfinished   int     `json:"unfinished"`
	Stopped      int     `json:"stopped"` // by halving
	StagesRan    int     `json:"stages_ran"`
	StagesReused int     `json:"stages_reused"`
	Seconds      float64 `json:"seconds"`
}

func (p *program) sweepDone(o runner.SweepOptions, s runner.SweepSummary, err error) error {
	var failed []*runner.ExperimentRecord
	stopped := 0
	for _, r := range s.Records {
		switch {
		case r.State == runner.ExperimentFailed:
			failed = append(failed, r)
		case r.Stopped():
			stopped++
		}
	}
	done := len(s.Records) - len(failed) - stopped
	if p.json {
		_ = p.printJSONLine(sweepEvent{"done", o.Experiment.Name, done, len(failed), s.Unfinished, stopped, s.Ran, s.Reused, s.Seconds})
	} else {
		text := fmt.Sprintf("%s: %d done", o.Experiment.Name, done)
		if stopped > 0 {
			text += fmt.Sprintf(", %d stopped early", stopped)
		}
		if len(failed) > 0 {
			text += fmt.Sprintf(", %d failed", len(failed))
		}
		if s.Unfinished > 0 {
			text += fmt.Sprintf(", %d unfinished (lpipe exp run %s goes on)", s.Unfinished, o.Experiment.Name)
		}
		p.say("%s; stages: %d ran, %d reused  %s", text, s.Ran, s.Reused, p.paint(grey, durationText(time.Duration(s.Seconds*float64(time.Second)))))
	}
	for _, r := range failed {
		fmt.Fprintf(p.stderr, "%s %s: %s\n", p.paint(red, "failed"), r.FullName(), failureText(r))
	}
	if err == nil && len(failed) > 0 {
		p.say("lpipe exp run %s runs these again", o.Experiment.Name)
		return shown{exitFailed}
	}
	return err
}

func failureText(r *runner.ExperimentRecord) string {
	var parts []string
	for _, f := range r.Failures {
		text := f.Error
		if f.Stage != "" {
			text = f.Stage + ": " + text
		}
		if f.Log != "" {
			text += " (" + f.Log + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

// gitState asks Git for the commit and whether there is more than that; nil without Git or outside of a repository.
func (p *program) gitState(ctx context.Context, dir string) *runner.GitState {
	git := func(args ...string) (string, error) {
		command := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...)
		command.Env = append(p.environ(), "GIT_OPTIONAL_LOCKS=0")
		out, err := command.Output()
		return strings.TrimSpace(string(out)), err
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return nil
	}
	changes, err := git("status", "--porcelain", "--", ":(top)", ":(exclude).lpipe") // ours is no change of the user's
	return &runner.GitState{Commit: commit, Dirty: err != nil || changes != ""}
}

// curvePoints reads the numbers of one name from a file of curves.
func curvePoints(path, name string) ([]runner.CurvePoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	curves, err := plot.Read(f, filepath.Ext(path), "")
	if err != nil {
		return nil, err
	}
	var points []runner.CurvePoint
	for _, curve := range curves {
		for i := range curve.X {
			if curve.Name == name {
				points = append(points, runner.CurvePoint{Step: curve.X[i], Value: curve.Y[i]})
			}
		}
	}
	return points, nil
}
