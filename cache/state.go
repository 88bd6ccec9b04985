package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is the stat cache of one project: what its files were when last hashed, and what names its folders held. It
// may be deleted at any time.
//
// It never trusts a timestamp that a later write could repeat (see fileStat.settled), and it knows which files
// are links that this package made, because link() changes ctime.
//
// Folders are kept as they are written (state_file.go): a million files are read back as one piece, and a folder is
// looked into when it is asked for.
type State struct {
	path string
	base string // paths under it are kept relative: a moved project keeps its state

	mu      sync.Mutex
	folders map[string]*folderState
	today   uint32
	file    int64 // bytes of the file that can be appended to; 0: it is written anew
	dead    int64 // bytes of it that count no more
}

// folderState is what is known of one folder. Guarded by State.mu; what body holds is never changed.
type folderState struct {
	used    uint32 // day since 1970 when it was last asked for
	body    []byte // encoded; nil for a folder of which only singles are known
	sum     uint32 // body's checksum
	checked bool   // whether sum was compared
	singles map[string]entry
	dirty   bool // differs from the file
}

// entry is a regular file by name.
type entry struct {
	name string
	fileStat
	id      ID
	settled bool
	linked  bool // a hard link of its object, made by this package
}

// fresh tells whether the file is still what was hashed.
func (e *entry) fresh(now fileStat) bool {
	return e.settled && e.unchanged(now, e.linked) && e.exec() == now.exec()
}

// forgetAfter bounds the file: folders that nobody asked for this long (in days) are left out when it is written anew.
// Half as long after a use was written, the next one is.
const forgetAfter = 60

