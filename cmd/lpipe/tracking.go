package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking/recorder"
	"lpipe/tracking/spool"
)

// tracked is the recording of a command's runs, and the sending of it while they go on. A nil one does nothing.
type tracked struct {
	p        *program
	pr       *project
	recorder *recorder.Recorder

	sender  *spool.Sender // nil: nothing is sent now
	problem error         // why not
	spool   *spool.Writer
	stop    context.CancelFunc
	done    chan error // how sending ended
}

// track begins to record, if the pipeline has a tracking block. Nothing that goes wrong with it is an error of the command.
func (p *program) track(ctx context.Context, pr *project, name string, units []recorder.Unit) *tracked {
	block := pr.pipeline.Tracking
	if block == nil {
		return nil
	}
	t := &tracked{p: p, pr: pr}
	t.sender, t.problem = p.trackingSender(ctx, pr, "", liveTries)
	uri, _ := p.trackingURI(pr.pipeline)
	t.recorder = recorder.New(recorder.Options{
		Root: trackingDir(pr.pipeline), URI: uri, Experiment: p.trackingExperiment(pr.pipeline), Run: strings.TrimSpace(p.getenv("MLFLOW_RUN_ID")), Name: name, Tags: func() map[string]string { return p.trackingTags(ctx, pr.pipeline) },
		Units: units, Cache: pr.cache, Now: time.Now, Warn: t.warn,
		Opened: func(w *spool.Writer) { t.opened(context.WithoutCancel(ctx), w) },
	})
	return t
}

func trackingDir(pipeline *runner.Pipeline) string {
	return filepath.Join(pipeline.Dir, ".lpipe", "tracking")
}

func (t *tracked) warn(message string) { t.p.warn("tracking: %s", message) }

// event takes one of the runner's.
func (t *tracked) event(e runner.RunEvent) {
	if t != nil {
		t.recorder.Event(e)
	}
}

// outcomes records how the instances of a sweep came out; of those that halving measured, the number that it went by.
func (t *tracked) outcomes(o runner.SweepOptions, s runner.SweepSummary) {
	if t == nil {
		return
	}
	for _, r := range s.Records {
		numbers := map[string]float64{}
		if h := o.Experiment.Halving; h != nil && r.Metrics[h.Metric] != nil {
			numbers[h.Metric] = *r.Metrics[h.Metric]
		}
		t.recorder.Outcome(r.Instance, r.State, r.Stopped(), numbers)
	}
}

// opened starts to send what is recorded from now on.
func (t *tracked) opened(ctx context.Context, w *spool.Writer) {
	t.spool = w
	if t.sender == nil {
		return
	}
	ctx, t.stop = context.WithCancel(ctx)
	t.done = make(chan error, 1)
	go func() { t.done <- t.sender.Follow(ctx, w) }()
}

// How often a request is tried that may succeed later: while a run goes on seldom, since all is tried again some seconds later; by
// commands that a person waits for, for some seconds.
const (
	liveTries    = 2
	commandTries = 4
)

// How long close waits for a server: one that does not answer, or after an interrupt, gets as long as the second.
const (
	sendWithin = 30 * time.Second
	sendKilled = 2 * time.Second
)

// close ends the recording, waits a little until the rest is sent, and says what is not.
func (t *tracked) close(ctx context.Context, err error) {
	if t == nil {
		return
	}
	how := "FINISHED"
	switch {
	case ctx.Err() != nil:
		how = "KILLED"
	case err != nil:
		how = "FAILED"
	}
	if err := t.recorder.Close(how); err != nil {
		t.warn(err.Error())
	}
	if t.spool == nil {
		return
	}
	sent := t.problem
	if t.done != nil {
		sent = t.await(how == "KILLED")
		t.stop()
	}
	t.tell(sent)
}

// await returns how sending ended, after it was stopped if need be.
func (t *tracked) await(killed bool) error {
	began, within := time.Now(), sendWithin
	if killed {
		within = sendKilled
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-t.done:
			return err
		case now := <-tick.C:
			if waited := now.Sub(began); waited > within || waited > sendKilled && t.sender.Trouble() {
				t.stop()
				return cmp.Or(<-t.done, context.Canceled)
			}
		}
	}
}

