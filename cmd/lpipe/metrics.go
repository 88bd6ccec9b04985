package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) metricsCommand() *cli.Command {
	return &cli.Command{
		Name: "metrics", Category: categoryLook, Usage: "numbers that the stages' outputs hold", ArgsUsage: "[TARGET...]",
		Description: "Reads the outputs marked as metrics (built-in kinds know theirs; `metrics = [\"name\"]` in a shell stage):\n" +
			"JSON files whole, of JSONL files the last line. Names are dotted paths.",
		Action: p.metrics,
	}
}

// metric is one number; NaN and infinities are null.
type metric struct {
	Stage string   `json:"stage"`
	Name  string   `json:"name"`
	Value *float64 `json:"value"`
}

func (p *program) metrics(c *cli.Context) error {
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
				found = append(found, metric{step.Name, n.Name, n.Value})
			}
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "metrics": found})
	}
	rows := [][]string{}
	for _, m := range found {
		value := "null"
		if m.Value != nil {
			value = strconv.FormatFloat(*m.Value, 'g', 6, 64)
		}
		rows = append(rows, []string{m.Stage, m.Name, value})
	}
	table(p.stdout, rows)
	if len(missing) > 0 {
		p.say("not there yet: %s; lpipe repro makes them", joinNames(slices.Compact(missing)))
	}
	return nil
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
