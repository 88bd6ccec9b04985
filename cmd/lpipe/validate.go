package main

import (
	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) validateCommand() *cli.Command {
	return &cli.Command{
		Name: "validate", Category: categoryStart, Usage: "check the pipeline files; all mistakes at once",
		Action: p.validate,
	}
}

func (p *program) validate(c *cli.Context) error {
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	plan, diags := runner.NewPlan(pipeline, runner.PlanOptions{Known: runner.KnownSources(pipeline)})
	if err := p.diagnosePlan(diags, pipeline); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "valid": true, "files": pipeline.Files, "stages": len(plan.Nodes), "sources": len(plan.Sources)})
	}
	p.result("%s: %s, %s, no mistakes", joinNames(pipeline.Files), countText(len(plan.Nodes), "stage"), countText(len(plan.Sources), "source"))
	return nil
}
