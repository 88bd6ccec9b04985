package crash

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Node is a file, folder or symbolic link as it was at some time. Two names of one Node are hard links.
type Node struct {
	inode uint64
	mode  fs.FileMode
	mtime time.Time
	data  []byte           // of a file
	link  string           // of a symbolic link
	names map[string]*Node // of a folder
}

// ReadTree remembers a folder with all that is in it.
func ReadTree(path string) (*Node, error) {
	r := reader{known: map[uint64]*Node{}}
	return r.read(path)
}

type reader struct{ known map[uint64]*Node }

func (r *reader) read(path string) (*Node, error) {
	n, err := look(path)
	if err != nil {
		return nil, err
	}
	if same := r.known[n.inode]; same != nil {
		return same, nil
	}
	r.known[n.inode] = n
	switch {
	case n.mode.IsRegular():
		n.data, err = os.ReadFile(path)
	case n.mode.IsDir():
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		n.names = make(map[string]*Node, len(entries))
		for _, e := range entries {
			if n.names[e.Name()], err = r.read(filepath.Join(path, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	return n, err
}

// look reads what stat tells, and a link's text.
func look(path string) (*Node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	n := &Node{inode: info.Sys().(*syscall.Stat_t).Ino, mode: info.Mode(), mtime: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		n.link, err = os.Readlink(path)
	}
	return n, err
}

// Build makes a tree at path, where nothing stands.
func (n *Node) Build(path string) error {
	b := builder{made: map[*Node]string{}}
	return b.build(n, path)
}

type builder struct{ made map[*Node]string }

func (b *builder) build(n *Node, path string) error {
	if first, ok := b.made[n]; ok {
		return os.Link(first, path)
	}
	switch {
	case n.mode&fs.ModeSymlink != 0:
		return os.Symlink(n.link, path)
	case n.mode.IsDir():
		if err := os.Mkdir(path, 0o777); err != nil {
			return err
		}
		for name, child := range n.names {
			if err := b.build(child, filepath.Join(path, name)); err != nil {
				return err
			}
		}
	default:
		b.made[n] = path
		if err := os.WriteFile(path, n.data, 0o666); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod(path, n.mode.Perm()), os.Chtimes(path, n.mtime, n.mtime))
}

// Disk knows what of a folder is durable. It is strict: nothing is durable by itself, and fsync of a file says nothing
// about its name.
type Disk struct {
	path    string
	durable map[uint64]*Node // by inode
	pins    []int            // keep the kernel from giving an inode's number to another file
}

// NewDisk takes what stands at path for durable.
func NewDisk(path string) (*Disk, error) {
	d := &Disk{path: path, durable: map[uint64]*Node{}}
	return d, d.all(path)
}

// Close forgets the disk.
func (d *Disk) Close() {
	for _, fd := range d.pins {
		unix.Close(fd)
	}
}

// node is what is durable of the inode at path: of one seen first now nothing but that it exists.
func (d *Disk) node(path string) (*Node, error) {
	n, err := look(path)
	if err != nil {
		return nil, err
	}
	if known := d.durable[n.inode]; known != nil {
		return known, nil
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "pin", Path: path, Err: err}
	}
	d.pins = append(d.pins, fd)
	d.durable[n.inode] = n
	return n, nil
}

// sync makes durable what a call is about.
func (d *Disk) sync(c *Call) error {
	if c.effect&syncsAll != 0 {
		return d.all(d.path)
	}
	_, err := d.one(c.Paths[0])
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no name is left, so nothing of it will be found
	}
	return err
}

// one is fsync of a file or folder.
func (d *Disk) one(path string) (*Node, error) {
	n, err := d.node(path)
	if err != nil {
		return nil, err
	}
	now, err := look(path)
	if err != nil {
		return nil, err
	}
	n.mode, n.mtime = now.mode, now.mtime
	switch {
	case n.mode.IsRegular():
		n.data, err = os.ReadFile(path)
	case n.mode.IsDir():
		err = d.folder(n, path)
	}
	return n, err
}

func (d *Disk) folder(n *Node, path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	n.names = make(map[string]*Node, len(entries))
	for _, e := range entries {
		child, err := d.node(filepath.Join(path, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another thread took it away meanwhile
		}
		if err != nil {
			return err
		}
		n.names[e.Name()] = child
	}
	return nil
}

// all is syncfs.
func (d *Disk) all(path string) error {
	n, err := d.one(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for name := range n.names {
		if err := d.all(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

// Survival says what a loss of power leaves of what was not durable.
type Survival string

// The four ways to lose power.
const (
	Nothing Survival = "nothing" // only what was synced
	Names   Survival = "names"   // names, without the bytes behind them
	Half    Survival = "half"    // some names, some bytes, some of both cut short
	All     Survival = "all"     // a process that is killed loses nothing
)

// After is the folder after a loss of power. Nobody may write to it meanwhile. The seed is for Half.
func (d *Disk) After(s Survival, seed uint64) (*Node, error) {
	live := reader{known: map[uint64]*Node{}}
	top, err := live.read(d.path)
	if err != nil || s == All {
		return top, err
	}
	x := mixer{
		durable: d.durable, live: live.known, survival: s, rand: rand.New(rand.NewPCG(seed, 1)),
		mixed: map[uint64]*Node{}, group: map[uint64]uint64{}, coin: map[uint64]bool{},
	}
	for _, n := range x.durable {
		x.relate(n)
	}
	return x.node(top.inode)
}

// mixer makes one tree of two.
type mixer struct {
	durable, live map[uint64]*Node
	survival      Survival
	rand          *rand.Rand
	mixed         map[uint64]*Node
	group         map[uint64]uint64 // union-find over inodes whose names changed together
	coin          map[uint64]bool   // by group: do its names survive
}

// relate groups what a rename changed together: an old name and a new one of the same inode appear and vanish in one
// step, and so does what the rename replaced.
func (x *mixer) relate(n *Node) {
	now := x.live[n.inode]
	if now == nil || n.names == nil {
		return
	}
	for name, was := range n.names {
		if is := now.names[name]; is != nil && is.inode != was.inode {
			x.group[x.find(is.inode)] = x.find(was.inode)
		}
	}
}

func (x *mixer) find(inode uint64) uint64 {
	for {
		up, ok := x.group[inode]
		if !ok || up == inode {
			return inode
		}
		inode = up
	}
}

func (x *mixer) survives(n *Node) bool {
	switch x.survival {
	case Nothing:
		return false
	case Names:
		return true
	}
	g := x.find(n.inode)
	coin, thrown := x.coin[g]
	if !thrown {
		coin = x.rand.IntN(2) == 0
		x.coin[g] = coin
	}
	return coin
}

// node is what becomes of an inode.
func (x *mixer) node(inode uint64) (*Node, error) {
	if n := x.mixed[inode]; n != nil {
		return n, nil
	}
	was, is := x.durable[inode], x.live[inode]
	n := &Node{}
	switch {
	case was == nil && is == nil:
		return nil, fmt.Errorf("inode %d is neither durable nor there", inode)
	case was != nil:
		*n = *was
	default:
		*n = *is
		n.data, n.names = nil, nil // nothing of it was ever synced
	}
	x.mixed[inode] = n
	if n.mode.IsDir() {
		var before, after map[string]*Node
		if was != nil {
			before = was.names
		}
		if is != nil {
			after = is.names
		}
		return n, x.folder(n, before, after)
	}
	if is != nil && n.mode.IsRegular() && x.survival == Half {
		x.content(n, is)
	}
	return n, nil
}

func (x *mixer) folder(n *Node, before, after map[string]*Node) error {
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}
	n.names = map[string]*Node{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		was, is := before[name], after[name]
		pick := is
		switch {
		case is == nil && !x.survives(was), was != nil && is != nil && is.inode != was.inode && !x.survives(is):
			pick = was
		case is != nil && was == nil && !x.survives(is):
			pick = nil
		}
		if pick == nil {
			continue
		}
		child, err := x.node(pick.inode)
		if err != nil {
			return err
		}
		n.names[name] = child
	}
	return nil
}

// content chooses among the bytes of a file: as synced, as written, cut short, or with a part that never was written.
func (x *mixer) content(n, is *Node) {
	if bytes.Equal(n.data, is.data) {
		return
	}
	same := 0 // what was appended can be lost, not what it was appended to
	for same < min(len(n.data), len(is.data)) && n.data[same] == is.data[same] {
		same++
	}
	at := same + x.rand.IntN(len(is.data)-same+1)
	switch x.rand.IntN(4) {
	case 0:
	case 1:
		n.data, n.mtime, n.mode = is.data, is.mtime, is.mode
	case 2:
		n.data, n.mtime = is.data[:at], is.mtime
	case 3:
		n.data, n.mtime = slices.Clone(is.data), is.mtime
		clear(n.data[at:])
	}
}
