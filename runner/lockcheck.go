package runner

import (
	"encoding/hex"
	"encoding/json"
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
	b := make([]byte, 0, 1024)
	b = appendJSONString(append(b, "stage "...), name)
	b = hex.AppendEncode(append(b, "\nkey "...), s.Key[:])
	b = appendJSONString(append(b, "\nkind "...), s.Kind)
	b = checkFields(b, [][2]string{{"\nsettings ", s.Settings}, {"\ncode ", s.Code}, {"\ntools ", s.Tools}, {"\nenv ", s.Env}})
	for _, in := range sortedKeys(s.In) {
		id := s.In[in]
		b = appendJSONString(append(b, "\nin "...), in)
		b = hex.AppendEncode(append(b, ' '), id[:])
	}
	for _, out := range sortedKeys(s.Out) {
		one := s.Out[out]
		b = appendJSONString(append(b, "\nout "...), out)
		b = appendJSONString(append(b, ' '), one.Path)
		b = appendContentWords(b, one.Content)
	}
	return lineSum(append(b, '\n'))
}

func (s LockSource) check(path string) string {
	b := appendJSONString([]byte("source "), path)
	b = appendContentWords(b, s.Content)
	b = append(b, ifSo(s.Stored, "\nstored")...)
	b = checkFields(b, [][2]string{{"\npin ", s.Pin}, {"\nfrom ", s.From}, {"\nchoice ", s.Choice}})
	return lineSum(append(b, '\n'))
}

// checkFields appends those of some fields that are not empty.
func checkFields(b []byte, fields [][2]string) []byte {
	for _, field := range fields {
		if field[1] != "" {
			b = appendJSONString(append(b, field[0]...), field[1])
		}
	}
	return b
}

func appendContentWords(b []byte, c cache.Content) []byte {
	b = hex.AppendEncode(append(b, ' '), c.ID[:])
	b = append(append(append(b, ' '), sortOf(c)...), ' ')
	b = strconv.AppendInt(b, c.Size, 10)
	return strconv.AppendInt(append(b, ' '), c.Files, 10)
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
