package runner

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"
)

// lockExcerpt is a lock whose stages are left as text.
type lockExcerpt struct {
	dir, profile string
	stamp        stamp
	stages       []lockText // sorted by name
	sources      []string   // paths, sorted
	lock         *Lock      // with all sources

	differs []bool // by stage: its check is not the one that KeepFresh noted
	changed []bool // the same by source
}

// readLockExcerpt reads a lock that is as encode writes it; nil where it is not.
func readLockExcerpt(dir, profile string) *lockExcerpt {
	path := LockPath(dir, profile)
	l := &lockExcerpt{dir: dir, profile: profile, stamp: stampOf(path, filepath.Join(dir, ".lpipe", "journal")), lock: newLock()}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	c := lockScan{s: unsafe.String(unsafe.SliceData(data), len(data))} // nobody changes data after this
	l.stages = make([]lockText, 0, len(data)/averageRecord+1)
	c.must(lockHead)
	c.each("    ", func(path string) {
		l.lock.Sources[path] = c.source(path)
		l.sources = append(l.sources, path)
	})
	c.must(",\n  \"stages\": {")
	c.each("    ", func(name string) {
		l.stages = append(l.stages, lockText{name, c.stageText()})
	})
	c.must("\n}\n")
	if c.bad || c.s != "" {
		return nil
	}
	return l
}

// stageText passes over a record: no line within it is indented as little as its last.
func (c *lockScan) stageText() string {
	const end = "\n    }"
	at := strings.Index(c.s, end)
	if at < 0 {
		c.surprise()
		return ""
	}
	text := c.s[:at+len(end)]
	c.s = c.s[len(text):]
	return text
}

// hasNames reads what encodeChecks wrote, off the front, and notes whose check is another. It is false where the lock has other
// names by now.
func (l *lockExcerpt) hasNames(r *reader) bool {
	l.differs, l.changed = make([]bool, len(l.stages)), make([]bool, len(l.sources))
	if r.count() != len(l.stages) {
		return false
	}
	for i, one := range l.stages {
		if string(r.take(int(r.uvarint()))) != one.name {
			return false
		}
		l.differs[i] = string(r.take(int(r.uvarint()))) != checkIn(one.text)
	}
	if r.count() != len(l.sources) {
		return false
	}
	for i, path := range l.sources {
		if string(r.take(int(r.uvarint()))) != path {
			return false
		}
		l.changed[i] = string(r.take(int(r.uvarint()))) != l.lock.Sources[path].check(path)
	}
	return !r.bad
}

// record is the lock with some stages read, for a pipeline that leaves out the others, which it is told of; nil where one cannot be
// read.
func (l *lockExcerpt) record(wanted, others []string, p *Pipeline) *Record {
	reads, leaves := setOf(wanted), setOf(others)
	l.lock.texts = make(map[string]string, len(wanted))
	for _, one := range l.stages {
		if leaves[one.name] {
			p.left.rest = append(p.left.rest, one)
		}
		if !reads[one.name] {
			l.lock.rest = append(l.lock.rest, one)
			continue
		}
		c := lockScan{s: one.text}
		l.lock.Stages[one.name], l.lock.texts[one.name] = c.stage(one.name), one.text
		if c.bad || c.s != "" {
			return nil
		}
	}
	return &Record{dir: l.dir, profile: l.profile, lock: l.lock, stamp: l.stamp}
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// appendStages writes all records, each as its text where that is known.
func (l *Lock) appendStages(b []byte) []byte {
	all := slices.Grow(slices.Clone(l.rest), len(l.Stages))
	for name := range maps.Keys(l.Stages) {
		all = append(all, lockText{name, l.texts[name]})
	}
	slices.SortFunc(all, func(a, b lockText) int { return cmp.Compare(a.name, b.name) })
	for i, one := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(append(b, "\n    "...), one.name), ": "...)
		if one.text != "" {
			b = append(b, one.text...)
		} else {
			b = l.Stages[one.name].append(b, one.name)
		}
	}
	if len(all) > 0 {
		b = append(b, "\n  "...)
	}
	return b
}
