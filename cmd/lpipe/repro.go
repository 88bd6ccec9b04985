package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"lpipe/download"
	"lpipe/remote"
	"lpipe/runner"
	"lpipe/tracking"
	"lpipe/tracking/recorder"
)

func (p *program) reproCommand() *cli.Command {
	return &cli.Command{
		Name: "repro", Aliases: []string{"run"}, Category: categoryWork, Usage: "bring outputs up to date", ArgsUsage: "[TARGET...]",
		Description: "Targets are stage names, instances (lora@8), globs, or output paths; without any, everything.\n" +
			"What is known – in the workspace, the cache, or the remote – is reused, the rest runs.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "run `N` stages at once", DefaultText: "as many as CPUs"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only say what would run, and why"},
			&cli.BoolFlag{Name: "force", Usage: "run stages whose result is known, too"},
			&cli.BoolFlag{Name: "only", Usage: "the targets alone, not what they need"},
			&cli.BoolFlag{Name: "downstream", Usage: "the targets and all that follows from them"},
			&cli.BoolFlag{Name: "keep-going", Aliases: []string{"k"}, Usage: "after a failure, run what does not depend on it"},
			&cli.BoolFlag{Name: "allow-missing", Usage: "leave stages alone whose inputs are unchanged but not here"},
			&cli.BoolFlag{Name: "no-remote", Usage: "look no results up in the remote"},
			&cli.BoolFlag{Name: "push", Usage: "push outputs and results afterwards"},
			&cli.StringFlag{Name: "trace", Usage: "write a Chrome trace of the run to `FILE`"},
		},
		Action: p.repro,
	}
}

func (p *program) repro(c *cli.Context) error {
	if c.Int("jobs") < 0 {
		return usagef("-j needs a number of stages above 0")
	}
	if c.Bool("dry-run") {
		return p.dryRun(c)
	}
	if p.knownFresh(c) {
		return nil
	}
	if p.asksAll(c) {
		if part := runner.ReadExcerpt(p.circumstances()); part != nil {
			if err := p.bringUpToDate(c, part); !errors.Is(err, runner.ErrExcerpt) {
				return err
			}
		}
	}
	return p.bringUpToDate(c, nil)
}

// manySteps is from how many stages on a run takes its heap in large pages.
const manySteps = 200

