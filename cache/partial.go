package cache

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"lukechampine.com/blake3/guts"
)

// Partial is a large object on its way into the cache. Its parts come in any order, several at once; each is hashed as
// it comes, as a subtree of the object's BLAKE3 tree, and written in its place. What came before a kill is found by the
// next Partial of the same object, checked, and kept.
type Partial struct {
	c          *Cache
	end        func()
	id         ID
	tree       bool
	size, part int64
	data       *os.File
	log        *os.File // nil: nobody can go on with this one

	mu     sync.Mutex // guards what is below
	chains []chain
	state  []partState
}

type partState struct {
	have bool
	seen bool // it came before, and the whole was wrong
	sure bool // it came twice with the same bytes
}

const (
	// partialMagic starts a partial's log; the digit is the version. Size and part follow, 8 bytes each.
	partialMagic  = "lppart\x00\x01"
	partialHeader = len(partialMagic) + 16
	// A record: number of the part (8 bytes), its chaining value (32), CRC-32C of these 40 bytes.
	partialRecord = 44
)

// Partial opens an object of size bytes that will come in parts. part is a power of two of at least 256 KiB, and
// smaller than size.
func (c *Cache) Partial(ctx context.Context, o Object, part int64) (*Partial, error) {
	if part < partSize || part&(part-1) != 0 || o.Size <= part {
		panic("cache: parts of an object must be a power of two, and smaller than it")
	}
	end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	n := (o.Size + part - 1) / part
	p := &Partial{c: c, end: end, id: o.ID, tree: o.Tree, size: o.Size, part: part, chains: make([]chain, n), state: make([]partState, n)}
	if err = p.open(); err == nil {
		err = p.resume(ctx)
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("store object %s in cache %s: %w", o.ID, c.dir, err)
	}
	return p, nil
}

// open takes the file that an earlier attempt left, or a new one. Where another process works on it we take one of our own.
func (p *Partial) open() error {
	path := p.c.in("tmp", "part-"+p.id.String())
	for {
		if err := p.c.disk.check("create", path); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrPermission) && os.Chmod(path, 0o600) == nil {
			continue // killed on its way to its name, read-only already
		}
		if err != nil {
			return err
		}
		if flock(f, unix.LOCK_EX|unix.LOCK_NB) != nil {
			f.Close()
			p.data, err = p.c.disk.temp(p.c.in("tmp"))
			return err
		}
		// Whoever held the lock may have made an object of this file.
		now, err := lstat(path)
		mine, err2 := fstat(int(f.Fd()), path)
		if err == nil && err2 == nil && now.ino == mine.ino {
			p.data = f
			break
		}
		f.Close()
	}
	log, err := os.OpenFile(path+".log", os.O_RDWR|os.O_CREATE, 0o600)
	p.log = log
	return err
}

// resume reads the log and checks what it tells against the file's bytes. A log of something else is begun anew.
func (p *Partial) resume(ctx context.Context) error {
	if err := allocate(p.data, p.size); err != nil {
		return err
	}
	if p.log == nil {
		return nil
	}
	head := append([]byte(partialMagic), make([]byte, 16)...)
	binary.LittleEndian.PutUint64(head[len(partialMagic):], uint64(p.size))
	binary.LittleEndian.PutUint64(head[len(partialMagic)+8:], uint64(p.part))
	old, err := io.ReadAll(p.log)
	if err != nil {
		return err
	}
	if len(old) >= partialHeader && string(old[:partialHeader]) == string(head) {
		return p.check(ctx, p.told(old[partialHeader:]))
	}
	if err := p.log.Truncate(0); err != nil {
		return err
	}
	if _, err := p.log.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = p.log.Write(head)
	return err
}

// told is what a log's records say: the chaining values of parts. What is torn ends it, and is written over.
func (p *Partial) told(records []byte) map[int64]chain {
	parts := map[int64]chain{}
	at := int64(partialHeader)
	for ; len(records) >= partialRecord; records = records[partialRecord:] {
		i := int64(binary.LittleEndian.Uint64(records))
		if crc32.Checksum(records[:40], castagnoli()) != binary.LittleEndian.Uint32(records[40:]) || i < 0 || i >= int64(len(p.chains)) {
			break
		}
		var c chain
		for k := range c {
			c[k] = binary.LittleEndian.Uint32(records[8+4*k:])
		}
		parts[i] = c
		at += partialRecord
	}
	p.log.Truncate(at)
	p.log.Seek(at, io.SeekStart)
	return parts
}

