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

// A view tells what stands at the paths that stages read, as one command sees it.
type view struct {
	*Runner
	// made gives the content of a node's output as this command knows it, without looking at the disk; false if it
	// does not know, so that the disk decides.
	made func(n *Node, output string) (cache.Content, bool)
	// scans remembers sources, which many stages may read.
	scans scanMemo
	// fresh gives what this command has recorded of a source, before the lock says it; nil: nothing.
	fresh func(path string) (LockSource, bool)
	// witness notes all that is looked at; nil: nobody does.
	witness *cache.Witness
}

// look scans a path.
func (v *view) look(ctx context.Context, at string) (*cache.Scan, error) {
	scan, err := v.Cache.Scan(ctx, v.State, at)
	if err == nil {
		v.witness.Saw(at, scan)
	}
	return scan, err
}

// source is what is on record of a source.
func (v *view) source(path string) (LockSource, bool) {
	if v.fresh != nil {
		if one, known := v.fresh(path); known {
			return one, true
		}
	}
	return v.knownRecord(path)
}

// errMissing is an input that is not there and whose content is not on record either.
var errMissing = errors.New("is missing")

// ingredients reads all that goes into a node's key.
func (v *view) ingredients(ctx context.Context, n *Node) (ingredients, error) {
	var in ingredients
	in.inputs = make([]readInput, 0, len(n.inputs))
	for i := range n.inputs {
		one, err := v.input(ctx, n, &n.inputs[i])
		if err != nil {
			return in, err
		}
		in.inputs = append(in.inputs, one)
	}
	var err error
	if len(n.code) > 0 {
		if in.code, err = v.code(ctx, n); err != nil {
			return in, err
		}
	}
	if len(n.Step.Tools) > 0 {
		in.tools, err = v.tools(ctx, n)
	}
	return in, err
}

// input finds what an input's path holds.
func (v *view) input(ctx context.Context, n *Node, in *nodeInput) (readInput, error) {
	one := readInput{nodeInput: in}
	reads := n.reads(in)
	if len(in.makers) == 1 && in.makers[0].Path == in.Path && v.made != nil {
		if content, known := v.made(in.makers[0].node, in.makers[0].Name); known && (reads == nil || !content.Dir) {
			one.content = content
			return one, nil
		}
	}
	if in.origin != nil && in.origin.Download != nil {
		return v.downloadedInput(ctx, n, one)
	}
	scan, err := v.scan(ctx, in)
	switch {
	case err == nil:
		one.content = scan.Content
		if reads != nil && scan.Dir {
			one.digest = scan.Digest(matching(reads))
		}
		return one, nil
	case errors.Is(err, fs.ErrNotExist):
		return v.missingInput(n, one, reads != nil)
	default:
		return one, fmt.Errorf("input %q: %w", in.Name, err)
	}
}

// missingInput takes the recorded content for one that is not in the workspace.
func (v *view) missingInput(n *Node, one readInput, some bool) (readInput, error) {
	one.missing = true
	if one.origin != nil {
		if source, known := v.source(one.Path); known {
			one.content = source.Content
		}
	} else if maker := one.makers[0]; len(one.makers) == 1 && maker.Path == one.Path {
		if stage, known := v.lock.Stages[maker.node.Step.Name]; known {
			one.content = stage.Out[maker.Name].Content
		}
	}
	if stage, known := v.lock.Stages[n.Step.Name]; known && some {
		one.digest = stage.In[one.Name]
		if one.digest == one.content.ID {
			one.digest = cache.ID{} // it was a file then
		}
	}
	if one.content.ID.IsZero() {
		if one.origin == nil {
			maker := one.makers[0]
			return one, fmt.Errorf("input %q: %s %w, though stage %s makes %s", one.Name, one.Path, errMissing, maker.node.Step.Name, maker.Path)
		}
		return one, fmt.Errorf("input %q: %s %w: no stage makes it, and its content is not on record", one.Name, one.Path, errMissing)
	}
	return one, nil
}

// reads returns the patterns of the files that count when the input is a folder; nil means all.
func (n *Node) reads(in *nodeInput) []string {
	if in.Port == "" || n.Step.Kind.InPlace {
		return nil
	}
	ports := n.Step.Kind.In
	if n.Step.Kind.Ports != nil {
		given := make(map[string]bool, len(n.Step.In))
		for _, one := range n.Step.In {
			given[one.Port] = true
		}
		ports, _ = n.Step.Kind.Ports(n.Step.Stage, given)
	}
	for _, port := range ports {
		if port.Name == in.Port && len(port.Reads) > 0 {
			return port.Reads
		}
	}
	return nil
}

