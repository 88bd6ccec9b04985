package runner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lpipe/cache"
)

// maxListed is how many files of an input folder a result lists.
const maxListed = 500

// listFiles gives, for input folders whose trees the cache need not hold, the files that counted and their hashes: so that
// `why` can name the one that changed.
func (v *view) listFiles(ctx context.Context, n *Node, in ingredients) map[string]map[string]cache.ID {
	var all map[string]map[string]cache.ID
	for _, one := range in.inputs {
		if !one.content.Dir || one.missing || one.digest.IsZero() && (one.origin == nil || v.lock.Sources[one.Path].Stored) {
			continue
		}
		scan, err := v.scan(ctx, one.nodeInput)
		if err != nil || scan.Content != one.content || one.digest.IsZero() && scan.Content.Files > maxListed {
			continue
		}
		files := countedFiles(scan, n.reads(one.nodeInput))
		if len(files) > maxListed {
			continue
		}
		if all == nil {
			all = map[string]map[string]cache.ID{}
		}
		all[one.Name] = files
	}
	return all
}

// countedFiles are the files of a folder that count, by path.
func countedFiles(scan *cache.Scan, reads []string) map[string]cache.ID {
	files := map[string]cache.ID{}
	counts := matching(reads)
	for rel, content := range scan.Files() {
		if reads == nil || counts(rel) {
			files[rel] = content.ID
		}
	}
	return files
}

// openListed replaces a changed folder among the reasons by the files in it that changed, where the recorded result
// lists those that counted.
func (v *view) openListed(ctx context.Context, n *Node, made *cache.Result, in ingredients, reasons []Reason) []Reason {
	var all []Reason
	for _, r := range reasons {
		i := slices.IndexFunc(in.inputs, func(one readInput) bool { return one.Name == r.Name })
		before := made.Inputs[r.Name]
		if r.What != "input" || i < 0 || before == nil || !in.inputs[i].content.Dir {
			all = append(all, r)
			continue
		}
		scan, err := v.scan(ctx, in.inputs[i].nodeInput)
		if err != nil || scan.Content != in.inputs[i].content {
			all = append(all, r)
			continue
		}
		all = append(all, listedReasons(r, before, countedFiles(scan, n.reads(in.inputs[i].nodeInput)))...)
	}
	return all
}

func listedReasons(of Reason, before, now map[string]cache.ID) []Reason {
	var reasons []Reason
	for _, rel := range slices.Sorted(maps.Keys(mergedKeys(before, now))) {
		if before[rel] != now[rel] {
			reasons = append(reasons, Reason{What: "input", Name: of.Name + "/" + rel, Old: hashOrNone(before[rel]), New: hashOrNone(now[rel])})
		}
	}
	if len(reasons) == 0 {
		return []Reason{of} // a mode, a link or an empty folder
	}
	if more := len(reasons) - maxFolderReasons; more > 0 {
		reasons = append(reasons[:maxFolderReasons], Reason{What: "input", Name: fmt.Sprintf("%s/… and %d more files", of.Name, more), Old: of.Old, New: of.New})
	}
	return reasons
}

// nameReferences puts paths in the place of ref[0], ref[1] in reasons.
func nameReferences(n *Node, reasons []Reason) {
	for i := range reasons {
		r := &reasons[i]
		if r.What != "input" || !strings.HasPrefix(r.Name, "ref[") {
			continue
		}
		name, rest, _ := strings.Cut(r.Name, "]")
		for j := range n.inputs {
			if in := &n.inputs[j]; in.Name == name+"]" {
				r.Name = in.Path + rest
			}
		}
	}
}
