package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking"
	"lpipe/tracking/spool"
)

// mlflowModels is the registry of an MLflow server.
type mlflowModels struct {
	p      *program
	pr     *project
	client *tracking.Client
}

var _ registry = (*mlflowModels)(nil)

// String is the server's address.
func (m *mlflowModels) String() string { return m.client.String() }

// The tags by which the registry knows what MLflow has no field for. Of promotions there is one each, on the name.
const (
	tagStage     = "lpipe.stage"
	tagKey       = "lpipe.key"
	tagUser      = "mlflow.user"
	tagPromotion = "lpipe.promotion."
)

// Register implements registry. A model that tracking has sent is taken as it is, else it is sent now, to the run of the
// stage that made it.
func (m *mlflowModels) Register(ctx context.Context, r registration) (int, bool, error) {
	logged, err := m.logged(ctx, r)
	if err != nil {
		return 0, false, err
	}
	tags := []tracking.Tag{{Key: tagStage, Value: r.Stage + "." + r.Output}, {Key: tagKey, Value: r.Key.String()}, {Key: tagUser, Value: r.User}}
	for _, name := range sortedKeys(r.Tags) {
		tags = append(tags, tracking.Tag{Key: tracking.CleanName(name), Value: r.Tags[name]})
	}
	version, fresh, err := m.client.Register(ctx, r.Name, logged, r.Content.ID.String(), tags)
	if err != nil {
		return 0, false, err
	}
	number, err := strconv.Atoi(version.Version)
	return number, fresh, err
}

func (m *mlflowModels) logged(ctx context.Context, r registration) (tracking.LoggedModel, error) {
	experiment, err := m.client.Experiment(ctx, m.p.trackingExperiment(m.pr.pipeline))
	if err != nil {
		return tracking.LoggedModel{}, err
	}
	known, err := m.client.FindModel(ctx, experiment.ID, r.Content.ID.String(), "")
	if err != nil && !tracking.IsKind(err, tracking.Unsupported) {
		return tracking.LoggedModel{}, err
	}
	if known != nil && known.Whole() {
		return *known, nil
	}
	run, err := m.runOf(ctx, experiment.ID, r)
	if err != nil {
		return tracking.LoggedModel{}, err
	}
	at, release, err := m.p.spooledContent(ctx, m.pr, spool.File{Content: r.Content})
	if err != nil {
		return tracking.LoggedModel{}, err
	}
	defer release()
	kind := "transformers"
	if r.Output == "adapter" {
		kind = "peft"
	}
	return m.client.LogModel(ctx, tracking.Model{Experiment: experiment.ID, Run: run, Name: r.Stage + "." + r.Output, Type: kind, Content: r.Content.ID.String(), Dir: at})
}

// runOf is the run of the stage that made something, or a new one for what was made without tracking.
func (m *mlflowModels) runOf(ctx context.Context, experiment string, r registration) (tracking.RunInfo, error) {
	runs, err := m.client.SearchRuns(ctx, experiment, "tags.`"+tagKey+"` = '"+r.Key.String()+"'", 100)
	if err != nil {
		return tracking.RunInfo{}, err
	}
	for _, run := range slices.Backward(runs) {
		if run.Info.Lifecycle == "active" {
			return run.Info, nil
		}
	}
	now := time.Now().UnixMilli()
	info, err := m.client.CreateRun(ctx, tracking.NewRun{Experiment: experiment, Name: r.Stage, Start: now,
		Tags: []tracking.Tag{{Key: spool.TagRun, Value: "registered/" + r.Key.String()}, {Key: tagKey, Value: r.Key.String()}, {Key: tagUser, Value: r.User}}}, true)
	if err != nil {
		return info, err
	}
	return info, m.client.UpdateRun(ctx, info.ID, "FINISHED", now)
}

// Promote implements registry. The record is written first: an alias that moved without one would have no history.
func (m *mlflowModels) Promote(ctx context.Context, name string, version int, alias string) (from int, err error) {
	was, err := m.client.VersionOf(ctx, name, alias)
	switch {
	case err == nil:
		from, _ = strconv.Atoi(was.Version)
	case !tracking.IsKind(err, tracking.Missing):
		return 0, err
	}
	if from == version {
		return from, nil
	}
	now := time.Now().UTC()
	record, err := json.Marshal(promotionRow{alias, version, from, userName(), now.Truncate(time.Second)})
	if err != nil {
		return from, err
	}
	number := strconv.Itoa(version)
	err = m.client.TagModel(ctx, name, tracking.Tag{Key: tagPromotion + now.Format("20060102-150405.000000"), Value: string(record)})
	if err == nil {
		err = m.client.TagVersion(ctx, name, number, tracking.Tag{Key: "lpipe.promoted." + alias, Value: string(record)})
	}
	if err == nil {
		err = m.client.SetAlias(ctx, name, alias, number)
	}
	return from, err
}