// tell says where the run is to be seen, or why it is not there yet.
func (t *tracked) tell(err error) {
	info, read := spool.Read(t.spool.Dir())
	if read != nil {
		t.warn(read.Error())
		return
	}
	if err == nil {
		if run := info.Sent.Runs[""]; run != nil && run.ID != "" {
			t.p.say("tracked at %s", t.sender.Client.RunPage(info.Sent.Experiment, run.ID))
		}
		return
	}
	why := ": " + err.Error()
	if errors.Is(err, context.Canceled) {
		why = ""
		if info.Sent.Error != "" && info.Sent.Error != context.Canceled.Error() {
			why = ": " + info.Sent.Error
		}
	}
	t.warn(fmt.Sprintf("%s of this run are on disk and not sent yet%s; lpipe tracking sync sends them", bytesText(info.Left), why))
}

// trackingURI is the server's address: the block's, else MLFLOW_TRACKING_URI.
func (p *program) trackingURI(pipeline *runner.Pipeline) (uri, from string) {
	if block := pipeline.Tracking; block != nil && block.URI != "" {
		return block.URI, "uri of the tracking block"
	}
	return strings.TrimSpace(p.getenv("MLFLOW_TRACKING_URI")), "MLFLOW_TRACKING_URI"
}

// trackingExperiment is the name that runs are grouped under.
func (p *program) trackingExperiment(pipeline *runner.Pipeline) string {
	if block := pipeline.Tracking; block != nil && block.Experiment != "" {
		return block.Experiment
	}
	return cmp.Or(strings.TrimSpace(p.getenv("MLFLOW_EXPERIMENT_NAME")), filepath.Base(pipeline.Dir))
}

var errNoServer = usagef("no server is named: set MLFLOW_TRACKING_URI, or uri in the tracking block")

// trackingSender is who sends spools of a project. uri overrides what block and environment say.
func (p *program) trackingSender(ctx context.Context, pr *project, uri string, tries int) (*spool.Sender, error) {
	client, err := p.trackingClient(ctx, pr.pipeline, uri, tries)
	if err != nil {
		return nil, err
	}
	return &spool.Sender{Client: client, Warn: func(message string) { p.warn("tracking: %s", message) },
		Content: func(ctx context.Context, f spool.File) (string, func(), error) { return p.spooledContent(ctx, pr, f) }}, nil
}

// spooledContent puts a recorded file or folder where it can be read: from the cache, which has it by its content.
func (p *program) spooledContent(ctx context.Context, pr *project, f spool.File) (string, func(), error) {
	if missing, err := pr.cache.Missing(ctx, f.Content); err != nil || len(missing) > 0 {
		return "", nil, errors.Join(cache.ErrNotFound, err)
	}
	dir := filepath.Join(pr.pipeline.Dir, ".lpipe", "tmp")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", nil, err
	}
	temp, err := os.MkdirTemp(dir, "tracking.")
	if err != nil {
		return "", nil, err
	}
	release := func() { os.RemoveAll(temp) }
	at := filepath.Join(temp, "content")
	if _, err := pr.cache.Place(ctx, pr.state, f.Content, at); err != nil {
		release()
		return "", nil, err
	}
	return at, release, nil
}

// trackingTags say who ran what, from where.
func (p *program) trackingTags(ctx context.Context, pipeline *runner.Pipeline) map[string]string {
	tags := map[string]string{
		"mlflow.user": userName(), "mlflow.source.type": "PROJECT", "mlflow.source.name": filepath.Join(pipeline.Dir, pipeline.Files[0]),
		"lpipe.version": release, "lpipe.host": hostName(),
	}
	if pipeline.Profile != "" {
		tags["lpipe.profile"] = pipeline.Profile
	}
	if git := p.gitState(ctx, pipeline.Dir); git != nil {
		tags["mlflow.source.git.commit"] = git.Commit
		tags["lpipe.git.dirty"] = fmt.Sprint(git.Dirty)
	}
	return tags
}

// trackSweep is track for a sweep: a run for each instance below it.
func (p *program) trackSweep(ctx context.Context, pr *project, o runner.SweepOptions) *tracked {
	var units []recorder.Unit
	for _, one := range o.Instances {
		dir := filepath.Join(pr.pipeline.Dir, (&runner.ExperimentRecord{Experiment: o.Experiment.Name, Instance: one.Name}).Dir(""))
		units = append(units, recorder.Unit{Name: one.Name, Dir: dir, Pipeline: one.Pipeline})
	}
	return p.track(ctx, pr, o.Experiment.Name, units)
}
