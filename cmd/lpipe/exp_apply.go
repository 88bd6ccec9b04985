package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) expApplyCommand() *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "take an instance's values over into the project", ArgsUsage: "NAME/INSTANCE | NAME",
		Description: "Writes the variables that the experiment set into vars.auto.hcl, or with --defaults as defaults into pipeline.hcl;\n" +
			"comments and layout stay. Of an experiment with a metric, NAME alone means the best instance. The next lpipe repro\n" +
			"finds its results in the cache.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "defaults", Usage: "change the variables' defaults in the pipeline files"}},
		Action: p.expApply,
	}
}

func (p *program) expApply(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef("exp apply takes one instance; lpipe exp show lists them")
	}
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	record, err := instanceToApply(pipeline.Dir, c.Args().First())
	if err != nil {
		return err
	}
	values := map[string]string{}
	for _, name := range record.Set {
		values[name] = string(record.Vars[name])
	}
	if len(values) == 0 {
		return usagef("%s sets no variable, so there is nothing to apply", record.FullName())
	}
	for _, name := range sortedKeys(values) {
		if !slices.ContainsFunc(pipeline.Variables, func(v runner.Variable) bool { return v.Name == name }) {
			return usagef("%s sets %q, which the pipeline does not declare any more", record.FullName(), name)
		}
	}
	if c.Bool("defaults") {
		err = p.applyDefaults(pipeline, values)
	} else {
		err = p.applyAuto(pipeline, values)
	}
	if err != nil {
		return err
	}
	return p.checkApplied(values)
}

// instanceToApply is the finished instance that a name means: of an experiment, the best.
func instanceToApply(dir, name string) (*runner.ExperimentRecord, error) {
	e, records, err := runner.FindExperiments(dir, name)
	if err != nil {
		return nil, err
	}
	record := records[0]
	if len(records) > 1 {
		if e.Metric == "" {
			return nil, usagef("%s has %d instances and no metric to choose by; name one, like %s", name, len(records), record.FullName())
		}
		if record = runner.Best(records, e.Metric, e.Goal); record == nil {
			return nil, usagef("no finished instance of %s has the metric %s; lpipe exp show %s shows what there is", name, e.Metric, name)
		}
	}
	if record.State != runner.ExperimentDone {
		return nil, usagef("%s is %s, so its values have no result; lpipe exp run %s finishes it", record.FullName(), record.State, record.FullName())
	}
	return record, nil
}

func (p *program) applyAuto(pipeline *runner.Pipeline, values map[string]string) error {
	path := filepath.Join(pipeline.Dir, "vars.auto.hcl")
	src, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	out, err := runner.ApplyValues(src, "vars.auto.hcl", values)
	if err != nil {
		return err
	}
	if err := replaceFile(path, out); err != nil {
		return err
	}
	p.say("set %s in vars.auto.hcl", joinNames(sortedKeys(values)))
	return nil
}

func (p *program) applyDefaults(pipeline *runner.Pipeline, values map[string]string) error {
	for _, name := range pipeline.Files {
		path := p.path(name)
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		out, set, err := runner.ApplyDefaults(src, name, values)
		if err != nil {
			return err
		}
		if len(set) == 0 || string(out) == string(src) {
			continue
		}
		if err := replaceFile(path, out); err != nil {
			return err
		}
		p.say("set the default of %s in %s", joinNames(set), name)
	}
	return nil
}

// replaceFile writes a file by rename.
func replaceFile(path string, data []byte) error {
	f, finish, err := atomicFile(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if failed := finish(err); err == nil {
		err = failed
	}
	return err
}

// checkApplied warns of values that something else overrides.
func (p *program) checkApplied(values map[string]string) error {
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	for _, v := range pipeline.Variables {
		if want, set := values[v.Name]; set && v.Value != want {
			p.warn("%s is still %s: its value comes from: %s, which goes before", v.Name, v.Value, v.From)
		}
	}
	return nil
}