// bringUpToDate is repro for a project that is read whole, or of an excerpt of it; runner.ErrExcerpt says that this will not do.
func (p *program) bringUpToDate(c *cli.Context, part *runner.Excerpt) error {
	if part == nil || len(part.Pipeline.Steps) > manySteps {
		p.collector.largePages()
	}
	view := p.newProgressView()
	trace := newTrace(c.String("trace"))
	var track *tracked
	pr, err := p.openPart(c.Context, part, projectOptions{
		jobs: c.Int("jobs"), allowMissing: c.Bool("allow-missing"), remote: !c.Bool("no-remote"),
		report: func(e runner.RunEvent) {
			trace.event(e)
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
	track = p.track(c.Context, pr, "repro", []recorder.Unit{{Dir: pr.pipeline.Dir, Pipeline: pr.pipeline}})
	heard := context.AfterFunc(c.Context, view.interrupted)
	options, circumstances := reproOptions(c), p.circumstances()
	options.Circumstances = &circumstances
	end := p.collector.roomy()
	summary, err := pr.runner.Repro(c.Context, options)
	end()
	heard()
	view.close()
	defer track.close(c.Context, err)
	if traced := trace.write(p.path(c.String("trace")), summary.Critical); err == nil {
		err = traced
	}
	if part != nil && err == nil && summary.Ran+summary.Skipped == 0 {
		return runner.ErrExcerpt // what hangs on nothing having changed is found by a look at everything
	}
	if summary.Run != "" || err == nil {
		p.summarize(summary)
	}
	if err == nil && summary.Ran+summary.Skipped == 0 && p.asksAll(c) {
		p.keepFresh(c.Context, pr)
	}
	if err == nil && c.Bool("push") {
		err = p.pushProject(c.Context, pr, c.Args().Slice(), "", 0)
	}
	var failed *runner.FailedError
	if errors.As(err, &failed) && !errors.Is(err, errDamaged) {
		return shown{failureCode(failed)} // its failures were printed as they happened
	}
	return err
}

// failureCode is that of a failed stage, unless all that failed was downloading.
func failureCode(failed *runner.FailedError) int {
	for _, f := range failed.Failures {
		var fetched *download.Error
		var bucket *remote.Error     // of a source with s3
		var registry *tracking.Error // of a source with mlflow
		switch {
		case errors.As(f.Err, &bucket), errors.As(f.Err, &registry):
		case !errors.As(f.Err, &fetched):
			return exitFailed
		case fetched.Kind == download.Damaged:
			return exitDamaged
		}
	}
	return exitRemote
}

func reproOptions(c *cli.Context) runner.ReproOptions {
	return runner.ReproOptions{
		Targets: c.Args().Slice(), Only: c.Bool("only"), Downstream: c.Bool("downstream"), Force: c.Bool("force"),
		KeepGoing: c.Bool("keep-going"), AllowMissing: c.Bool("allow-missing"), NoRemote: c.Bool("no-remote"),
	}
}

// stageEvent and doneEvent are the lines of `repro --json`.
type stageEvent struct {
	Event   string  `json:"event"`
	Stage   string  `json:"stage"`
	How     string  `json:"how"`
	Seconds float64 `json:"seconds"`
	Log     string  `json:"log,omitempty"`
}

type doneEvent struct {
	Event   string  `json:"event"`
	Ran     int     `json:"ran"`
	Reused  int     `json:"reused"`
	Failed  int     `json:"failed"`
	Skipped int     `json:"skipped"`
	Seconds float64 `json:"seconds"`

	Saved       float64                `json:"saved_seconds"`
	SavedRemote float64                `json:"saved_remote_seconds"`
	Critical    []runner.CriticalStage `json:"critical"`
}

func (p *program) summarize(s runner.Summary) {
	if p.json {
		critical := s.Critical
		if critical == nil {
			critical = []runner.CriticalStage{}
		}
		_ = p.printJSONLine(doneEvent{"done", s.Ran, s.Reused, s.Failed, s.Skipped, s.Seconds, s.Saved, s.SavedRemote, critical})
		return
	}
	if p.verbose {
		p.printCritical(s)
	}
	took := secondsText(s.Seconds) + savedText(s)
	if s.Ran == 0 && s.Failed == 0 && s.Skipped == 0 {
		p.say("%s up to date, nothing to run  %s", countText(s.Reused, "stage"), p.paint(grey, took))
		return
	}
	text := fmt.Sprintf("%d ran, %d reused", s.Ran, s.Reused)
	if s.Failed > 0 {
		text += fmt.Sprintf(", %d failed", s.Failed)
	}
	if s.Skipped > 0 {
		text += fmt.Sprintf(", %d not tried", s.Skipped)
	}
	p.say("%s  %s", text, p.paint(grey, took))
}

// savedText is what reuse spared, if a person would notice.
func savedText(s runner.Summary) string {
	here, remote := s.Saved >= 1, s.SavedRemote >= 1
	switch {
	case here && remote:
		return fmt.Sprintf(", saved %s (here %s, by the remote %s)", secondsText(s.Saved+s.SavedRemote), secondsText(s.Saved), secondsText(s.SavedRemote))
	case here:
		return ", saved " + secondsText(s.Saved)
	case remote:
		return ", saved " + secondsText(s.SavedRemote) + " by the remote"
	}
	return ""
}

// printCritical prints the chain that decided how long the run took.
func (p *program) printCritical(s runner.Summary) {
	if len(s.Critical) == 0 {
		return
	}
	total := 0.0
	for _, one := range s.Critical {
		total += one.Seconds
	}
	p.say("critical path: %s of %s", secondsText(total), secondsText(s.Seconds))
	rows := [][]string{}
	for _, one := range s.Critical {
		why := ""
		if one.After == "resources" {
			why = "waited for the resources of the one before"
		}
		rows = append(rows, []string{"  " + one.Stage, one.How, secondsText(one.Seconds), why})
	}
	if !p.quiet {
		table(p.stderr, rows)
	}
}
