package runner

import (
	"cmp"
	"maps"
	"slices"

	"lpipe/cache"
)

// What happened to a thing from one snapshot to the next.
const (
	ChangeAdded   = "added"
	ChangeRemoved = "removed"
	ChangeChanged = "changed"
)

// DiffReport says how a snapshot differs from an earlier one; its JSON is schema 1 of `lpipe diff --json`. What is the
// same is left out.
type DiffReport struct {
	Schema    int            `json:"schema"`
	A         string         `json:"a"`
	B         string         `json:"b"`
	Stages    []StageDiff    `json:"stages"`
	Sources   []ContentDiff  `json:"sources"`
	Variables []VariableDiff `json:"variables"`
}

// StageDiff is a stage that differs. Reasons say what of its key did; there are none where the same key led to other
// outputs.
type StageDiff struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Change  string        `json:"change"`
	Reasons []Reason      `json:"reasons"`
	Outputs []ContentDiff `json:"outputs"`
}

// ContentDiff is an output or source that differs. Files are those of a folder that differ; Unknown says that they are
// not all known, since the cache lacks a part of either side.
type ContentDiff struct {
	Name     string     `json:"name,omitempty"` // of an output
	Path     string     `json:"path"`
	Change   string     `json:"change"`
	Old      string     `json:"old,omitempty"`
	New      string     `json:"new,omitempty"`
	OldPath  string     `json:"old_path,omitempty"` // where it was, if it was elsewhere
	OldBytes int64      `json:"old_bytes"`
	NewBytes int64      `json:"new_bytes"`
	Files    []FileDiff `json:"files,omitempty"`
	Unknown  bool       `json:"files_unknown,omitempty"`
}

// FileDiff is a file or link in a folder that differs.
type FileDiff struct {
	Path     string `json:"path"`
	Change   string `json:"change"`
	Old      string `json:"old,omitempty"` // hash; of a link its text
	New      string `json:"new,omitempty"`
	OldBytes int64  `json:"old_bytes"`
	NewBytes int64  `json:"new_bytes"`
}

