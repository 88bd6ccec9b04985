package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"lpipe/cache"
	"lpipe/remote"
	"lpipe/runner"
)

// remoteModels is the registry that a remote keeps.
type remoteModels struct {
	p      *program
	pr     *project
	remote *remote.Remote
	block  *runner.RemoteBlock
}

var _ registry = (*remoteModels)(nil)

// String is the remote's name.
func (m *remoteModels) String() string { return "remote " + m.block.Name }

// sign lets entries be signed as results are.
func (m *remoteModels) sign() error { return m.p.signWith(m.remote, m.remote.Trust()) }

// Register implements registry: first the files, then the entry that names them.
func (m *remoteModels) Register(ctx context.Context, r registration) (version int, fresh bool, err error) {
	if err := m.sign(); err != nil {
		return 0, false, err
	}
	push := func() error {
		return m.p.transfer("sent", func(progress func(remote.Progress)) (remote.Stats, error) {
			return m.remote.Push(ctx, []cache.Content{r.Content}, nil, progress)
		})
	}
	if err := push(); err != nil {
		return 0, false, err
	}
	_, err = m.remote.AppendModel(ctx, r.Name, func(log []remote.ModelEntry) (*remote.ModelEntry, error) {
		version, fresh = 1, true
		for _, e := range log {
			switch {
			case e.Content == nil:
			case *e.Content == r.Content && e.Problem == nil:
				version, fresh = e.Version, false
				return nil, nil
			default:
				version = max(version, e.Version+1)
			}
		}
		return &remote.ModelEntry{Version: version, Content: &r.Content, Stage: r.Stage + "." + r.Output, Key: r.Key.String(), Tags: r.Tags, User: r.User}, nil
	})
	if err != nil {
		return 0, false, err
	}
	// A gc that began before the entry was there may have taken old files that the push found in their place.
	if lacking, err := m.remote.Lacks(ctx, []cache.Content{r.Content}); err != nil || len(lacking) > 0 {
		return version, fresh, push()
	}
	return version, fresh, nil
}

// Promote implements registry.
func (m *remoteModels) Promote(ctx context.Context, name string, version int, alias string) (from int, err error) {
	if err := m.sign(); err != nil {
		return 0, err
	}
	_, err = m.remote.AppendModel(ctx, name, func(log []remote.ModelEntry) (*remote.ModelEntry, error) {
		from = 0
		known := false
		for _, e := range log {
			known = known || e.Content != nil && e.Version == version && e.Problem == nil
			if e.Alias == alias && e.Problem == nil {
				from = e.Version
			}
		}
		if !known {
			return nil, fmt.Errorf("model %s at %s has no version %d: %w", name, m, version, cache.ErrNotFound)
		}
		if from == version {
			return nil, nil
		}
		return &remote.ModelEntry{Version: version, Alias: alias, From: from, User: userName()}, nil
	})
	return from, err
}

// Models implements registry. Entries that nobody who is trusted signed are left out.
func (m *remoteModels) Models(ctx context.Context, name string) ([]modelRow, error) {
	names := []string{name}
	if name == "" {
		var err error
		if names, err = m.remote.ModelNames(ctx); err != nil {
			return nil, err
		}
	}
	rows := []modelRow{}
	for _, name := range names {
		log, err := m.remote.ModelLog(ctx, name)
		if err != nil {
			return nil, err
		}
		if len(log) > 0 {
			rows = append(rows, m.row(name, log))
		}
	}
	return rows, nil
}

func (m *remoteModels) row(name string, log []remote.ModelEntry) modelRow {
	row := modelRow{Name: name, Versions: []versionRow{}, Promotions: []promotionRow{}}
	aliases := map[string]int{}
	for _, e := range log {
		switch {
		case e.Problem != nil:
			m.p.warn("entry %d of model %s does not count: %v", e.Seq, name, e.Problem)
		case e.Content != nil:
			tags := e.Tags
			if tags == nil {
				tags = map[string]string{}
			}
			row.Versions = append(row.Versions, versionRow{Version: e.Version, Content: e.Content.ID.String(), Stage: e.Stage, User: e.User, Time: e.Time, Tags: tags, Aliases: []string{}})
		default:
			aliases[e.Alias] = e.Version
			row.Promotions = append(row.Promotions, promotionRow{e.Alias, e.Version, e.From, e.User, e.Time})
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		for i := range row.Versions {
			if row.Versions[i].Version == aliases[alias] {
				row.Versions[i].Aliases = append(row.Versions[i].Aliases, alias)
			}
		}
	}
	return row
}

// Fetch implements registry: through the cache, which has the content perhaps.
func (m *remoteModels) Fetch(ctx context.Context, name string, version int, want runner.Download) error {
	log, err := m.remote.ModelLog(ctx, name)
	if err != nil {
		return err
	}
	for _, e := range log {
		if e.Content == nil || e.Version != version || e.Problem != nil {
			continue
		}
		_, err := m.remote.Fetch(ctx, []cache.Content{*e.Content}, func(at remote.Progress) {
			want.Progress(runner.Event{Done: float64(at.Bytes), Total: float64(at.TotalBytes), Unit: "B"})
		})
		if err == nil {
			_, err = m.pr.cache.Place(ctx, m.pr.state, *e.Content, want.To)
		}
		return err
	}
	return fmt.Errorf("model %s at %s has no version %d: %w", name, m, version, cache.ErrNotFound)
}
