package spool

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"lpipe/cache"
	"lpipe/tracking"
)

// TagRun is the tag by which a run is found again: the spool's id and the run's name in it.
const TagRun = "lpipe.run"

// prepare finds out whether the server can be talked to, and the experiment.
func (x *sending) prepare(ctx context.Context) error {
	if x.ready {
		return nil
	}
	if x.state.Server != "" && x.state.Server != x.Client.String() {
		// Another server knows none of the runs: all of it is sent there.
		x.state.At, x.state.Runs, x.state.Experiment = 0, map[string]*SentRun{}, ""
	}
	version, err := x.Client.Version(ctx)
	if err != nil {
		return err
	}
	if major, _, dotted := strings.Cut(version, "."); dotted {
		if n, err := strconv.Atoi(major); err == nil && n < 2 {
			return &tracking.Error{Kind: tracking.Unsupported, Op: "use " + x.Client.String(), Message: "it is MLflow " + version + ", and lpipe needs 2.0 or later",
				Remedy: "what is recorded stays, and lpipe tracking sync sends it to a newer server"}
		}
	}
	experiment := ""
	if x.head.Run != "" {
		experiment, err = x.attach(ctx)
	} else {
		var found tracking.Experiment
		found, err = x.Client.Experiment(ctx, x.head.Experiment)
		experiment = found.ID
	}
	if err != nil {
		return err
	}
	x.state.Server, x.state.Experiment, x.ready = x.Client.String(), experiment, true
	return x.state.write(x.dir)
}

// attach makes a run that is at the server the one at the top, and returns its experiment.
func (x *sending) attach(ctx context.Context) (experiment string, err error) {
	run, err := x.Client.GetRun(ctx, x.head.Run)
	if tracking.IsKind(err, tracking.Missing) {
		return "", &tracking.Error{Kind: tracking.Missing, Op: "use run " + x.head.Run, Where: x.Client.String(), Err: err,
			Remedy: "MLFLOW_RUN_ID named it when this was recorded; lpipe tracking drop " + x.head.ID + " gives that up"}
	}
	if err != nil {
		return "", err
	}
	if x.state.Runs[""] == nil {
		x.state.Runs[""] = &SentRun{ID: run.Info.ID, Artifacts: run.Info.ArtifactURI}
	}
	return run.Info.Experiment, nil
}

// start makes a run, or sets one that is known to running. Who did not see the spool from its beginning looks for the run
// first: a killed process may have made it.
func (x *sending) start(ctx context.Context, r *Record) error {
	x.know(&Record{Run: r.Run, Start: r.Start})
	run := x.state.Runs[r.Run]
	if run != nil {
		if err := x.flush(ctx, r.Run); err != nil {
			return err
		}
		return x.explain(r.Run, x.Client.UpdateRun(ctx, run.ID, "RUNNING", 0))
	}
	tags := []tracking.Tag{{Key: TagRun, Value: x.head.ID + "/" + r.Run}}
	if parent := x.state.Runs[r.Start.Parent]; r.Run != "" && parent != nil {
		tags = append(tags, tracking.Tag{Key: "mlflow.parentRunId", Value: parent.ID})
	}
	info, err := x.Client.CreateRun(ctx, tracking.NewRun{Experiment: x.state.Experiment, Name: r.Start.Name, Start: r.Time, Tags: tags}, !x.first)
	if err != nil {
		return x.explain(r.Run, err)
	}
	x.state.Runs[r.Run] = &SentRun{ID: info.ID, Artifacts: info.ArtifactURI}
	return x.state.write(x.dir)
}

func (x *sending) end(ctx context.Context, r *Record) error {
	x.know(&Record{Run: r.Run, End: r.End})
	if err := x.flush(ctx, r.Run); err != nil {
		return err
	}
	return x.explain(r.Run, x.Client.UpdateRun(ctx, x.state.Runs[r.Run].ID, r.End, r.Time))
}

func (x *sending) input(ctx context.Context, r *Record) error {
	name, _ := tracking.Cut(r.Input.Name, tracking.MaxDataset)
	d := tracking.Dataset{Name: name, Digest: r.Input.Digest[:min(len(r.Input.Digest), tracking.MaxDigest)], Type: r.Input.Type, Source: r.Input.Source}
	return x.pass(r.Run, "data set "+strconv.Quote(name), x.Client.LogInput(ctx, x.state.Runs[r.Run].ID, d, r.Input.As))
}

// file uploads a file or a folder. Content that is gone since is told of.
func (x *sending) file(ctx context.Context, r *Record) error {
	at, release, err := x.Content(ctx, *r.File)
	if errors.Is(err, cache.ErrNotFound) {
		x.warn("%s is not sent: its content is not here any more", r.File.At)
		x.state.Refused++
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	run := x.state.Runs[r.Run]
	if r.File.Model == "" {
		return x.pass(r.Run, r.File.At, x.Client.UploadTree(ctx, run.Artifacts, r.File.Path, at))
	}
	m := tracking.Model{Experiment: x.state.Experiment, Name: path.Base(r.Run) + "." + r.File.Path, Type: r.File.Model, Content: r.File.ID.String(), Dir: at,
		Run: tracking.RunInfo{ID: run.ID, ArtifactURI: run.Artifacts, Start: tracking.Int64(r.Time)}, Tags: []tracking.Tag{{Key: TagRun, Value: x.head.ID + "/" + r.Run}}}
	_, err = x.Client.LogModel(ctx, m)
	return x.pass(r.Run, r.File.At, err)
}

// gone tells whether an error says that a run, or its experiment, was deleted at the server.
func gone(err error) bool {
	var e *tracking.Error
	return errors.As(err, &e) && (e.Kind == tracking.Missing || e.Kind == tracking.Refused && strings.Contains(e.Message, "must be in the 'active' state"))
}

// explain adds what to do about a run that was deleted at the server.
func (x *sending) explain(run string, err error) error {
	if !gone(err) {
		return err
	}
	id, what := "", "a run"
	if known := x.state.Runs[run]; known != nil {
		id, what = known.ID, "run "+known.ID
	}
	remedy := "restore it there"
	if id != "" {
		remedy += " (mlflow runs restore --run-id " + id + ")"
	}
	var e *tracking.Error
	errors.As(err, &e)
	if strings.Contains(e.Message, "experiment") {
		what, remedy = fmt.Sprintf("experiment %q", x.head.Experiment), "restore it there (mlflow experiments restore --experiment-id "+x.state.Experiment+")"
	}
	return &tracking.Error{Kind: e.Kind, Op: "send to " + what, Where: e.Where, Status: e.Status, Code: "DELETED", Message: "it was deleted at the server (" + e.Message + ")",
		Remedy: remedy + " and run lpipe tracking sync, or give up what is recorded with lpipe tracking drop " + x.head.ID}
}