// VariableDiff is a variable whose value differs. Sensitive values are never compared.
type VariableDiff struct {
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Diff compares two snapshots. Folders are walked only where their trees differ.
func (r *Runner) Diff(a, b Snapshot) DiffReport {
	report := DiffReport{Schema: 1, A: a.Name, B: b.Name, Stages: []StageDiff{}, Sources: []ContentDiff{}, Variables: diffVariables(a, b)}
	d := differ{r: r, a: a, b: b}
	for _, name := range slices.Sorted(maps.Keys(mergedKeys(a.Stages, b.Stages))) {
		if one, differs := d.stage(name); differs {
			report.Stages = append(report.Stages, one)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(mergedKeys(a.Sources, b.Sources))) {
		if one, differs := d.content("", LockOutput{path, a.Sources[path]}, LockOutput{path, b.Sources[path]}); differs {
			report.Sources = append(report.Sources, one)
		}
	}
	return report
}

// Same tells whether nothing differs.
func (d DiffReport) Same() bool { return len(d.Stages)+len(d.Sources)+len(d.Variables) == 0 }

type differ struct {
	r    *Runner
	a, b Snapshot
}

func (d *differ) stage(name string) (StageDiff, bool) {
	was, before := d.a.Stages[name]
	is, now := d.b.Stages[name]
	one := StageDiff{Name: name, Kind: cmp.Or(is.Kind, was.Kind), Change: changeOf(before, now), Reasons: []Reason{}, Outputs: []ContentDiff{}}
	for _, output := range slices.Sorted(maps.Keys(mergedKeys(was.Out, is.Out))) {
		if content, differs := d.content(output, was.Out[output], is.Out[output]); differs {
			one.Outputs = append(one.Outputs, content)
		}
	}
	switch {
	case !before || !now:
		return one, true
	case was.Problem != is.Problem:
		one.Reasons = append(one.Reasons, Reason{What: "input", Old: was.Problem, New: is.Problem})
	case was.Key == is.Key:
	default:
		one.Reasons = d.reasons(name, was, is)
		if n := d.r.Plan.named[name]; n != nil {
			nameReferences(n, one.Reasons)
		}
	}
	return one, len(one.Outputs)+len(one.Reasons) > 0
}

// reasons compares what the keys of both sides describe, by the lock's digests where the cache has no result for one.
func (d *differ) reasons(name string, was, is SnapshotStage) []Reason {
	before, now := d.description(was), d.description(is)
	if before == "" || now == "" {
		return compareLocked(was.LockStage, is.LockStage)
	}
	var public func(string) bool
	if n := d.r.Plan.named[name]; n != nil {
		public = n.Step.publicEnv
	}
	return compareDescriptions(before, now, public)
}

func (d *differ) description(s SnapshotStage) string {
	if s.Description != "" {
		return s.Description
	}
	result, err := d.r.Cache.Result(s.Key)
	if err != nil {
		return ""
	}
	return result.Description
}

func changeOf(before, now bool) string {
	switch {
	case !before:
		return ChangeAdded
	case !now:
		return ChangeRemoved
	}
	return ChangeChanged
}

// content compares what stands at one place; zero content is none.
func (d *differ) content(name string, was, is LockOutput) (ContentDiff, bool) {
	if was == is {
		return ContentDiff{}, false
	}
	one := ContentDiff{
		Name: name, Path: cmp.Or(is.Path, was.Path), Change: changeOf(!was.ID.IsZero(), !is.ID.IsZero()),
		Old: hashOrNone(was.ID), New: hashOrNone(is.ID), OldBytes: was.Size, NewBytes: is.Size,
	}
	if was.Path != is.Path && was.Path != "" && is.Path != "" {
		one.OldPath = was.Path
	}
	if was.Content != is.Content && was.Dir && is.Dir {
		one.Unknown = !d.folder(was.ID, is.ID, "", &one.Files)
	}
	return one, true
}

// tree reads a folder of one side: as it stands in the workspace, or from the cache.
func (d *differ) tree(s Snapshot, id cache.ID) (*cache.Tree, bool) {
	if tree, known := s.trees[id]; known {
		return tree, true
	}
	if id.IsZero() {
		return &cache.Tree{}, true
	}
	tree, err := d.r.Cache.ReadTree(id)
	return tree, err == nil
}

// folder lists what differs between two folders, a zero ID being an empty one; false if a tree is nowhere to be had.
func (d *differ) folder(was, is cache.ID, prefix string, into *[]FileDiff) bool {
	before, known := d.tree(d.a, was)
	now, alsoKnown := d.tree(d.b, is)
	if !known || !alsoKnown {
		return false
	}
	all, i, j := true, 0, 0
	for i < len(before.Entries) || j < len(now.Entries) {
		var old, fresh cache.Entry
		switch {
		case j == len(now.Entries) || i < len(before.Entries) && before.Entries[i].Name < now.Entries[j].Name:
			old, i = before.Entries[i], i+1
		case i == len(before.Entries) || now.Entries[j].Name < before.Entries[i].Name:
			fresh, j = now.Entries[j], j+1
		default:
			old, fresh, i, j = before.Entries[i], now.Entries[j], i+1, j+1
		}
		if old != fresh {
			all = d.entry(old, fresh, prefix, into) && all
		}
	}
	return all
}

// entry compares two entries of one name; one without a name is none.
func (d *differ) entry(old, fresh cache.Entry, prefix string, into *[]FileDiff) bool {
	path := prefix + cmp.Or(old.Name, fresh.Name)
	all := true
	var wasFolder, isFolder cache.ID
	if old.Type == cache.Dir && old.Name != "" {
		wasFolder, old = old.ID, cache.Entry{}
	}
	if fresh.Type == cache.Dir && fresh.Name != "" {
		isFolder, fresh = fresh.ID, cache.Entry{}
	}
	if old.Name != "" || fresh.Name != "" {
		*into = append(*into, FileDiff{
			Path: path, Change: changeOf(old.Name != "", fresh.Name != ""),
			Old: entryText(old), New: entryText(fresh), OldBytes: old.Size, NewBytes: fresh.Size,
		})
	}
	if wasFolder != isFolder {
		all = d.folder(wasFolder, isFolder, path+"/", into)
	}
	return all
}

func entryText(e cache.Entry) string {
	if e.Type == cache.Link {
		return "link to " + e.Link
	}
	return hashOrNone(e.ID)
}

func diffVariables(a, b Snapshot) []VariableDiff {
	diffs := []VariableDiff{}
	if a.Variables == nil || b.Variables == nil {
		return diffs
	}
	was, is := map[string]string{}, map[string]string{}
	for _, one := range a.Variables {
		was[one.Name] = one.Value
	}
	for _, one := range b.Variables {
		is[one.Name] = one.Value
	}
	for _, name := range slices.Sorted(maps.Keys(mergedKeys(was, is))) {
		if was[name] != is[name] {
			diffs = append(diffs, VariableDiff{name, was[name], is[name]})
		}
	}
	return diffs
}
