package stages

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"lpipe/runner"
)

// tally counts rows by what happened to them, and remembers where each thing happened first.
type tally struct {
	counts map[string]int64
	first  map[string]string
}

func newTally() *tally { return &tally{map[string]int64{}, map[string]string{}} }

// add counts n rows; where names the first of them.
func (t *tally) add(what string, n int64, where string) {
	if n == 0 {
		return
	}
	if t.counts[what] == 0 {
		t.first[what] = where
	}
	t.counts[what] += n
}

// merge adds what another tally counted later in the rows.
func (t *tally) merge(o *tally) {
	for what, n := range o.counts {
		t.add(what, n, o.first[what])
	}
}

// names lists what was counted, the most frequent first.
func (t *tally) names() []string {
	names := make([]string, 0, len(t.counts))
	for name := range t.counts {
		names = append(names, name)
	}
	sort.Slice(names, func(a, b int) bool {
		if x, y := t.counts[names[a]], t.counts[names[b]]; x != y {
			return x > y
		}
		return names[a] < names[b]
	})
	return names
}

// log writes a line for each thing counted: "  12 dropped: no messages (first: data/x.jsonl line 3)".
func (t *tally) log(env *runner.Env, verb string) {
	for _, name := range t.names() {
		line := fmt.Sprintf("  %d %s: %s", t.counts[name], verb, name)
		if first := t.first[name]; first != "" {
			line += " (first: " + first + ")"
		}
		logf(env, "%s", line)
	}
}

// String is the counts in one line: "3 no messages, 1 empty".
func (t *tally) String() string {
	var parts []string
	for _, name := range t.names() {
		parts = append(parts, fmt.Sprintf("%d %s", t.counts[name], name))
	}
	return strings.Join(parts, ", ")
}

// fileSize is the size of a file, 0 where that cannot be told: opening it will say why.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// writeFile writes a whole file by a temporary one beside it.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(fs.FileMode(0o644))
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// rowSet is a set of row numbers.
type rowSet []uint64

func (b *rowSet) set(n int64) {
	for int64(len(*b)) <= n/64 {
		*b = append(*b, make([]uint64, max(1024, len(*b)/2))...)
	}
	(*b)[n/64] |= 1 << (n % 64)
}

func (b rowSet) has(n int64) bool { return n/64 < int64(len(b)) && b[n/64]>>(n%64)&1 == 1 }
