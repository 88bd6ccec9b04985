package runner

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"lpipe/cache"
)

// Snapshot is what a project held at one time, as a lock tells it or as the workspace shows it: what Diff compares.
type Snapshot struct {
	Name    string // for people: "pipeline.lock", "HEAD~2", "the workspace"
	Stages  map[string]SnapshotStage
	Sources map[string]cache.Content
	// Variables are the values that it was made with; nil where nobody knows them.
	Variables []Variable

	trees map[cache.ID]*cache.Tree // of folders that may not be in the cache
}

// SnapshotStage is one stage of a snapshot.
type SnapshotStage struct {
	LockStage
	Description string // what the key is the hash of; "" where only its result tells
	Problem     string // why the workspace's stage has no key
}

// ParseLock reads a lock file's bytes; name is for messages. What cannot be trusted is cache.ErrDamaged.
func ParseLock(name string, data []byte) (*Lock, error) { return parseLock(name, data) }

// LockSnapshot is what a lock tells.
func (r *Runner) LockSnapshot(name string, lock *Lock) Snapshot {
	s := Snapshot{Name: name, Stages: make(map[string]SnapshotStage, len(lock.Stages)), Sources: make(map[string]cache.Content, len(lock.Sources))}
	for stage, recorded := range lock.Stages {
		s.Stages[stage] = SnapshotStage{LockStage: recorded}
	}
	for path, source := range lock.Sources {
		s.Sources[path] = source.Content
	}
	return s
}

// RecordedSnapshot is what the profile's own lock tells, with what the journal adds.
func (r *Runner) RecordedSnapshot() (Snapshot, error) {
	if err := r.needLock(); err != nil {
		return Snapshot{}, err
	}
	return r.LockSnapshot(filepath.Base(LockPath(r.dir, r.Pipeline.Profile)), r.lock), nil
}

// WorkspaceSnapshot is what stands in the workspace: sources and outputs as they are, and the keys that the stages
// have with them. It writes nothing but the stat cache.
func (r *Runner) WorkspaceSnapshot(ctx context.Context) (Snapshot, error) {
	s := Snapshot{
		Name: "the workspace", Variables: r.Pipeline.Variables,
		Stages: map[string]SnapshotStage{}, Sources: map[string]cache.Content{}, trees: map[cache.ID]*cache.Tree{},
	}
	release, err := r.hold(ctx)
	if err != nil {
		return s, err
	}
	defer release()
	v := &view{Runner: r}
	for _, n := range r.Plan.order {
		if s.Stages[n.Step.Name], err = v.snapshotStage(ctx, n, &s); err != nil {
			return s, err
		}
	}
	for _, origin := range r.Plan.Sources {
		scan, err := v.scan(ctx, &nodeInput{StepInput: &StepInput{Path: origin.Path}, origin: origin})
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		if err == nil {
			s.Sources[origin.Path] = scan.Content
			s.keepTrees(scan, r.lock.Sources[origin.Path].ID)
		}
	}
	for path, source := range r.lock.Sources { // added, and read by no stage
		if _, read := r.Plan.origins[path]; read || !source.Stored {
			continue
		}
		if scan, err := r.Cache.Scan(ctx, r.State, r.Plan.abs(path)); err == nil {
			s.Sources[path] = scan.Content
			s.keepTrees(scan, source.ID)
		}
	}
	return s, r.saveState()
}

// snapshotStage gives one stage the key that it has with what stands in the workspace. An output that is missing is
// left out.
func (v *view) snapshotStage(ctx context.Context, n *Node, s *Snapshot) (SnapshotStage, error) {
	out := map[string]cache.Content{}
	for i := range n.Step.Out {
		one := &n.Step.Out[i]
		scan, err := v.Cache.Scan(ctx, v.State, v.Plan.abs(one.Path))
		if ctx.Err() != nil {
			return SnapshotStage{}, ctx.Err()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return SnapshotStage{}, err
		}
		if err == nil {
			out[one.Name] = scan.Content
			s.keepTrees(scan, v.lock.Stages[n.Step.Name].Out[one.Name].ID)
		}
	}
	var stage SnapshotStage
	in, err := v.ingredients(ctx, n)
	if ctx.Err() != nil {
		return stage, ctx.Err()
	}
	if err != nil {
		stage.Problem = err.Error()
		stage.LockStage = v.lock.Stages[n.Step.Name]
	} else {
		stage.Description = describe(n, in)
		stage.LockStage = lockStage(n, cache.SumKey(stage.Description), stage.Description, in, out)
	}
	stage.Out = map[string]LockOutput{}
	for _, one := range n.Step.Out {
		if content, there := out[one.Name]; there {
			stage.Out[one.Name] = LockOutput{Path: one.Path, Content: content}
		}
	}
	return stage, nil
}

// keepTrees remembers the folders of a scan, unless it shows what is on record: then the cache has them, or nobody asks.
func (s *Snapshot) keepTrees(scan *cache.Scan, recorded cache.ID) {
	if scan.ID == recorded {
		return
	}
	for id, tree := range scan.Folders() {
		s.trees[id] = tree
	}
}