// OpenState reads the state at path; a missing or damaged file is an empty state.
func OpenState(path string) (*State, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	s := &State{path: abs, base: filepath.Dir(filepath.Dir(abs)) + "/", folders: map[string]*folderState{}}
	s.today = uint32(time.Now().Unix() / 86400)
	data, err := os.ReadFile(abs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s.decode(data)
	return s, nil
}

// Save writes down what changed: at the end of the file, or all of it anew where too much of it counts no more. It is
// not synced: what a crash tears fails its checksum.
func (s *State) Save() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []string
	for k, f := range s.folders {
		if f.dirty {
			changed = append(changed, k)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(changed)
	if err := s.write(changed); err != nil {
		return fmt.Errorf("save state %s: %w", s.path, err)
	}
	for _, k := range changed {
		s.folders[k].dirty = false
	}
	return nil
}

func (s *State) write(changed []string) error {
	for _, k := range changed {
		s.folders[k].merge(k)
	}
	if s.file > 0 {
		var b []byte
		for _, k := range changed {
			b = s.folders[k].append(b)
		}
		if s.dead+int64(len(b)) < s.file/2 && s.appendFile(b) == nil {
			s.file, s.dead = s.file+int64(len(b)), s.dead+int64(len(b))
			return nil
		}
	}
	return s.rewrite()
}

// appendFile adds to the file with one write, so that processes that do so at once do not mix theirs.
func (s *State) appendFile(b []byte) error {
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// rewrite replaces the file by all that counts.
func (s *State) rewrite() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".state-*")
	if err != nil {
		return err
	}
	size, err := s.writeAll(f)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	if err := os.Rename(f.Name(), s.path); err != nil {
		return err
	}
	s.file, s.dead = size, 0
	return nil
}

// writeAll writes in pieces: one buffer of the whole state would double the memory that it takes.
func (s *State) writeAll(f *os.File) (size int64, err error) {
	const piece = 1 << 20
	b := append(make([]byte, 0, piece+piece/4), stateMagic...)
	for _, k := range slices.Sorted(maps.Keys(s.folders)) {
		d := s.folders[k]
		if s.today-d.used > forgetAfter || !d.good() {
			continue
		}
		if b = d.append(b); len(b) < piece {
			continue
		}
		if _, err := f.Write(b); err != nil {
			return size, err
		}
		size, b = size+int64(len(b)), b[:0]
	}
	_, err = f.Write(b)
	return size + int64(len(b)), err
}

// good compares the checksum, once.
func (d *folderState) good() bool {
	if d.body != nil && !d.checked {
		if crc32.Checksum(d.body, castagnoli()) != d.sum || !wellFormed(d.body) {
			d.body = nil
		}
		d.checked = true
	}
	return d.body != nil
}

// merge makes the singles part of the body. The names that the folder held and its sum are forgotten: they were of
// another state of it.
func (d *folderState) merge(key string) {
	if len(d.singles) == 0 {
		return
	}
	facts := folderFacts{}
	add := func(name string) {
		e := d.singles[name]
		e.name = name
		facts.list = append(facts.list, known{typ: knownFile, entry: e})
	}
	fresh := slices.Sorted(maps.Keys(d.singles))
	if d.good() {
		was := folderOf(d.body)
		facts.list = make([]known, 0, was.count+len(fresh))
		for i := range was.count {
			k := was.at(i)
			if k.typ != knownFile {
				continue
			}
			for len(fresh) > 0 && fresh[0] < k.name {
				add(fresh[0])
				fresh = fresh[1:]
			}
			if len(fresh) == 0 || fresh[0] != k.name { // else what is newer counts
				facts.list = append(facts.list, k)
			}
		}
	}
	for _, name := range fresh {
		add(name)
	}
	d.set(facts.encode(key))
}

// set gives the folder a body.
func (d *folderState) set(body []byte) {
	d.body, d.sum, d.checked, d.dirty, d.singles = body, crc32.Checksum(body, castagnoli()), true, true, nil
}

func (s *State) key(dir string) string { return strings.TrimPrefix(dir, s.base) }

// ask finds a folder that is known, and notes that it was asked for.
func (s *State) ask(dir string) (string, *folderState) {
	k := s.key(dir)
	d := s.folders[k]
	if d == nil {
		return k, nil
	}
	if s.today-d.used > forgetAfter/2 && d.good() {
		d = s.make(k)
		d.dirty = true
	}
	d.used = s.today
	return k, d
}

// folder is what is known of a folder.
func (s *State) folder(dir string) (folder, bool) {
	if s == nil {
		return folder{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k, d := s.ask(dir)
	if d == nil {
		return folder{}, false
	}
	d.merge(k)
	if !d.good() {
		return folder{}, false
	}
	return folderOf(d.body), true
}

// entry is what is known of one file.
func (s *State) entry(dir, name string) *entry {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, d := s.ask(dir)
	if d == nil {
		return nil
	}
	if e, ok := d.singles[name]; ok {
		return &e
	}
	if !d.good() {
		return nil
	}
	f := folderOf(d.body)
	if i, ok := f.find(name); ok {
		if k := f.at(i); k.typ == knownFile {
			return &k.entry
		}
	}
	return nil
}

// setFolder replaces what is known of a folder, if that is something else.
func (s *State) setFolder(dir string, facts folderFacts) {
	if s == nil {
		return
	}
	s.setBody(dir, facts.encode(s.key(dir)))
}

// setBody is setFolder with what is encoded already.
func (s *State) setBody(dir string, body []byte) {
	k := s.key(dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.folders[k]; d != nil && len(d.singles) == 0 && d.good() && bytes.Equal(d.body, body) {
		return
	}
	s.make(k).set(body)
}

// set replaces what is known of one file.
func (s *State) set(dir string, e entry) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.make(s.key(dir))
	if d.singles == nil {
		d.singles = map[string]entry{}
	}
	d.singles[e.name] = e
	d.dirty = true
}

// make finds a folder, or begins it. Its record in the file, if it has one, counts no more.
func (s *State) make(key string) *folderState {
	d := s.folders[key]
	if d == nil {
		d = &folderState{}
		s.folders[key] = d
	}
	if d.body != nil && !d.dirty {
		s.dead += int64(len(d.body)) + recordHead
	}
	d.used = s.today
	return d
}
