package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"lpipe/cache"
)

// Reason is one thing that differs from what is recorded. Old and New are empty where the thing is new or gone, and
// "changed" where they must not be shown.
type Reason struct {
	What string `json:"what"` // input, setting, code, tool, kind, upstream, output
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// A description is read back as one fact for each line.
type fact struct{ what, name string }

// facts reads a description into what it says about each thing. Lines of a sort that this version does not know count
// as they stand.
func facts(description string) map[fact]string {
	all := map[fact]string{}
	for line := range strings.Lines(description) {
		line = strings.TrimSuffix(line, "\n")
		sort, rest, _ := strings.Cut(line, " ")
		switch sort {
		case "lpipe":
			all[fact{"kind", "key"}] = line
		case "kind":
			name, version, _ := strings.Cut(rest, " ")
			all[fact{"kind", ""}] = name + " " + version
		default:
			name, value := cutQuoted(rest)
			all[fact{sort, name}] = value
		}
	}
	return all
}

// cutQuoted splits `"a name" value` at the end of the quoted part.
func cutQuoted(text string) (name, value string) {
	decoder := json.NewDecoder(strings.NewReader(text))
	if decoder.Decode(&name) != nil {
		return text, ""
	}
	return name, strings.TrimPrefix(text[decoder.InputOffset():], " ")
}

// whats translates a line's sort to a reason's What.
func whatOf(sort string) string {
	switch sort {
	case "in":
		return "input"
	case "out":
		return "output"
	case "env":
		return "setting"
	}
	return sort
}

// compareDescriptions lists what differs between a recorded description and the one of now. public says of which
// variables in env the value may be shown; nil is none: a description does not say which came from the environment.
func compareDescriptions(before, now string, public func(variable string) bool) []Reason {
	if before == now {
		return nil
	}
	was, is := facts(before), facts(now)
	shown := func(f fact, value string) string { return shown(f, value, public) }
	var reasons []Reason
	for what := range maps.Keys(was) {
		if _, still := is[what]; !still {
			reasons = append(reasons, Reason{What: whatOf(what.what), Name: what.shown(), Old: shown(what, was[what])})
		}
	}
	for what, value := range is {
		old, before := was[what]
		switch {
		case !before:
			reasons = append(reasons, Reason{What: whatOf(what.what), Name: what.shown(), New: shown(what, value)})
		case old != value:
			r := Reason{What: whatOf(what.what), Name: what.shown(), Old: shown(what, old), New: shown(what, value)}
			if r.Old == r.New {
				r.Old, r.New = "changed", "changed"
			}
			reasons = append(reasons, r)
		}
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return strings.Compare(a.What+"\x00"+a.Name, b.What+"\x00"+b.Name)
	})
	return reasons
}

func (f fact) shown() string {
	if f.what == "env" {
		return "env." + f.name
	}
	return f.name
}

// shown is a fact's value for a person. Values from the environment may be secrets of a machine, and a sensitive
// value is in the description as a hash only.
func shown(f fact, value string, public func(variable string) bool) string {
	switch f.what {
	case "env":
		if public == nil || !public(f.name) {
			return "changed"
		}
	case "setting":
		if strings.HasPrefix(value, "sensitive ") {
			return "changed"
		}
	case "in", "code", "tool":
		return value
	case "out":
		if text, err := strconv.Unquote(value); err == nil {
			return text
		}
	}
	return value
}

// compareLocked does the same where only the lock's digests of the recorded state are at hand: of settings, code and
// tools it knows only that something changed.
func compareLocked(was, is LockStage) []Reason {
	var reasons []Reason
	differ := func(what, name, old, new string) {
		if old != new {
			reasons = append(reasons, Reason{What: what, Name: name, Old: old, New: new})
		}
	}
	changed := func(what, name, old, new string) {
		if old != new {
			reasons = append(reasons, Reason{What: what, Name: name, Old: "changed", New: "changed"})
		}
	}
	differ("kind", "", was.Kind, is.Kind)
	for _, name := range slices.Sorted(maps.Keys(mergedKeys(was.In, is.In))) {
		differ("input", name, hashOrNone(was.In[name]), hashOrNone(is.In[name]))
	}
	changed("setting", "", was.Settings, is.Settings)
	changed("setting", "env", was.Env, is.Env)
	changed("code", "", was.Code, is.Code)
	changed("tool", "", was.Tools, is.Tools)
	for _, name := range slices.Sorted(maps.Keys(mergedKeys(was.Out, is.Out))) {
		differ("output", name, was.Out[name].Path, is.Out[name].Path)
	}
	if len(reasons) == 0 && was.Key != is.Key {
		reasons = append(reasons, Reason{What: "setting", Name: "key", Old: was.Key.String(), New: is.Key.String()})
	}
	return reasons
}

// Vague reports that a reason does not say what of a stage's settings, code or tools changed, since the record of the
// run is not in the cache.
func (r Reason) Vague() bool {
	return (r.Name == "" || r.Name == "env") && r.Old == "changed" && r.New == "changed"
}

func hashOrNone(id cache.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

func mergedKeys[V any](a, b map[string]V) map[string]bool {
	all := make(map[string]bool, len(a)+len(b))
	for name := range a {
		all[name] = true
	}
	for name := range b {
		all[name] = true
	}
	return all
}

// maxFolderReasons limits how many files of one changed folder are named.
const maxFolderReasons = 20

// openFolders replaces a changed folder among the reasons by the files in it that changed, as far as the trees of both
// contents are in the cache or on disk. now gives what was recorded, what the folder holds now, and its scan if there
// is one.
func (r *Runner) openFolders(ctx context.Context, reasons []Reason, now func(name string) (before, after cache.ID, scan *cache.Scan)) []Reason {
	var all []Reason
	for _, reason := range reasons {
		if reason.What != "input" || reason.Old == "" || reason.New == "" {
			all = append(all, reason)
			continue
		}
		before, after, scan := now(reason.Name)
		if before.IsZero() || after.IsZero() {
			all = append(all, reason)
			continue
		}
		differences, err := r.Cache.Diff(ctx, before, after, scan)
		if err != nil {
			all = append(all, reason)
			continue
		}
		all = append(all, folderReasons(reason, differences)...)
	}
	return all
}

func folderReasons(of Reason, differences []cache.Difference) []Reason {
	var reasons []Reason
	for i, d := range differences {
		if i == maxFolderReasons {
			return append(reasons, Reason{What: "input", Name: fmt.Sprintf("%s/… and %d more files", of.Name, len(differences)-i), Old: of.Old, New: of.New})
		}
		reasons = append(reasons, Reason{What: "input", Name: of.Name + "/" + d.Path, Old: hashOrNone(d.Before.ID), New: hashOrNone(d.After.ID)})
	}
	if len(reasons) == 0 {
		return []Reason{of} // a link or an empty folder
	}
	return reasons
}
