package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking/recorder"
)

func (p *program) watchCommand() *cli.Command {
	return &cli.Command{
		Name: "watch", Category: categoryWork, Usage: "bring outputs up to date whenever something changes", ArgsUsage: "[TARGET...]",
		Description: "Runs repro, then again when a source, a file of code, or the pipeline has other content, once nothing\n" +
			"changes any more. A failed stage does not end it. Ctrl-C does: exit code 0 while waiting, 130 while running.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "run `N` stages at once", DefaultText: "as many as CPUs"},
			&cli.BoolFlag{Name: "keep-going", Aliases: []string{"k"}, Usage: "after a failure, run what does not depend on it"},
			&cli.BoolFlag{Name: "no-remote", Usage: "look no results up in the remote"},
			&cli.DurationFlag{Name: "interval", Usage: "look every `D`; less often where a look takes long", Value: 300 * time.Millisecond},
		},
		Action: p.watch,
	}
}

// watcher repeats repro. It looks by polling: that works on every file system, network ones too, and the stat cache makes
// a look cheap.
type watcher struct {
	*program
	pr       *project
	settings projectOptions
	opts     runner.ReproOptions
	interval time.Duration
	mistakes string // what was last said to be wrong with the pipeline
}

func (p *program) watch(c *cli.Context) error {
	if c.Int("jobs") < 0 {
		return usagef("-j needs a number of stages above 0")
	}
	if c.Duration("interval") <= 0 {
		return usagef("--interval needs a time above 0, like 500ms")
	}
	w := &watcher{program: p, opts: reproOptions(c), interval: c.Duration("interval"),
		settings: projectOptions{jobs: c.Int("jobs"), remote: !c.Bool("no-remote")}}
	var err error
	if w.pr, err = p.open(c.Context, w.settings); err != nil {
		return err
	}
	defer w.pr.close(p)
	seen, err := w.pr.runner.Watched(c.Context, w.opts)
	if err != nil {
		return err
	}
	for {
		if err := w.run(c.Context); err != nil {
			return err
		}
		p.say("watching %s; Ctrl-C ends", countText(seen.Count(), "path"))
		now, ok := w.wait(c.Context, seen)
		if !ok {
			return nil
		}
		w.tell(now.Changes(seen))
		seen = now
	}
}

// run is one repro; only what makes going on pointless is an error.
func (w *watcher) run(ctx context.Context) error {
	view := w.newProgressView()
	track := w.track(ctx, w.pr, "watch", []recorder.Unit{{Dir: w.pr.pipeline.Dir, Pipeline: w.pr.pipeline}})
	settings := w.settings
	settings.report = func(e runner.RunEvent) {
		track.event(e)
		view.event(e)
		if w.json && e.Event == "stage" {
			_ = w.printJSONLine(stageEvent{"stage", e.Stage, e.How, e.Seconds, e.Log})
		}
	}
	options, err := w.runnerOptions(ctx, w.pr, settings)
	if err != nil {
		view.close()
		return err
	}
	r, diags, err := runner.New(options)
	if err == nil {
		err = w.diagnosePlan(diags, w.pr.pipeline)
	}
	var summary runner.Summary
	if err == nil {
		end := w.collector.roomy()
		summary, err = r.Repro(ctx, w.opts)
		end()
	}
	view.close()
	defer track.close(ctx, err)
	var failed *runner.FailedError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || errors.As(err, &failed):
		w.summarize(summary)
	default:
		w.explain(err)
	}
	return nil
}

// wait looks until something differs from what was seen and then stays the same for an interval; false when the user
// ends it.
func (w *watcher) wait(ctx context.Context, seen runner.Watched) (runner.Watched, bool) {
	pending, changing := seen, false
	pause := w.interval
	for {
		select {
		case <-ctx.Done():
			return seen, false
		case <-time.After(pause):
		}
		began := time.Now()
		now, err := w.look(ctx)
		pause = max(w.interval, 10*time.Since(began)) // at most a tenth of one CPU
		switch {
		case err != nil:
			continue // it is being written, or cannot be used as it is: that was said
		case changing && len(now.Changes(pending)) == 0:
			return now, true
		}
		changing = len(now.Changes(seen)) > 0
		pending = now
	}
}

// look decodes the pipeline anew and looks at what it hangs on. A mistake is told once, until it is another.
func (w *watcher) look(ctx context.Context) (runner.Watched, error) {
	fresh, now, err := w.lookOnce(ctx)
	if err == nil {
		w.pr.pipeline, w.pr.runner, w.mistakes = fresh.pipeline, fresh.runner, ""
		return now, nil
	}
	if text := err.Error(); ctx.Err() == nil && !errors.Is(err, cache.ErrChanged) && text != w.mistakes {
		w.mistakes = text
		w.explain(err)
	}
	return now, err
}

func (w *watcher) lookOnce(ctx context.Context) (*project, runner.Watched, error) {
	pipeline, err := w.decode()
	if err != nil {
		return nil, runner.Watched{}, err
	}
	fresh := &project{pipeline: pipeline, cache: w.pr.cache, state: w.pr.state, settings: w.settings}
	options, err := w.runnerOptions(ctx, fresh, projectOptions{jobs: w.settings.jobs})
	if err != nil {
		return nil, runner.Watched{}, err
	}
	r, diags, err := runner.New(options)
	if err == nil && diags.HasErrors() {
		err = diagnosed{diags, pipeline.Parsed()}
	}
	if err != nil {
		return nil, runner.Watched{}, err
	}
	fresh.runner = r
	now, err := r.Watched(ctx, w.opts)
	return fresh, now, err
}

// tell says what changed.
func (w *watcher) tell(changed []string) {
	if w.json {
		_ = w.printJSONLine(map[string]any{"event": "change", "changed": changed})
		return
	}
	text := strings.Join(changed[:min(5, len(changed))], ", ")
	if more := len(changed) - 5; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	w.say("%s %s", w.paint(bold, "changed:"), text)
}
