package runner

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"

	"lpipe/cache"
)

// Shared is what several runners have in common that work side by side: resources, and the keys that are being made,
// so that of the stages with equal keys in all of them one runs.
type Shared struct {
	pools   *pools
	twins   twins[cache.Key]
	looking chan struct{}
	guard   *guard
	project *Lock // of the project whose experiment this is; nil without one
}

// looks is how many steps may hash and look up at once: hashing is bounded by CPU, asking a remote is not.
const looks = 16

// NewShared sizes what runners share, from the options of any of them.
func NewShared(o Options) *Shared {
	return &Shared{pools: newPools(o), looking: make(chan struct{}, max(looks, runtime.NumCPU())), guard: &guard{dir: filepath.Join(o.Pipeline.Dir, ".lpipe")}}
}

// origin is the folder that sources and code are read from.
func (r *Runner) origin() string {
	if r.Origin != "" {
		return r.Origin
	}
	return r.dir
}

// originAt is where a path stands that no stage makes. What the project itself lacks may stand in the workspace.
func (r *Runner) originAt(at string) string {
	project := under(r.origin(), at)
	if here := under(r.dir, at); r.Origin != "" && !standsAt(project) && standsAt(here) {
		return here
	}
	return project
}

// under makes a path of the pipeline absolute, below a workspace.
func under(workspace, at string) string {
	if path.IsAbs(at) {
		return filepath.FromSlash(at)
	}
	return filepath.Join(workspace, filepath.FromSlash(at))
}

// knownRecord is what is on record about a path that no stage makes: here, else in the project's lock.
func (r *Runner) knownRecord(at string) (LockSource, bool) {
	source, known := r.lock.Sources[at]
	if !known && r.Shared != nil && r.Shared.project != nil {
		source, known = r.Shared.project.Sources[at]
	}
	return source, known
}

// inputAt is where a running stage finds an input. Built-in kinds get a source where it really is: a link to a folder
// is no folder to those who walk it. A command finds it by its name in the workspace.
func (j *job) inputAt(in *nodeInput) string {
	if in.origin != nil && !j.node.Step.Kind.InPlace {
		return j.originAt(in.Path)
	}
	return j.Plan.abs(in.Path)
}

// walkMadeCode adds the code that other stages make, which stands in the workspace, to that of the project. A pattern
// that names nothing in the project may name only such.
func (v *view) walkMadeCode(ctx context.Context, n *Node, code codePattern, want func(rel string) bool, found map[string]readFile, walked error) error {
	if walked != nil && (len(code.makers) == 0 || !errors.Is(walked, fs.ErrNotExist)) {
		return walked
	}
	fixed, _ := splitPattern(code.pattern)
	for _, out := range code.makers {
		from := out.Path
		if len(fixed) > len(from) {
			from = fixed
		}
		if err := v.walkCode(ctx, n, v.dir, from, want, found); err != nil {
			return err
		}
	}
	return nil
}