// check hashes the parts that are said to be there, side by side.
func (p *Partial) check(ctx context.Context, parts map[int64]chain) error {
	l := largeHash{ctx: ctx, fd: int(p.data.Fd()), path: p.data.Name(), size: p.size, part: p.part}
	w := newCrew()
	var wg sync.WaitGroup
	for i, want := range parts {
		w.run(&wg, func() error {
			h := p.c.hashers.take()
			defer p.c.hashers.give(h)
			got, err := l.subtree(h, i*p.part)
			if err == nil && got == want {
				p.mu.Lock()
				defer p.mu.Unlock()
				p.chains[i], p.state[i].have = got, true
			}
			return err
		})
	}
	wg.Wait()
	return w.failed()
}

// Missing lists the parts that have to come.
func (p *Partial) Missing() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var missing []int
	for i, s := range p.state {
		if !s.have {
			missing = append(missing, i)
		}
	}
	return missing
}

// Range is where a part begins, and its length.
func (p *Partial) Range(i int) (offset, length int64) {
	offset = int64(i) * p.part
	return offset, min(p.part, p.size-offset)
}

// Put reads a part, all of it, from r. An error of r leaves the part missing.
func (p *Partial) Put(ctx context.Context, i int, r io.Reader) error {
	h := p.c.hashers.take()
	defer p.c.hashers.give(h)
	at, length := p.Range(i)
	h.chains = h.chains[:0]
	for end := at + length; at < end; {
		b := h.buf[:min(partSize, end-at)]
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return err
		}
		h.chains = append(h.chains, guts.ChainingValue(h.reduce(b, uint64(at/guts.ChunkSize))))
		if err := p.c.disk.check("write", p.data.Name()); err != nil {
			return err
		}
		if _, err := p.data.WriteAt(b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	startWriting(p.data, at-length, length) // so that the sync at the end finds little to do
	return p.came(i, joined(h.chains))
}

// came notes a part.
func (p *Partial) came(i int, c chain) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.state[i]
	s.have, s.sure, s.seen = true, s.seen && p.chains[i] == c, true
	p.chains[i] = c
	if p.log == nil {
		return nil
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(i))
	for _, w := range c {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	_, err := p.log.Write(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli())))
	return err
}

// Commit checks the whole, makes it durable and gives it its name. If the bytes are not those of the object, the parts
// that did not come twice with the same bytes are missing again; with none of these it is ErrDamaged.
func (p *Partial) Commit(ctx context.Context) (done bool, err error) {
	if missing := p.Missing(); len(missing) > 0 {
		return false, fmt.Errorf("object %s: %d of its parts did not come", p.id, len(missing))
	}
	if got := rootOf(p.chains); got != p.id {
		return false, p.doubt(got)
	}
	if err := p.publish(ctx); err != nil {
		return false, fmt.Errorf("store object %s in cache %s: %w", p.id, p.c.dir, err)
	}
	return true, nil
}

func (p *Partial) doubt(got ID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	doubtful := 0
	for i := range p.state {
		if s := &p.state[i]; !s.sure {
			s.have, s.seen = false, true
			doubtful++
		}
	}
	if doubtful == 0 {
		return damaged("object %s: %d bytes with hash %s", p.id, p.size, got)
	}
	return nil
}

// publish is what a Batch does with a file that it wrote.
func (p *Partial) publish(ctx context.Context) error {
	if err := errors.Join(p.data.Chmod(0o444), p.c.disk.sync(p.data)); err != nil {
		return err
	}
	past := unix.NsecToTimespec(time.Now().Add(-2 * tick).UnixNano())
	unix.UtimesNanoAt(unix.AT_FDCWD, p.data.Name(), []unix.Timespec{past, past}, 0)
	b := &Batch{c: p.c, folders: map[string]bool{}, durable: true, written: []pending{{p.id, p.tree, p.data.Name(), p.size}}}
	if err := b.publish(ctx); err != nil {
		return err // the file stays for another attempt
	}
	if p.log != nil {
		os.Remove(p.log.Name())
	}
	return nil
}

// Close ends the work. What came and was not committed is kept for the next Partial of this object, until a gc.
func (p *Partial) Close() {
	nothing := len(p.Missing()) == len(p.state)
	if p.data != nil {
		if p.log == nil || nothing {
			os.Remove(p.data.Name()) // after Commit it has another name
		}
		p.data.Close()
	}
	if p.log != nil {
		if nothing {
			os.Remove(p.log.Name())
		}
		p.log.Close()
	}
	p.end()
}

// rootOf is the hash of a whole, of the chaining values of its parts.
func rootOf(chains []chain) (id ID) {
	root := join(chains)
	root.Flags |= guts.FlagRoot
	words := guts.CompressNode(root)
	for i, w := range words[:8] {
		binary.LittleEndian.PutUint32(id[4*i:], w)
	}
	return id
}
