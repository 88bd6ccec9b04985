package runner

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"lpipe/cache"
)

// Watched is what a repro of some targets hangs on, at one moment: the content of sources and code, and what the
// pipeline says of each stage.
type Watched struct {
	stages  map[string]string
	files   map[string]cache.ID // of code, and of what is no folder
	folders map[string]*cache.Scan
}

// Watched looks at what the targets hang on. What the stat cache knows is not read. A file that is being written is
// cache.ErrChanged.
func (r *Runner) Watched(ctx context.Context, o ReproOptions) (Watched, error) {
	w := Watched{map[string]string{}, map[string]cache.ID{}, map[string]*cache.Scan{}}
	nodes, err := r.Plan.Select(Selection{o.Targets, o.Only, o.Downstream})
	if err != nil {
		return w, err
	}
	release, err := r.hold(ctx)
	if err != nil {
		return w, err
	}
	defer release()
	v := &view{Runner: r}
	for _, n := range nodes {
		w.stages[n.Step.Name] = stepText(n)
		for i := range n.inputs {
			if n.inputs[i].origin == nil {
				continue
			}
			if from := n.inputs[i].origin.Download; from != nil { // its block may name something else now
				w.files["source."+from.Name] = cache.Sum([]byte(from.origin() + "\n" + from.choice()))
			}
			if err := w.look(ctx, v, &n.inputs[i]); err != nil {
				return w, err
			}
		}
		if len(n.code) == 0 {
			continue
		}
		files, err := v.code(ctx, n)
		if err != nil && (ctx.Err() != nil || errors.Is(err, cache.ErrChanged)) {
			return w, err
		}
		for _, file := range files { // a pattern that names none: the repro says so
			w.files[file.name] = file.content.ID
		}
	}
	return w, nil
}

func (w *Watched) look(ctx context.Context, v *view, in *nodeInput) error {
	scan, err := v.scan(ctx, in)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case scan.Dir:
		w.folders[in.Path] = scan
	default:
		w.files[in.Path] = scan.ID
	}
	return nil
}

// stepText is all that the pipeline says of a stage that may change what a repro does.
func stepText(n *Node) string {
	text := describe(n, ingredients{})
	for i := range n.Step.In {
		text += "in " + n.Step.In[i].Name + " " + n.Step.In[i].Path + "\n"
	}
	for i := range n.Step.Out {
		text += "place " + n.Step.Out[i].Name + " " + n.Step.Out[i].Path + "\n"
	}
	return text + string(compact([]any{n.Step.Code, n.Step.Tools, n.Step.Always, n.Step.Frozen, n.Step.Sandbox}))
}

// Count is how many files and folders are watched.
func (w Watched) Count() int { return len(w.files) + len(w.folders) }

// Changes names what differs from an earlier look: files, files within folders, stages.
func (w Watched) Changes(before Watched) []string {
	var changed []string
	for name := range mergedKeys(before.files, w.files) {
		if before.files[name] != w.files[name] {
			changed = append(changed, name)
		}
	}
	for name := range mergedKeys(before.folders, w.folders) {
		was, is := before.folders[name], w.folders[name]
		switch {
		case was == nil || is == nil:
			changed = append(changed, name)
		case was.Content != is.Content:
			changed = append(changed, folderChanges(name, was, is)...)
		}
	}
	for name := range mergedKeys(before.stages, w.stages) {
		if before.stages[name] != w.stages[name] {
			changed = append(changed, "stage "+name)
		}
	}
	slices.Sort(changed)
	return slices.Compact(changed)
}

func folderChanges(name string, was, is *cache.Scan) []string {
	var changed []string
	old, now := maps.Collect(was.Files()), maps.Collect(is.Files())
	for rel := range mergedKeys(old, now) {
		if old[rel] != now[rel] {
			changed = append(changed, name+"/"+rel)
		}
	}
	if len(changed) == 0 {
		return []string{name} // a link, or an empty folder
	}
	return changed
}
