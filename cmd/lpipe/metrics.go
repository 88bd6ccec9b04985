package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
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
		for _, out := range metricOutputs(step) {
			numbers, err := readMetrics(filepath.Join(pipeline.Dir, filepath.FromSlash(out.Path)))
			if errors.Is(err, fs.ErrNotExist) {
				missing = append(missing, step.Name)
				continue
			}
			if err != nil {
				return fmt.Errorf("metrics of %s: %s: %w", step.Name, out.Path, err)
			}
			for _, n := range numbers {
				found = append(found, metric{step.Name, n.name, n.value})
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
	if err := p.diagnose(diags, pipeline.HCL); err != nil {
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

// metricOutputs are the outputs of a step that hold metrics: those its block names, else those its kind marks.
func metricOutputs(step *runner.Step) []runner.StepOutput {
	var outs []runner.StepOutput
	for _, out := range step.Out {
		marked := slices.Contains(step.Metrics, out.Name)
		for _, port := range step.Kind.Out {
			marked = marked || port.Name == out.Name && port.Metrics
		}
		if marked {
			outs = append(outs, out)
		}
	}
	return outs
}

type number struct {
	name  string
	value *float64
}

// readMetrics flattens a JSON file, or the last line of a JSONL file, into its numbers, sorted by name.
func readMetrics(path string) ([]number, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseMetrics(data, filepath.Ext(path))
}

func parseMetrics(data []byte, extension string) ([]number, error) {
	if extension == ".jsonl" {
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		data = lines[len(lines)-1]
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	var numbers []number
	flatten("", root, &numbers)
	slices.SortFunc(numbers, func(a, b number) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return numbers, nil
}

func flatten(prefix string, v any, into *[]number) {
	join := func(name string) string {
		if prefix == "" {
			return name
		}
		return prefix + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			flatten(join(name), inner, into)
		}
	case []any:
		for i, inner := range v {
			flatten(join(strconv.Itoa(i)), inner, into)
		}
	case float64:
		*into = append(*into, number{prefix, &v})
	case nil:
		*into = append(*into, number{prefix, nil})
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			*into = append(*into, number{prefix, nil}) // "NaN", as JSON writers without null have it
		}
	}
}
