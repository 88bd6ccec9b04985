package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"lpipe/cache"
)

// Roots is what gc must keep for a workspace: all that the locks of its profiles, its journal, its pins and its
// experiments name. A lock that cannot be read is an error: nothing may be removed on its account.
func Roots(dir string) (cache.GCRoots, error) {
	var roots cache.GCRoots
	workspaces := []string{dir}
	instances, err := experimentWorkspaces(dir)
	if err != nil {
		return roots, err
	}
	for _, dir := range append(workspaces, instances...) {
		// The journal first: what has left it since is in the lock by then.
		journal := filepath.Join(dir, ".lpipe", "journal")
		entries, _, _, err := readJournal(journal)
		if err != nil {
			return roots, err
		}
		if err := journalDamage(journal); err != nil {
			return roots, fmt.Errorf("read %s, which says what must be kept: %w; lpipe repro or fsck --repair mends it", journal, err)
		}
		lock := newLock()
		for _, e := range entries {
			lock.apply([]entry{e}, e.Profile)
			addRoots(&roots, lock)
			clear(lock.Stages)
			clear(lock.Sources)
		}
		locks, err := lockFiles(dir)
		if err != nil {
			return roots, err
		}
		for _, path := range locks {
			lock, err := ReadLock(path)
			if err != nil {
				return roots, err
			}
			addRoots(&roots, lock)
		}
		pins, err := readPins(filepath.Join(dir, ".lpipe", "pins"))
		if err != nil {
			return roots, fmt.Errorf("read %s, which says what must be kept: %w; lpipe fsck --repair mends it", filepath.Join(dir, ".lpipe", "pins"), err)
		}
		for _, pin := range pins {
			roots.Contents = append(roots.Contents, pin.Content)
		}
	}
	return roots, nil
}

func addRoots(roots *cache.GCRoots, lock *Lock) {
	for _, stage := range lock.Stages {
		roots.Keys = append(roots.Keys, stage.Key)
		for _, out := range stage.Out {
			roots.Contents = append(roots.Contents, out.Content)
		}
	}
	for _, source := range lock.Sources {
		if source.Stored {
			roots.Contents = append(roots.Contents, source.Content)
		}
	}
}

// Holding is something that a remote is to have, or to give: a stage's result and outputs, or a source.
type Holding struct {
	Stage    string // "" for a source
	Key      cache.Key
	Path     string // of a source
	Partial  bool   // the stage has outputs that stay on this machine, so its result would promise too much
	Contents []NamedContent
}

// NamedContent is content and where it belongs.
type NamedContent struct {
	Path string
	cache.Content
}

// Holdings lists what the lock names of the targets, without any of everything: outputs that may be pushed, and added
// sources. `push` sends it, `fetch` and `pull` bring it. It looks at no content.
func (r *Runner) Holdings(ctx context.Context, targets []string) ([]Holding, error) {
	if err := r.needLock(); err != nil {
		return nil, err
	}
	nodes, sources, err := r.checkoutTargets(targets)
	if err != nil {
		return nil, err
	}
	var all []Holding
	for _, n := range nodes {
		recorded, locked := r.lock.Stages[n.Step.Name]
		if !locked {
			continue
		}
		holding := Holding{Stage: n.Step.Name, Key: recorded.Key}
		for i := range n.Step.Out {
			out := &n.Step.Out[i]
			content := recorded.Out[out.Name].Content
			if !out.Push || !out.Cache || content.ID.IsZero() {
				holding.Partial = true
				continue
			}
			holding.Contents = append(holding.Contents, NamedContent{out.Path, content})
		}
		all = append(all, holding)
	}
	for _, at := range sources {
		all = append(all, Holding{Path: at, Contents: []NamedContent{{at, r.lock.Sources[at].Content}}})
	}
	return all, ctx.Err()
}

// TakeIn sees to it that the cache holds contents: what it lacks and the workspace has is taken in. It returns what is nowhere.
func (r *Runner) TakeIn(ctx context.Context, contents []NamedContent) ([]NamedContent, error) {
	lacking, err := r.lacking(ctx, contents)
	if err != nil || len(lacking) == 0 {
		return nil, err // a push need not wait for a repro
	}
	if err := r.exclusive(ctx, func() error { return r.takeIn(ctx, lacking) }); err != nil {
		return nil, err
	}
	return r.lacking(ctx, lacking)
}

// lacking lists what the cache does not hold whole.
func (r *Runner) lacking(ctx context.Context, contents []NamedContent) ([]NamedContent, error) {
	var lacking []NamedContent
	for _, one := range contents {
		missing, err := r.Cache.Missing(ctx, one.Content)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil || len(missing) > 0 {
			lacking = append(lacking, one)
		}
	}
	return lacking, nil
}

// takeIn adds to the cache what the workspace has of what it lacks. Of what is nowhere, push says so.
func (r *Runner) takeIn(ctx context.Context, lacking []NamedContent) error {
	for _, one := range lacking {
		at := r.Plan.abs(one.Path)
		scan, err := r.Cache.Scan(ctx, r.State, at)
		if errors.Is(err, os.ErrNotExist) || err == nil && scan.Content != one.Content {
			continue
		}
		if err == nil {
			_, err = r.Cache.Add(ctx, r.State, at, cache.AddOptions{Move: true})
		}
		if err != nil {
			return fmt.Errorf("take %s into the cache: %w", one.Path, err)
		}
	}
	return r.saveState()
}

// Shown is what is on record about a stage.
type Shown struct {
	Stage    string        `json:"stage"`
	Recorded LockStage     `json:"recorded"`
	Result   *cache.Result `json:"result,omitempty"` // nil: this machine's cache has none
}

// Show returns the recorded results of a target's stages.
func (r *Runner) Show(ctx context.Context, target string) ([]Shown, error) {
	if err := r.needLock(); err != nil {
		return nil, err
	}
	nodes, err := r.Plan.Target(target)
	if err != nil {
		return nil, err
	}
	var shown []Shown
	for _, n := range nodes {
		recorded, locked := r.lock.Stages[n.Step.Name]
		if !locked {
			return nil, fmt.Errorf("stage %s has no recorded run; lpipe repro %s makes one", n.Step.Name, n.Step.Name)
		}
		one := Shown{Stage: n.Step.Name, Recorded: recorded}
		result, err := r.Cache.Result(recorded.Key)
		if err == nil {
			one.Result = result
		} else if !errors.Is(err, cache.ErrNotFound) {
			return nil, fmt.Errorf("read the result of %s: %w", n.Step.Name, err)
		}
		shown = append(shown, one)
	}
	return shown, nil
}
