package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Witness notes what stood at every path that an answer hangs on, so that a later process can tell, by stat alone,
// that the answer still holds. It keeps only what cannot have changed unseen: a file or folder that was changed
// shortly before the look began, or since, makes it no witness at all (Settled). A nil Witness notes nothing.
type Witness struct {
	base  string // paths under it are kept relative
	began time.Time

	mu    sync.Mutex // guards what follows
	marks map[markKey]fileStat
	lists map[uint64]bool // by device: whether the times of its folders tell that names changed
	doubt error           // why this is no witness, nil if it is
}

// markKey is a path, and whether a link there is followed.
type markKey struct {
	path   string
	follow bool
}

// NewWitness begins a look. Call it before the first path is looked at.
func NewWitness(base string) *Witness {
	return &Witness{base: base, began: time.Now(), marks: map[markKey]fileStat{}, lists: map[uint64]bool{}}
}

// Doubt makes w no witness.
func (w *Witness) Doubt(err error) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.doubt == nil {
		w.doubt = err
	}
}

// Settled returns nil if w tells all that its look hung on.
func (w *Witness) Settled() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.doubt
}

// Look notes a path that was, or is about to be, read or listed. One that is not there is noted as such.
func (w *Witness) Look(path string, follow bool) {
	if w == nil {
		return
	}
	if !filepath.IsAbs(path) {
		w.Doubt(fmt.Errorf("%s is relative to a folder that another process need not be in", path))
		return
	}
	now, err := statAt(unix.AT_FDCWD, path, follow)
	if err != nil {
		w.Doubt(pathError("stat", path, err))
		return
	}
	if now.dir() && !w.listsByTime(path, now.dev) {
		w.Doubt(fmt.Errorf("the times of %s do not tell whether its names changed", path))
	}
	w.note(path, follow, now)
}

func (w *Witness) listsByTime(path string, dev uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	tells, known := w.lists[dev]
	if !known {
		tells = listsByTime(path)
		w.lists[dev] = tells
	}
	return tells
}

// Saw notes what a Scan of a path found.
func (w *Witness) Saw(path string, s *Scan) {
	if w == nil {
		return
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		w.Doubt(err)
		return
	}
	w.saw(abs, true, &s.root)
}

func (w *Witness) saw(path string, root bool, n *node) {
	switch {
	case n.typ == Dir:
		if !n.settled {
			w.Doubt(fmt.Errorf("the times of %s do not tell whether its names changed", path))
		}
		w.note(path, root, n.fileStat)
		for _, kid := range n.children() {
			if kid.dev == 0 { // the state does not remember it
				kid.dev = n.dev
			}
			w.saw(path+"/"+kid.name, false, &kid)
		}
	case n.typ == Link:
		w.Look(path, false)
	case n.placed: // the link, and the object that it leads to
		w.Look(path, false)
		w.note(path, true, n.fileStat)
	default:
		w.note(path, root, n.fileStat)
	}
}

func (w *Witness) note(path string, follow bool, s fileStat) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rel, under := strings.CutPrefix(path, w.base+"/"); under {
		path = rel
	}
	s = s.compared()
	key := markKey{path, follow}
	if was, twice := w.marks[key]; twice && was != s && w.doubt == nil {
		w.doubt = fmt.Errorf("%s changed during the look", path)
	}
	w.marks[key] = s
	if s.there() && !s.settled(w.began, false) && w.doubt == nil {
		w.doubt = fmt.Errorf("%s was changed a moment ago", path)
	}
}

// Join adds what another witness with the same base noted.
func (w *Witness) Join(other *Witness) {
	w.Doubt(other.Settled())
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, s := range other.marks {
		if was, twice := w.marks[key]; twice && was != s && w.doubt == nil {
			w.doubt = fmt.Errorf("%s changed during the look", key.path)
		}
		w.marks[key] = s
	}
}

// compared is a stat with what two looks are compared by, and no more. The number of links is not: where it changes,
// ctime does.
func (s fileStat) compared() fileStat {
	s.nlink, s.uid = 0, 0
	return s
}

// there tells whether anything was found.
func (s fileStat) there() bool { return s != fileStat{} }

// statAt is a path's stat, the zero one where nothing stands.
func statAt(dir int, path string, follow bool) (fileStat, error) {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if follow {
		flags = 0
	}
	var raw unix.Stat_t
	err := retry(func() error { return unix.Fstatat(dir, path, &raw, flags) })
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fileStat{}, nil
	case err != nil:
		return fileStat{}, err
	}
	return statOf(&raw).compared(), nil
}

// A mark as written: dev, ino, size, mtime, ctime as 64 bits, mode as 32, 1 for follow as 32, the end of its path in
// the paths that follow all marks as 32; little endian.
const markSize = 5*8 + 3*4

