package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) expCommand() *cli.Command {
	return &cli.Command{
		Name: "exp", Category: categoryWork, Usage: "run the pipeline with many values, compare, choose",
		Subcommands: []*cli.Command{
			p.expRunCommand(), p.expLsCommand(), p.expShowCommand(), p.expCompareCommand(), p.expApplyCommand(), p.expRmCommand(),
		},
	}
}

// workspace is the project's folder, without reading its pipeline: records can be looked at whatever state that is in.
func (p *program) workspace() (string, error) {
	dir := p.dir
	if len(p.files) > 0 {
		dir = filepath.Dir(p.path(p.files[0]))
	}
	return filepath.Abs(dir)
}

// experimentNames are what may stand where an experiment is named.
func (p *program) experimentNames() []string {
	var names []string
	options := p.decodeOptions()
	if options.Dir == "" {
		options.Dir = "."
	}
	if pipeline, _ := runner.Decode(options); pipeline != nil {
		for _, block := range pipeline.Experiments {
			names = append(names, block.Name)
		}
	}
	dir, err := filepath.Abs(options.Dir)
	if err != nil {
		return names
	}
	all, err := runner.ReadExperiments(dir)
	if err != nil {
		return names
	}
	for _, e := range all {
		names = append(names, e.Name)
		for instance := range e.Instances {
			names = append(names, e.Name+"/"+instance)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// chosenExperiments are the records that the arguments name, of everything without arguments.
func (p *program) chosenExperiments(args []string) ([]*runner.Experiment, []*runner.ExperimentRecord, error) {
	dir, err := p.workspace()
	if err != nil {
		return nil, nil, err
	}
	var experiments []*runner.Experiment
	var records []*runner.ExperimentRecord
	if len(args) == 0 {
		if experiments, err = runner.ReadExperiments(dir); err != nil {
			return nil, nil, err
		}
		for _, e := range experiments {
			more, err := e.Records(dir)
			if err != nil {
				return nil, nil, err
			}
			records = append(records, more...)
		}
		return experiments, records, nil
	}
	seen := map[string]bool{}
	for _, name := range args {
		e, more, err := runner.FindExperiments(dir, name)
		if err != nil {
			return nil, nil, err
		}
		if !slices.ContainsFunc(experiments, func(other *runner.Experiment) bool { return other.Name == e.Name }) {
			experiments = append(experiments, e)
		}
		for _, r := range more {
			if !seen[r.FullName()] {
				seen[r.FullName()] = true
				records = append(records, r)
			}
		}
	}
	return experiments, records, nil
}

func (p *program) expLsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list the experiments that were run, and those that pipeline.hcl declares",
		Action: p.expLs,
	}
}

// experimentLine is an experiment in `exp ls --json`.
type experimentLine struct {
	Name       string   `json:"name"`
	Desc       string   `json:"desc,omitempty"`
	Instances  int      `json:"instances"`
	Done       int      `json:"done"`
	Failed     int      `json:"failed"`
	Stopped    int      `json:"stopped"` // by halving
	Unfinished int      `json:"unfinished"`
	Metric     string   `json:"metric,omitempty"`
	Best       string   `json:"best,omitempty"`
	Value      *float64 `json:"value,omitempty"`
}

func (p *program) expLs(c *cli.Context) error {
	experiments, records, err := p.chosenExperiments(nil)
	if err != nil {
		return err
	}
	lines := []experimentLine{}
	for _, e := range experiments {
		line := experimentLine{Name: e.Name, Desc: e.Desc, Metric: e.Metric}
		var own []*runner.ExperimentRecord
		for _, r := range records {
			if r.Experiment != e.Name {
				continue
			}
			own = append(own, r)
			line.Instances++
			switch {
			case r.State == runner.ExperimentDone:
				line.Done++
			case r.State == runner.ExperimentFailed:
				line.Failed++
			case r.Stopped():
				line.Stopped++
			default:
				line.Unfinished++
			}
		}
		if best := runner.Best(own, e.Metric, e.Goal); best != nil {
			line.Best, line.Value = best.Instance, best.Metrics[e.Metric]
		}
		lines = append(lines, line)
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "experiments": lines})
	}
	if len(lines) == 0 {
		p.say("no experiment was run here yet; lpipe exp run starts one")
		return nil
	}
	halved := slices.ContainsFunc(lines, func(line experimentLine) bool { return line.Stopped > 0 })
	rows := [][]string{{"NAME", "DONE", "FAILED", "UNFINISHED", "BEST"}}
	if halved {
		rows[0] = slices.Insert(rows[0], 2, "STOPPED")
	}
	for _, line := range lines {
		best := ""
		if line.Best != "" {
			best = fmt.Sprintf("%s  %s = %s", line.Best, line.Metric, shortNumber(*line.Value))
		}
		row := []string{line.Name, fmt.Sprint(line.Done), fmt.Sprint(line.Failed), fmt.Sprint(line.Unfinished), best}
		if halved {
			row = slices.Insert(row, 2, fmt.Sprint(line.Stopped))
		}
		rows = append(rows, row)
	}
	table(p.stdout, rows)
	return nil
}

func shortNumber(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

func (p *program) expRmCommand() *cli.Command {
	return &cli.Command{
		Name: "rm", Usage: "remove experiments, or single instances, with their workspaces", ArgsUsage: "NAME|NAME/INSTANCE...",
		Description: "What only they needed of the cache goes with the next lpipe gc --delete.",
		Action:      p.expRm,
	}
}

func (p *program) expRm(c *cli.Context) error {
	if c.Args().Len() == 0 {
		return usagef("exp rm needs the name of an experiment or of an instance; lpipe exp ls lists them")
	}
	dir, err := p.workspace()
	if err != nil {
		return err
	}
	for _, name := range c.Args().Slice() { // a mistake in one of them removes none
		if _, _, err := runner.FindExperiments(dir, name); err != nil && !isDamaged(err) {
			return err
		}
	}
	release, err := p.lockExperiments(c.Context, dir)
	if err != nil {
		return err
	}
	defer release()
	for _, name := range c.Args().Slice() {
		if err := runner.RemoveExperiment(dir, name); err != nil {
			return err
		}
		p.say("removed %s", name)
	}
	return nil
}

func (p *program) lockExperiments(ctx context.Context, dir string) (release func(), err error) {
	return runner.LockExperiments(ctx, dir, p.lockTimeout, func(holder string) {
		p.say("waiting for %s, which runs experiments here", holder)
	})
}

// seedState copies the project's stat cache for the experiments' own, so that big sources are not hashed again.
func seedState(from, to string) {
	if _, err := os.Lstat(to); err == nil {
		return
	}
	in, err := os.Open(from)
	if err != nil {
		return
	}
	defer in.Close()
	out, finish, err := atomicFile(to)
	if err != nil {
		return
	}
	_, err = io.Copy(out, in)
	finish(err)
}