func matching(patterns []string) func(rel string) bool {
	return func(rel string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool { return matchPattern(pattern, rel) })
	}
}

// scan hashes what stands at an input's path.
func (v *view) scan(ctx context.Context, in *nodeInput) (*cache.Scan, error) {
	if in.origin == nil {
		return v.look(ctx, v.Plan.abs(in.Path))
	}
	return v.scans.get(in.Path, func() (*cache.Scan, error) {
		return v.look(ctx, v.originAt(in.Path))
	})
}

// code lists the files that a node's `code` means, sorted by path, each once.
func (v *view) code(ctx context.Context, n *Node) ([]readFile, error) {
	found := map[string]readFile{}
	for _, code := range n.code {
		before := len(found)
		fixed, rest := splitPattern(code.pattern)
		want := func(rel string) bool { return rest == "" || matchesAbove(code.pattern, fixed, rel) }
		err := v.walkCode(ctx, n, v.origin(), fixed, want, found)
		if v.Origin != "" {
			err = v.walkMadeCode(ctx, n, code, want, found, err)
		}
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(found) == before {
			return nil, fmt.Errorf("code %q names no file", code.pattern)
		}
		if err != nil {
			return nil, fmt.Errorf("code %q: %w", code.pattern, err)
		}
	}
	files := make([]readFile, 0, len(found))
	for _, file := range found {
		files = append(files, file)
	}
	slices.SortFunc(files, func(a, b readFile) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// walkCode hashes the files at and below a path that are wanted. Links are followed where they are files: what counts
// is what the command would read.
func (v *view) walkCode(ctx context.Context, n *Node, workspace, from string, want func(rel string) bool, found map[string]readFile) error {
	root := under(workspace, from)
	return filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := from
		if at != root {
			rel = path.Join(from, filepath.ToSlash(strings.TrimPrefix(at, root)))
			if rel == ".lpipe" || v.ignore != nil && v.ignore(filepath.Dir(at), d.Name(), d.IsDir()) {
				return skip(d)
			}
		}
		if out, made := v.Plan.above(rel); made && (out.node == n || workspace != v.dir) {
			return skip(d) // a stage's own output is never its code; another's is not the project's, but the workspace's
		}
		if d.IsDir() {
			v.witness.Look(at, false)
			return nil
		}
		if !want(rel) {
			return nil
		}
		if info, err := os.Stat(at); err != nil || !info.Mode().IsRegular() {
			return err
		}
		scan, err := v.look(ctx, at)
		if err == nil {
			found[rel] = readFile{name: rel, path: at, content: scan.Content}
		}
		return err
	})
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return filepath.SkipDir
	}
	return nil
}

// matchesAbove reports whether a pattern means a file: by its own path, or by that of a folder it lies in.
func matchesAbove(pattern, fixed, rel string) bool {
	for at := rel; at != fixed && at != "."; at = path.Dir(at) {
		if matchPattern(pattern, at) {
			return true
		}
	}
	return false
}

// tools finds a node's `tools` in PATH.
func (v *view) tools(ctx context.Context, n *Node) ([]readFile, error) {
	var files []readFile
	for _, name := range slices.Sorted(slices.Values(n.Step.Tools)) {
		at, err := v.lookPath(name)
		if err != nil {
			return nil, err
		}
		scan, err := v.scans.get(at, func() (*cache.Scan, error) { return v.look(ctx, at) })
		if err != nil {
			return nil, fmt.Errorf("tool %s: %w", name, err)
		}
		files = append(files, readFile{name: name, path: at, content: scan.Content})
	}
	return files, nil
}

// lookPath finds a program as the shell would, and what its links lead to.
func (v *view) lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		v.witness.Look(v.originAt(name), true)
		return filepath.EvalSymlinks(v.originAt(name))
	}
	for _, dir := range filepath.SplitList(lookup(v.Environ, "PATH")) {
		v.witness.Look(filepath.Join(dir, name), true)
		at, err := filepath.EvalSymlinks(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return at, nil
		}
	}
	return "", fmt.Errorf("tool %q is not in PATH; install it, or take it out of tools", name)
}