// Models implements registry.
func (m *mlflowModels) Models(ctx context.Context, name string) ([]modelRow, error) {
	var models []tracking.RegisteredModel
	if name == "" {
		all, err := m.client.Models(ctx)
		if err != nil {
			return nil, err
		}
		models = all
	} else {
		one, err := m.client.Model(ctx, name)
		if tracking.IsKind(err, tracking.Missing) {
			return []modelRow{}, nil
		}
		if err != nil {
			return nil, err
		}
		models = append(models, one)
	}
	rows := []modelRow{}
	for _, model := range models {
		row, err := m.row(ctx, model)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (m *mlflowModels) row(ctx context.Context, model tracking.RegisteredModel) (modelRow, error) {
	row := modelRow{Name: model.Name, Versions: []versionRow{}, Promotions: []promotionRow{}}
	versions, err := m.client.Versions(ctx, model.Name)
	if err != nil {
		return row, err
	}
	for _, v := range versions {
		number, err := strconv.Atoi(v.Version)
		if err != nil {
			return row, fmt.Errorf("version %q of model %s: %w", v.Version, model.Name, err)
		}
		one := versionRow{Version: number, Content: v.Tag(tracking.TagContent), Stage: v.Tag(tagStage), User: v.Tag(tagUser), Time: time.UnixMilli(int64(v.Created)).UTC(),
			Tags: map[string]string{}, Aliases: []string{}}
		for _, a := range model.Aliases {
			if a.Version == v.Version {
				one.Aliases = append(one.Aliases, a.Alias)
			}
		}
		slices.Sort(one.Aliases)
		for _, tag := range v.Tags {
			if !strings.HasPrefix(tag.Key, "lpipe.") && tag.Key != tagUser {
				one.Tags[tag.Key] = tag.Value
			}
		}
		row.Versions = append(row.Versions, one)
	}
	slices.SortFunc(model.Tags, func(a, b tracking.Tag) int { return strings.Compare(a.Key, b.Key) })
	for _, tag := range model.Tags {
		var one promotionRow
		if strings.HasPrefix(tag.Key, tagPromotion) && json.Unmarshal([]byte(tag.Value), &one) == nil {
			row.Promotions = append(row.Promotions, one)
		}
	}
	return row, nil
}

// Fetch implements registry. What lpipe registered is taken from the cache if it is there, and must be what it was; of
// what others registered all files count.
func (m *mlflowModels) Fetch(ctx context.Context, name string, version int, want runner.Download) error {
	number := strconv.Itoa(version)
	v, err := m.client.ModelVersion(ctx, name, number)
	if err != nil {
		return err
	}
	root, err := m.client.FilesOf(ctx, name, number)
	if err != nil {
		return err
	}
	files, err := m.client.Artifacts(ctx, root)
	if err != nil {
		return err
	}
	ours := v.Tag(tracking.TagContent)
	if ours != "" {
		files = slices.DeleteFunc(files, func(f tracking.Artifact) bool { return f.Path == "MLmodel" }) // added for MLflow's own tools
	}
	if len(files) == 0 {
		return fmt.Errorf("version %d of model %s has no files at %s: %w", version, name, root, cache.ErrNotFound)
	}
	if err := m.download(ctx, root, files, want); err != nil {
		return err
	}
	scan, err := m.pr.cache.Scan(ctx, nil, want.To)
	if err == nil && ours != "" && scan.ID.String() != ours {
		err = fmt.Errorf("version %d of model %s is not what was registered (%s, not %s): %w", version, name, scan.ID, ours, cache.ErrDamaged)
	}
	return err
}

func (m *mlflowModels) download(ctx context.Context, root string, files []tracking.Artifact, want runner.Download) error {
	var done, total int64
	for _, f := range files {
		total += f.Size
	}
	for i, f := range files {
		written, err := m.file(ctx, root, f, filepath.Join(want.To, filepath.FromSlash(f.Path)))
		if err != nil {
			return err
		}
		done += written
		want.Progress(runner.Event{Done: float64(done), Total: float64(total), Unit: "B", Message: fmt.Sprintf("%d/%d files", i+1, len(files))})
	}
	return nil
}

func (m *mlflowModels) file(ctx context.Context, root string, f tracking.Artifact, to string) (int64, error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return 0, err
	}
	body, err := m.client.Download(ctx, root, f.Path)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	out, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	written, err := io.Copy(out, body)
	if err = errors.Join(err, out.Close()); err != nil {
		return 0, &tracking.Error{Kind: tracking.Network, Op: "get " + f.Path, Where: m.client.String(), Err: err}
	}
	if written != f.Size {
		return 0, &tracking.Error{Kind: tracking.Network, Op: "get " + f.Path, Where: m.client.String(), Message: fmt.Sprintf("%d bytes came instead of %d", written, f.Size)}
	}
	return written, nil
}
