package runner

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// blockName is what stages, variables, sources, profiles, remotes, experiments and shell's ports may be called.
var blockName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`) })

// instanceName is what may follow the @: it becomes a folder's name and stands on command lines.
var instanceName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_+-][A-Za-z0-9_.,=+-]*$`) })

// suggest is the remedy for an unknown name: the nearest one, else all there are.
func suggest(name string, known []string, plural string) string {
	if near := nearestName(name, known); name != "" && near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	if len(known) == 0 {
		return fmt.Sprintf("There are no %s here.", plural)
	}
	sorted := slices.Sorted(slices.Values(known))
	sorted = slices.Compact(sorted)
	const most = 20
	if len(sorted) > most {
		return fmt.Sprintf("There are %d %s, among them: %s.", len(sorted), plural, strings.Join(sorted[:most], ", "))
	}
	return fmt.Sprintf("The %s are: %s.", plural, strings.Join(sorted, ", "))
}

// nearestName returns the known name that a typing mistake would turn into name, or "".
func nearestName(name string, known []string) string {
	best, least := "", len(name)/3+1 // of a name of two letters every other one would be near
	for _, candidate := range known {
		if strings.EqualFold(candidate, name) {
			return candidate
		}
		if abs(len(candidate)-len(name)) >= least {
			continue
		}
		if n := typoDistance(name, candidate); n < least || n == least && best != "" && candidate < best {
			best, least = candidate, n
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// typoDistance counts insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
func typoDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// counted is "no labels", "1 label", "2 labels".
func counted(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
