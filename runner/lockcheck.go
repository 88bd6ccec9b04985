package runner

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"lpipe/cache"
)

// A record of the lock carries a check: the first 16 hexadecimal digits of the hash of what it says, its name
// included. One for each record, not for the file, so that a merge that takes whole records stays good, and one that
// mixes two is found.

type checkedStage struct {
	LockStage
	Check string `json:"check,omitempty"`
}

type checkedSource struct {
	LockSource
	Check string `json:"check,omitempty"`
}

// check is the digest that a stage's record carries; doc/format-runner.md specifies the text.
func (s LockStage) check(name string) string {
	b := checkLine(nil, "stage", quote(name))
	b = checkLine(b, "key", s.Key.String())
	b = checkLine(b, "kind", quote(s.Kind))
	for _, part := range [][2]string{{"settings", s.Settings}, {"code", s.Code}, {"tools", s.Tools}, {"env", s.Env}} {
		if part[1] != "" {
			b = checkLine(b, part[0], quote(part[1]))
		}
	}
	for _, in := range slices.Sorted(maps.Keys(s.In)) {
		b = checkLine(b, "in", quote(in), s.In[in].String())
	}
	for _, out := range slices.Sorted(maps.Keys(s.Out)) {
		b = checkLine(b, "out", quote(out), quote(s.Out[out].Path), contentWords(s.Out[out].Content))
	}
	return lineSum(b)
}

func (s LockSource) check(path string) string {
	b := checkLine(nil, "source", quote(path), contentWords(s.Content))
	if s.Stored {
		b = checkLine(b, "stored")
	}
	for _, part := range [][2]string{{"pin", s.Pin}, {"from", s.From}, {"choice", s.Choice}} {
		if part[1] != "" {
			b = checkLine(b, part[0], quote(part[1]))
		}
	}
	return lineSum(b)
}

func checkLine(b []byte, words ...string) []byte {
	for i, word := range words {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, word...)
	}
	return append(b, '\n')
}

func contentWords(c cache.Content) string {
	return c.ID.String() + " " + sortOf(c) + " " + strconv.FormatInt(c.Size, 10) + " " + strconv.FormatInt(c.Files, 10)
}

var (
	sourceLine = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^    ("(?:[^"\\]|\\.)*"): (\{"id":.*\}),?$`) })
	stageStart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^    ("(?:[^"\\]|\\.)*"): \{$`) })
)

// salvage reads from a damaged lock the records that stand for themselves: those whose check fits, and of locks without
// checks the sources, whose content stands nowhere else when they are missing. Other stages come back from results by key.
// Where two sides of a merge differ, neither is taken.
func salvage(data []byte) *Lock {
	lock := newLock()
	torn := map[string]bool{}
	lines := strings.Split(string(data), "\n")
	checked := strings.Contains(string(data), `"check":`)
	for i, line := range lines {
		if m := sourceLine().FindStringSubmatch(line); m != nil {
			lock.salvageSource(m[1], m[2], checked, torn)
		} else if m := stageStart().FindStringSubmatch(line); m != nil {
			if end := slices.IndexFunc(lines[i:], func(l string) bool { return l == "    }" || l == "    }," }); end > 0 {
				lock.salvageStage(m[1], "{"+strings.Join(lines[i+1:i+end], "\n")+"}", torn)
			}
		}
	}
	for name := range torn {
		delete(lock.Sources, name)
		delete(lock.Stages, name)
	}
	return lock
}

func (l *Lock) salvageSource(quoted, text string, checked bool, torn map[string]bool) {
	var path string
	var one checkedSource
	if json.Unmarshal([]byte(quoted), &path) != nil || json.Unmarshal([]byte(text), &one) != nil || one.ID.IsZero() ||
		(checked || one.Check != "") && one.Check != one.check(path) {
		return
	}
	if other, twice := l.Sources[path]; twice && other != one.LockSource {
		torn[path] = true
	}
	l.Sources[path] = one.LockSource
}

func (l *Lock) salvageStage(quoted, text string, torn map[string]bool) {
	var name string
	var one checkedStage
	if json.Unmarshal([]byte(quoted), &name) != nil || json.Unmarshal([]byte(text), &one) != nil || one.Check != one.LockStage.check(name) {
		return
	}
	if other, twice := l.Stages[name]; twice && other.check(name) != one.Check {
		torn[name] = true
	}
	l.Stages[name] = one.LockStage
}
