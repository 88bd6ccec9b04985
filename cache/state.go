package cache

import (
	"bytes"
	"encoding/binary"
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

// State is the stat cache of one project: what its files were when last hashed. It may be deleted at any time.
//
// It never trusts a timestamp that a later write could repeat (see fileStat.settled), and it knows which files
// are links that this package made, because link() changes ctime.
type State struct {
	path string
	base string // paths under it are kept relative: a moved project keeps its state

	mu    sync.Mutex
	dirs  map[string]*dirState
	dirty bool
	today uint32
}

// dirState is replaced as a whole, never changed: who got hold of one may read it without a lock.
type dirState struct {
	used    uint32 // day since 1970 when it was last asked for
	entries []entry
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

const (
	stateMagic = "lpstate\x01"
	// forgetAfter bounds the file: folders that nobody asked for this long (in days) are left out when it is written.
	forgetAfter = 60
)

// OpenState reads the state at path; a missing or damaged file is an empty state.
func OpenState(path string) (*State, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	s := &State{path: abs, base: filepath.Dir(filepath.Dir(abs)) + "/", dirs: map[string]*dirState{}}
	s.today = uint32(time.Now().Unix() / 86400)
	data, err := os.ReadFile(abs)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s.decode(data)
	return s, nil
}

// Save writes the state back if it changed. It is not synced: what a crash tears fails its checksum.
func (s *State) Save() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.dirty {
		return nil
	}
	if err := s.write(); err != nil {
		return fmt.Errorf("save state %s: %w", s.path, err)
	}
	s.dirty = false
	return nil
}

func (s *State) write() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o777); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".state-*")
	if err != nil {
		return err
	}
	_, err = f.Write(s.encode())
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), s.path)
}

func (s *State) key(dir string) string { return strings.TrimPrefix(dir, s.base) }

// entries are those of a folder, sorted by name. Nobody may change them.
func (s *State) entries(dir string) []entry {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dirs[s.key(dir)]
	if d == nil {
		return nil
	}
	if d.used != s.today {
		// Noting the use alone is no reason to write: a day's delay costs nothing.
		d.used = s.today
	}
	return d.entries
}

func (s *State) entry(dir, name string) *entry { return find(s.entries(dir), name) }

func find(list []entry, name string) *entry {
	i, ok := slices.BinarySearchFunc(list, name, func(e entry, n string) int { return strings.Compare(e.name, n) })
	if !ok {
		return nil
	}
	return &list[i]
}

// setDir replaces what is known of a folder.
func (s *State) setDir(dir string, list []entry) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[s.key(dir)] = &dirState{s.today, list}
	s.dirty = true
}

// set replaces what is known of one file.
func (s *State) set(dir string, e entry) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(dir)
	var list []entry
	if d := s.dirs[k]; d != nil {
		list = d.entries
	}
	i, ok := slices.BinarySearchFunc(list, e.name, func(e entry, n string) int { return strings.Compare(e.name, n) })
	fresh := make([]entry, 0, len(list)+1)
	fresh = append(append(fresh, list[:i]...), e)
	if ok {
		i++
	}
	s.dirs[k] = &dirState{s.today, append(fresh, list[i:]...)}
	s.dirty = true
}

// entrySize is an entry's bytes without its name.
const entrySize = 4*8 + 2*4 + 32 + 1 + 4

func (s *State) encode() []byte {
	b := []byte(stateMagic)
	for _, k := range slices.Sorted(maps.Keys(s.dirs)) {
		d := s.dirs[k]
		if s.today-d.used > forgetAfter {
			continue
		}
		at := len(b)
		b = append(b, make([]byte, 8)...) // length and checksum, below
		b = binary.LittleEndian.AppendUint32(b, d.used)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(k)))
		b = append(b, k...)
		b = slices.Grow(b, len(d.entries)*(entrySize+16))
		for i := range d.entries {
			b = d.entries[i].encode(b)
		}
		binary.LittleEndian.PutUint32(b[at:], uint32(len(b)-at-8))
		binary.LittleEndian.PutUint32(b[at+4:], crc32.Checksum(b[at+8:], castagnoli()))
	}
	return b
}

func (e *entry) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.ino)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.ctime))
	b = binary.LittleEndian.AppendUint32(b, e.mode)
	b = binary.LittleEndian.AppendUint32(b, e.nlink)
	b = append(b, e.id[:]...)
	flags := byte(0)
	if e.settled {
		flags |= 1
	}
	if e.linked {
		flags |= 2
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.name)))
	return append(b, e.name...)
}

// decode takes the folders whose checksums fit, up to the first that does not.
func (s *State) decode(data []byte) {
	rest, ok := bytes.CutPrefix(data, []byte(stateMagic))
	for ok && len(rest) >= 8 {
		n := binary.LittleEndian.Uint32(rest)
		if uint64(n) > uint64(len(rest)-8) {
			return
		}
		body := rest[8 : 8+n]
		if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(rest[4:]) {
			return
		}
		if !s.decodeDir(body) {
			return
		}
		rest = rest[8+n:]
	}
}

func (s *State) decodeDir(b []byte) bool {
	if len(b) < 8 || uint64(binary.LittleEndian.Uint32(b[4:])) > uint64(len(b)-8) {
		return false
	}
	used, n := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	names := string(b) // one string of which all names are parts
	d := &dirState{used: used, entries: make([]entry, 0, len(b)/(entrySize+8))}
	at := 8 + int(n)
	key := names[8:at]
	for at < len(b) {
		if len(b)-at < entrySize {
			return false
		}
		p := b[at : at+entrySize]
		e := entry{settled: p[72]&1 != 0, linked: p[72]&2 != 0}
		e.ino = binary.LittleEndian.Uint64(p)
		e.size = int64(binary.LittleEndian.Uint64(p[8:]))
		e.mtime = int64(binary.LittleEndian.Uint64(p[16:]))
		e.ctime = int64(binary.LittleEndian.Uint64(p[24:]))
		e.mode = binary.LittleEndian.Uint32(p[32:])
		e.nlink = binary.LittleEndian.Uint32(p[36:])
		copy(e.id[:], p[40:72])
		length := binary.LittleEndian.Uint32(p[73:])
		at += entrySize
		if uint64(length) > uint64(len(b)-at) {
			return false
		}
		e.name = names[at : at+int(length)]
		at += int(length)
		d.entries = append(d.entries, e)
	}
	s.dirs[key] = d
	return true
}
