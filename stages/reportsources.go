package stages

import (
	"cmp"
	"maps"
	"slices"

	"lpipe/dataset"
)

// sourceKey is what the report counts rows by.
type sourceKey struct{ source, license string }

// sourceCount is rows that came, and of them those that go on.
type sourceCount struct{ rows, kept int64 }

// sourceReport is a line of the report's table of sources.
type sourceReport struct {
	Source  string `json:"source"`
	License string `json:"license"`
	Rows    int64  `json:"rows"`
	Kept    int64  `json:"kept"`
}

const (
	sourcesShown = 100
	sourcesKept  = 10_000 // told apart while counting: a column with a value of its own in each row must not fill the memory
	otherSources = "others"
)

// count counts a row.
func (j *judged) count(row *dataset.Row, kept bool) {
	key := sourceKey{row.Source, row.License}
	n := j.sources[key]
	if n.rows++; kept {
		n.kept++
	}
	j.sources[key] = n
}

// countSources adds a batch's counts. Batches come in order, so that what falls to the others is the same everywhere; within
// one, sorting sees to that.
func (r *report) countSources(batch map[sourceKey]sourceCount) {
	for _, key := range slices.SortedFunc(maps.Keys(batch), sourceKey.compare) {
		to := key
		if _, known := r.sources[key]; !known && len(r.sources) >= sourcesKept {
			to = sourceKey{otherSources, key.license}
		}
		n := r.sources[to]
		r.sources[to] = sourceCount{n.rows + batch[key].rows, n.kept + batch[key].kept}
	}
}

func (a sourceKey) compare(b sourceKey) int {
	return cmp.Or(cmp.Compare(a.source, b.source), cmp.Compare(a.license, b.license))
}

// listSources lists the sources, the largest first; those that are not shown are summed up by licence, of which none is lost.
func (r *report) listSources() []sourceReport {
	keys := slices.SortedFunc(maps.Keys(r.sources), func(a, b sourceKey) int {
		return cmp.Or(cmp.Compare(r.sources[b].rows, r.sources[a].rows), a.compare(b))
	})
	list := []sourceReport{}
	for i, key := range keys {
		n := r.sources[key]
		if i >= sourcesShown {
			key.source = otherSources
		}
		at := slices.IndexFunc(list, func(s sourceReport) bool { return s.Source == key.source && s.License == key.license })
		if i < sourcesShown || at < 0 {
			list = append(list, sourceReport{key.source, key.license, n.rows, n.kept})
			continue
		}
		list[at].Rows += n.rows
		list[at].Kept += n.kept
	}
	return list
}
