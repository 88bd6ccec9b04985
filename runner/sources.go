package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/cache"
)

// Added is a source that Add has stored.
type Added struct {
	Name    string        `json:"name"`
	Path    string        `json:"path"`
	Content cache.Content `json:"content"`
}

// Add hashes sources, stores them in the cache and records them: paths or source names, without any all sources of the
// pipeline but downloads, which others can download too. Files in the workspace become links into the cache; one with an absolute path is copied, and that only
// where its block says store = true.
func (r *Runner) Add(ctx context.Context, names []string) ([]Added, error) {
	origins, err := r.findSources(names)
	if err != nil {
		return nil, err
	}
	var added []Added
	err = r.recording(ctx, func() error {
		return r.changeLock(func(lock *Lock) error {
			for _, origin := range origins {
				one, err := r.addOne(ctx, lock, origin)
				if err != nil {
					return err
				}
				added = append(added, one)
			}
			return nil
		})
	})
	return added, errors.Join(err, r.saveState())
}

// recording is exclusive for what stores content and then the lock: no gc comes between the two.
func (r *Runner) recording(ctx context.Context, f func() error) error {
	return r.exclusive(ctx, func() error {
		release, err := r.hold(ctx)
		if err != nil {
			return err
		}
		defer release()
		return f()
	})
}

func (r *Runner) addOne(ctx context.Context, lock *Lock, origin *Origin) (Added, error) {
	at := r.Plan.abs(origin.Path)
	if err := r.checkPinned(ctx, origin); err != nil {
		return Added{}, err
	}
	store := !path.IsAbs(origin.Path) || origin.Source != nil && origin.Source.Store
	var content cache.Content
	var err error
	if store {
		content, err = r.Cache.Add(ctx, r.State, at, cache.AddOptions{Move: !path.IsAbs(origin.Path)})
	} else {
		var scan *cache.Scan
		if scan, err = r.Cache.Scan(ctx, r.State, at); err == nil {
			content = scan.Content
		}
	}
	if err != nil {
		return Added{}, fmt.Errorf("add %s: %w", origin.Path, writeError(r.dir, err))
	}
	record := lock.Sources[origin.Path].with(content)
	record.Stored = store
	lock.Sources[origin.Path] = *record
	return Added{Name: origin.Name(), Path: origin.Path, Content: content}, nil
}

// checkPinned refuses to store a download that is not what is pinned: it would be somebody's edit.
func (r *Runner) checkPinned(ctx context.Context, origin *Origin) error {
	if origin.Source == nil || !origin.Source.fetchable() {
		return nil
	}
	name := origin.Source.Name
	record, fits := (&view{Runner: r}).pinned(origin.Source)
	if !fits {
		return usage("source.%s is not downloaded yet; lpipe update %s downloads it", name, name)
	}
	scan, err := r.Cache.Scan(ctx, r.State, r.Plan.abs(origin.Path))
	if errors.Is(err, fs.ErrNotExist) {
		return usage("source.%s is not at %s; lpipe repro downloads it when a stage needs it", name, origin.Path)
	}
	if err == nil && scan.Content != record.Content {
		return usage("%s is not what source.%s is pinned to; lpipe repro puts that back", origin.Path, name)
	}
	return err
}

// findSources turns names and paths into sources.
func (r *Runner) findSources(names []string) ([]*Origin, error) {
	var origins []*Origin
	if len(names) == 0 {
		for _, source := range r.Pipeline.Sources {
			if !source.fetchable() && standsAt(r.Plan.abs(source.Path)) {
				origins = append(origins, &Origin{Path: source.Path, Source: source})
			}
		}
		for _, origin := range r.Plan.Sources {
			if origin.Source == nil && origin.Download == nil && !path.IsAbs(origin.Path) {
				origins = append(origins, origin)
			}
		}
		return origins, nil
	}
	for _, name := range names {
		if i := slices.IndexFunc(r.Pipeline.Sources, func(s *Source) bool { return s.Name == name || s.Path == path.Clean(name) }); i >= 0 {
			origins = append(origins, &Origin{Path: r.Pipeline.Sources[i].Path, Source: r.Pipeline.Sources[i]})
			continue
		}
		at, err := r.inside(name)
		if err != nil {
			return nil, err
		}
		if out, made := r.Plan.above(at); made {
			return nil, usage("%s is an output of stage %s; lpipe commit %s accepts what stands there", name, out.node.Step.Name, out.node.Step.Name)
		}
		if !standsAt(r.Plan.abs(at)) {
			return nil, usage("there is no source and no file %q", name)
		}
		origins = append(origins, &Origin{Path: at})
	}
	return origins, nil
}