// Append writes the marks, sorted by path. It must be Settled.
func (w *Witness) Append(b []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(w.marks), func(a, b markKey) int {
		if a.path == b.path && a.follow != b.follow {
			if b.follow {
				return -1
			}
			return 1
		}
		return strings.Compare(a.path, b.path)
	})
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keys)))
	var paths []byte
	for _, key := range keys {
		s := w.marks[key]
		paths = append(paths, key.path...)
		follow := uint32(0)
		if key.follow {
			follow = 1
		}
		for _, field := range []uint64{s.dev, s.ino, uint64(s.size), uint64(s.mtime), uint64(s.ctime)} {
			b = binary.LittleEndian.AppendUint64(b, field)
		}
		for _, field := range []uint32{s.mode, follow, uint32(len(paths))} {
			b = binary.LittleEndian.AppendUint32(b, field)
		}
	}
	return append(b, paths...)
}

// Marks are what Append wrote, as a reader has them.
type Marks struct {
	rows  []byte
	paths string
}

// ReadMarks takes all of b. The bytes stay in use.
func ReadMarks(b []byte) (Marks, error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b))*markSize > uint64(len(b)-4) {
		return Marks{}, damaged("marks: %d bytes are too few", len(b))
	}
	n := int(binary.LittleEndian.Uint32(b)) * markSize
	m := Marks{rows: b[4 : 4+n], paths: string(b[4+n:])}
	end := 0
	for i := range m.Len() {
		next := m.end(i)
		if next < end || next > len(m.paths) {
			return Marks{}, damaged("marks: path %d ends at %d of %d", i, next, len(m.paths))
		}
		end = next
	}
	if end != len(m.paths) {
		return Marks{}, damaged("marks: %d bytes of paths too many", len(m.paths)-end)
	}
	return m, nil
}

// Len is how many paths there are to look at.
func (m Marks) Len() int { return len(m.rows) / markSize }

func (m Marks) end(i int) int { return int(binary.LittleEndian.Uint32(m.rows[i*markSize+48:])) }

// at is the path and the stat of a mark.
func (m Marks) at(i int) (markKey, fileStat) {
	row, start := m.rows[i*markSize:], 0
	if i > 0 {
		start = m.end(i - 1)
	}
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(row[at:]) }
	key := markKey{m.paths[start:m.end(i)], binary.LittleEndian.Uint32(row[44:]) != 0}
	return key, fileStat{dev: word(0), ino: word(8), size: int64(word(16)), mtime: int64(word(24)), ctime: int64(word(32)), mode: binary.LittleEndian.Uint32(row[40:])}
}

// Witness is the marks as a witness anew, of a look that had settled.
func (m Marks) Witness(base string) *Witness {
	w := NewWitness(base)
	for i := range m.Len() {
		key, s := m.at(i)
		w.marks[key] = s
	}
	return w
}

// Hold tells whether every path below base, and outside of it, is as it was noted. Several processors look side by
// side where there are many.
func (m Marks) Hold(base string) bool {
	dir, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(dir)
	const piece = 512
	var next, differs atomic.Int64
	look := func() {
		for differs.Load() == 0 {
			from := int(next.Add(piece)) - piece
			if from >= m.Len() {
				return
			}
			if !m.hold(dir, from, min(from+piece, m.Len())) {
				differs.Store(1)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (m.Len()+piece-1)/piece) - 1 {
		others.Go(look)
	}
	look()
	others.Wait()
	return differs.Load() == 0
}

func (m Marks) hold(dir, from, to int) bool {
	for i := from; i < to; i++ {
		key, was := m.at(i)
		if now, err := statAt(dir, key.path, key.follow); err != nil || now != was {
			return false
		}
	}
	return true
}

// Differing lists the paths that are not as they were noted, absolute, each once. False: there are more than most, or the
// folder cannot be opened.
func (m Marks) Differing(base string, most int) ([]string, bool) {
	dir, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	defer unix.Close(dir)
	var mu sync.Mutex
	found := map[string]bool{}
	err = newCrew().each(context.Background(), m.Len(), 256, func(i int) error {
		if m.hold(dir, i, i+1) {
			return nil
		}
		key, _ := m.at(i)
		if !filepath.IsAbs(key.path) {
			key.path = filepath.Join(base, key.path)
		}
		mu.Lock()
		defer mu.Unlock()
		if found[key.path] = true; len(found) > most {
			return errTooMany
		}
		return nil
	})
	return slices.Collect(maps.Keys(found)), err == nil
}

// errTooMany ends a look for what differs.
var errTooMany = errors.New("too many paths differ")

// Notes tells whether w has noted a path, followed or not.
func (w *Witness) Notes(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	path = strings.TrimPrefix(path, w.base+"/")
	for _, follow := range []bool{false, true} {
		if _, noted := w.marks[markKey{path, follow}]; noted {
			return true
		}
	}
	return false
}

// RestsOn lists the files by which a cache is one, and knows of a project.
func (c *Cache) RestsOn(workspace string) []string {
	return []string{c.in("format"), c.projectPath(workspace)}
}
