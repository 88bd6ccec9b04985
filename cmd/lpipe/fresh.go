package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

// asksAll tells whether a command line asks about everything, in the plain way: its answer is what runner.ReadFresh knows.
func (p *program) asksAll(c *cli.Context) bool {
	if c.Args().Len() > 0 || p.json || p.verbose || c.String("trace") != "" {
		return false
	}
	for _, other := range []string{"only", "downstream", "force", "push"} {
		if c.Bool(other) {
			return false
		}
	}
	return true
}

// knownFresh answers `repro` without opening the project, where nothing has changed since it was last up to date.
func (p *program) knownFresh(c *cli.Context) bool {
	began := time.Now()
	if !p.asksAll(c) {
		return false
	}
	report, fresh := runner.ReadFresh(p.circumstances())
	if fresh {
		p.summarize(runner.Summary{Reused: report.Stages, Saved: report.Saved, Seconds: time.Since(began).Seconds()})
	}
	return fresh
}

// keepFresh writes down that everything is up to date, unless a warning was printed, which the next run prints again.
func (p *program) keepFresh(ctx context.Context, pr *project) {
	if p.warned {
		return
	}
	if err := pr.runner.KeepFresh(ctx, p.circumstances()); err != nil && p.verbose {
		p.say("the next look will be as long as this one: %v", err)
	}
}

// circumstances are what an answer hangs on beside files.
func (p *program) circumstances() runner.Circumstances {
	return runner.Circumstances{
		Decode:  p.decodeOptions(),
		Program: ownProgram(),
		Env:     []string{"LPIPE_CACHE", "HOME", "PATH"},
		Words:   []string{p.device},
	}
}