// inside makes a path relative to the workspace, which it must not leave.
func (r *Runner) inside(name string) (string, error) {
	at := name
	if filepath.IsAbs(name) {
		at = r.rel(name)
	}
	at = path.Clean(filepath.ToSlash(at))
	if first, _, _ := strings.Cut(at, "/"); at == "." || first == ".." || first == ".lpipe" || path.IsAbs(at) {
		return "", usage("%s is not a path inside the workspace %s", name, r.dir)
	}
	return at, nil
}

// CheckedOut is one path that Checkout has looked at.
type CheckedOut struct {
	Stage   string        `json:"stage,omitempty"` // "" for a source
	Path    string        `json:"path"`
	Content cache.Content `json:"content"`
	Changed bool          `json:"changed"` // false: it stood there already
}

// MissingError lists content that is on record and not in the cache.
type MissingError struct{ Paths []string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("not in the cache: %s; lpipe pull brings what a remote has, lpipe repro makes it again", strings.Join(e.Paths, ", "))
}

func (e *MissingError) Unwrap() error { return cache.ErrNotFound }

// Checkout puts back what the lock names: the targets' outputs and, without targets, all that it names and the added
// sources. An edit in the way is kept in the cache first. What the cache lacks is a *MissingError at the end; all else
// is in place then.
func (r *Runner) Checkout(ctx context.Context, targets []string) ([]CheckedOut, error) {
	nodes, sources, err := r.checkoutTargets(targets)
	if err != nil {
		return nil, err
	}
	var done []CheckedOut
	missing := &MissingError{}
	err = r.exclusive(ctx, func() error {
		if err := r.needLock(); err != nil {
			return err
		}
		x := r.newExecution(nil, ReproOptions{NoRemote: true})
		for _, n := range nodes {
			recorded := r.lock.Stages[n.Step.Name]
			for i := range n.Step.Out {
				out := &n.Step.Out[i]
				want := recorded.Out[out.Name].Content
				if want.ID.IsZero() {
					continue
				}
				if err := x.checkout(ctx, n, out, want, &done, missing); err != nil {
					return err
				}
			}
		}
		for _, at := range sources {
			if err := x.checkout(ctx, nil, &StepOutput{Path: at, Cache: true}, r.lock.Sources[at].Content, &done, missing); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && len(missing.Paths) > 0 {
		err = missing
	}
	return done, errors.Join(err, r.saveState())
}

// checkoutTargets finds the nodes and added sources that targets mean.
func (r *Runner) checkoutTargets(targets []string) (nodes []*Node, sources []string, err error) {
	for at, source := range r.lock.Sources {
		if !source.Stored || path.IsAbs(at) {
			continue
		}
		if len(targets) == 0 || slices.ContainsFunc(targets, func(t string) bool { return path.Clean(t) == at || r.sourceNamed(t, at) }) {
			sources = append(sources, at)
		}
	}
	slices.Sort(sources)
	if len(targets) == 0 {
		return r.Plan.order, sources, nil
	}
	for _, target := range targets {
		if slices.ContainsFunc(sources, func(at string) bool { return path.Clean(target) == at || r.sourceNamed(target, at) }) {
			continue
		}
		more, err := r.Plan.Target(target)
		if err != nil {
			return nil, nil, err
		}
		nodes = append(nodes, more...)
	}
	return nodes, sources, nil
}

func (r *Runner) sourceNamed(name, at string) bool {
	return slices.ContainsFunc(r.Pipeline.Sources, func(s *Source) bool { return s.Name == name && s.Path == at })
}

func (x *execution) checkout(ctx context.Context, n *Node, out *StepOutput, want cache.Content, done *[]CheckedOut, missing *MissingError) error {
	one := CheckedOut{Path: out.Path, Content: want}
	if n != nil {
		one.Stage = n.Step.Name
	}
	scan, err := x.Cache.Scan(ctx, x.State, x.Plan.abs(out.Path))
	if err == nil && scan.Content == want {
		*done = append(*done, one)
		return nil
	}
	lacks := false
	if !errors.Is(err, fs.ErrNotExist) { // what is in the way is kept only if something else can stand there
		list, err := x.Cache.Missing(ctx, want)
		if err != nil && !errors.Is(err, cache.ErrNotFound) {
			return fmt.Errorf("check out %s: %w", out.Path, err)
		}
		lacks = len(list) > 0 || err != nil
	}
	if !lacks {
		err = x.place(ctx, n, out, want)
		lacks = errors.Is(err, cache.ErrNotFound) || errors.Is(err, cache.ErrDamaged)
	}
	if lacks {
		missing.Paths = append(missing.Paths, out.Path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("check out %s: %w", out.Path, writeError(x.dir, err))
	}
	one.Changed = true
	*done = append(*done, one)
	return nil
}

// Commit accepts what stands at the target's outputs as their content: it is stored, and recorded as the result of the
// key that the stage has now.
func (r *Runner) Commit(ctx context.Context, target string) ([]StageStatus, error) {
	nodes, err := r.Plan.Target(target)
	if err != nil {
		return nil, err
	}
	var done []StageStatus
	err = r.recording(ctx, func() error {
		return r.changeLock(func(lock *Lock) error {
			for _, n := range nodes {
				status, err := r.commitOne(ctx, lock, n)
				if err != nil {
					return fmt.Errorf("commit %s: %w", n.Step.Name, err)
				}
				done = append(done, status)
			}
			return nil
		})
	})
	return done, errors.Join(err, r.saveState())
}

func (r *Runner) commitOne(ctx context.Context, lock *Lock, n *Node) (StageStatus, error) {
	v := &view{Runner: r}
	in, err := v.ingredients(ctx, n)
	if err != nil {
		return StageStatus{}, err
	}
	status := StageStatus{Name: n.Step.Name, Kind: n.Step.Kind.Name, State: Fresh, Reasons: []Reason{}}
	contents := map[string]cache.Content{}
	for i := range n.Step.Out {
		out := &n.Step.Out[i]
		content, err := r.commitOutput(ctx, out)
		if err != nil {
			return StageStatus{}, err
		}
		contents[out.Name] = content
		status.Outputs = append(status.Outputs, OutputStatus{Name: out.Name, Path: out.Path, State: Fresh, ID: content.ID.String()})
	}
	description := describe(n, in)
	key := cache.SumKey(description)
	record := cache.Record{Stage: n.Step.Name, Kind: n.Step.Kind.Name, User: r.User, Host: r.Host, Version: r.Version, Run: "commit", Started: r.Now().UTC()}
	if err := r.Cache.PutResult(key, &cache.Result{Outputs: contents, Description: description, Record: record}); err != nil {
		return StageStatus{}, err
	}
	lock.Stages[n.Step.Name] = lockStage(n, key, description, in, contents)
	for _, one := range in.inputs {
		if was := lock.Sources[one.Path]; one.origin != nil && !one.missing && was.Content != one.content {
			lock.Sources[one.Path] = *was.with(one.content)
		}
	}
	return status, nil
}

func (r *Runner) commitOutput(ctx context.Context, out *StepOutput) (cache.Content, error) {
	at := r.Plan.abs(out.Path)
	info, err := os.Stat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cache.Content{}, fmt.Errorf("output %q: there is nothing at %s", out.Name, out.Path)
	case err != nil:
		return cache.Content{}, err
	case out.Folder != info.IsDir() && (out.Folder || out.File):
		return cache.Content{}, fmt.Errorf("output %q: %s is of the wrong sort (file or folder)", out.Name, out.Path)
	case out.Cache:
		return r.Cache.Add(ctx, r.State, at, cache.AddOptions{Move: true})
	}
	scan, err := r.Cache.Scan(ctx, r.State, at)
	if err != nil {
		return cache.Content{}, err
	}
	return scan.Content, nil
}

// Clean removes the targets' outputs from the workspace and returns their paths. What was changed by hand is kept in
// the cache first.
func (r *Runner) Clean(ctx context.Context, targets []string) ([]string, error) {
	nodes, err := r.Plan.Select(Selection{Targets: targets, Only: true})
	if err != nil {
		return nil, err
	}
	var removed []string
	err = r.exclusive(ctx, func() error {
		if err := r.needLock(); err != nil {
			return err
		}
		for _, n := range nodes {
			for i := range n.Step.Out {
				out := &n.Step.Out[i]
				at := r.Plan.abs(out.Path)
				if !standsAt(at) {
					continue
				}
				if err := staysInside(r.dir, filepath.Dir(filepath.FromSlash(out.Path))); err != nil {
					return err
				}
				if err := r.keepEdit(ctx, n, out); err != nil {
					return err
				}
				if err := removeAll(at); err != nil {
					return fmt.Errorf("remove %s: %w", out.Path, writeError(r.dir, err))
				}
				removed = append(removed, out.Path)
			}
		}
		return nil
	})
	return removed, errors.Join(err, r.saveState())
}

// Unlink makes a placed file or folder writable and its own.
func (r *Runner) Unlink(ctx context.Context, name string) error {
	at, err := r.inside(name)
	if err != nil {
		return err
	}
	return r.exclusive(ctx, func() error {
		if !standsAt(r.Plan.abs(at)) {
			return usage("there is no file %q", name)
		}
		return r.Cache.Unlink(r.Plan.abs(at))
	})
}

func (r *Runner) saveState() error {
	if r.State == nil {
		return nil
	}
	if err := r.State.Save(); err != nil {
		r.warn("", "the stat cache cannot be saved, so the next command hashes again: %v", err)
	}
	return nil
}
