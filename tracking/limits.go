package tracking

import (
	"path"
	"strconv"
	"strings"
	"unicode/utf8"
)

// What a server takes. A longer parameter or tag it cuts without a word; a longer name it refuses.
const (
	MaxName      = 250  // characters of the name of a metric, parameter, tag
	MaxParam     = 6000 // characters of a parameter's value
	MaxTag       = 5000 // of a tag's value; newer servers take 8000
	MaxMetrics   = 1000 // rows of a batch
	MaxParams    = 100
	MaxTags      = 100
	MaxBatchSize = 1000 // metrics, parameters and tags together
	MaxDigest    = 36   // characters of a data set's digest
	MaxDataset   = 500  // of its name
)

// Cut shortens a value to at most n characters, the last of which says so; it tells whether it had to.
func Cut(value string, n int) (string, bool) {
	if len(value) <= n || utf8.RuneCountInString(value) <= n {
		return value, false
	}
	return cut(value, n), true
}

// CleanName makes of any text a name that a server takes: letters, digits, `_ - . : /` and spaces, clean as a path, at
// most MaxName characters. A name that is good already stays as it is.
func CleanName(name string) string {
	if name != "" && len(name) <= MaxName && goodName(name) {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		if !nameRune(r) {
			r = '_'
		}
		b.WriteRune(r)
	}
	clean := strings.Trim(path.Clean("/"+b.String()), "/")
	clean = strings.ReplaceAll(clean, "..", "__") // nothing that a store of files could take for a parent
	if clean == "" || clean == "." {
		clean = "_"
	}
	if len(clean) > MaxName {
		clean = strings.TrimRight(clean[:MaxName], "/")
	}
	return clean
}

func nameRune(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return true
	}
	return strings.ContainsRune("_-.:/ ", r)
}

func goodName(name string) bool {
	for _, r := range name {
		if !nameRune(r) {
			return false
		}
	}
	return path.Clean(name) == name && name != "." && name != ".." && !strings.HasPrefix(name, "../") && !strings.HasPrefix(name, "/")
}

// Names gives every name of a run a clean one of its own: two names that differ stay different.
type Names struct {
	clean map[string]string // by what was asked for
	taken map[string]bool
}

// Of is the clean name; fresh tells that it was asked for the first time and differs from what was asked for.
func (n *Names) Of(name string) (clean string, fresh bool) {
	if clean, known := n.clean[name]; known {
		return clean, false
	}
	if n.clean == nil {
		n.clean, n.taken = map[string]string{}, map[string]bool{}
	}
	clean = CleanName(name)
	for i := 2; n.taken[clean]; i++ {
		ending := "_" + strconv.Itoa(i)
		base := CleanName(name)
		clean = base[:min(len(base), MaxName-len(ending))] + ending
	}
	n.clean[name], n.taken[clean] = clean, true
	return clean, clean != name
}
