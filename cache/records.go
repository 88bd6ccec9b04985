package cache

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// records is the file "stat" of a cache: what every object's file was when it was last known to be good. An
// object that differs from its record is hashed again before use. Records are appended, the last one of an ID
// counts, and a lost record costs a hash; GC rewrites the file.
type records struct {
	path string

	mu      sync.Mutex
	known   *IDMap[record] // nil until something was asked
	ino     uint64         // of the file that was read
	read    int64          // bytes of it
	pending []byte         // records to append
}

type record struct {
	ino          uint64
	size         int64
	mtime, ctime int64
	nlink        uint32
	used         uint32 // minutes since 1970 when content was added that was there already: young for a gc
	settled      bool
}

func recordOf(s fileStat, settled bool, used uint32) record {
	return record{s.ino, s.size, s.mtime, s.ctime, s.nlink, used, settled}
}

// stat is what the record knows of the file.
func (k record) stat() fileStat {
	return fileStat{ino: k.ino, size: k.size, mtime: k.mtime, ctime: k.ctime, nlink: k.nlink}
}

const (
	recordSize = 80
	// flushSize bounds what is kept to be appended.
	flushSize = 1 << 20
	// recordMagic fills the file's first record; the digit is the version.
	recordMagic = "lpipe stat 1\n"
)

// intact tells whether the record of id says that a file with this stat is good.
func (r *records) intact(id ID, now fileStat) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.refresh()
	}
	for range 2 {
		if k, ok := r.known.Get(id); ok && k.settled && k.stat().unchanged(now, true) {
			return true
		}
		if !r.refresh() { // perhaps another process placed it
			return false
		}
	}
	return false
}

// has tells whether there is a record of id, as far as this process has read them.
func (r *records) has(id ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.refresh()
	}
	return r.known.Has(id)
}

// note records that id's file is good.
func (r *records) note(id ID, s fileStat, settled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.refresh()
	}
	old, ok := r.known.Get(id)
	now := recordOf(s, settled, old.used)
	if !ok || now != old {
		r.put(id, now)
	}
}

func (r *records) put(id ID, k record) {
	r.known.Put(id, k)
	if r.pending = k.append(r.pending, id); len(r.pending) > flushSize {
		r.appendPending()
	}
}

// use records that content was added whose object was there already, so that a gc that runs before somebody
// records the use takes it for young.
func (r *records) use(id ID, s fileStat, at time.Time) {
	if at.Sub(time.Unix(0, s.ctime)) < defaultGrace/2 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.known.Get(id)
	now := uint32(at.Unix() / 60)
	if !ok || now-k.used < uint32(defaultGrace/2/time.Minute) {
		return
	}
	k.used = now
	r.put(id, k)
}

// flush appends what note collected. An error is not worth reporting: the price is a hash.
func (r *records) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.appendPending()
}

func (r *records) appendPending() {
	if len(r.pending) == 0 {
		return
	}
	defer func() { r.pending = r.pending[:0] }()
	f, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return
	}
	defer f.Close()
	if flock(f, unix.LOCK_EX) != nil {
		return
	}
	st, err := f.Stat()
	if err != nil {
		return
	}
	var b []byte
	switch rest := st.Size() % recordSize; {
	case st.Size() == 0:
		b = append(append(b, recordMagic...), make([]byte, recordSize-len(recordMagic))...)
	case rest != 0:
		b = make([]byte, recordSize-rest) // a torn record: fill it up, its checksum will not fit
	}
	f.Write(append(b, r.pending...))
}

// refresh reads what was appended since the last time and tells whether there was anything.
func (r *records) refresh() bool {
	if r.known == nil {
		r.known = &IDMap[record]{}
	}
	f, err := os.Open(r.path)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := fstat(int(f.Fd()), r.path)
	if err != nil {
		return false
	}
	if st.ino != r.ino || st.size < r.read {
		r.ino, r.read = st.ino, 0 // rewritten by a gc
	}
	from := r.read
	b := make([]byte, min(st.size-from, flushSize)/recordSize*recordSize) // a piece at a time: of a million objects it is 80 MB
	for len(b) > 0 && r.take(f, b) {
		b = b[:min(int64(len(b)), (st.size-r.read)/recordSize*recordSize)]
	}
	return r.read > from
}

// take reads the next records, as many as fill b.
func (r *records) take(f *os.File, b []byte) bool {
	if _, err := f.ReadAt(b, r.read); err != nil {
		return false // a gc rewrites under another name, so nobody has cut it
	}
	if r.read == 0 && string(b[:len(recordMagic)]) != recordMagic {
		return false // another version's
	}
	r.read += int64(len(b))
	for ; len(b) > 0; b = b[recordSize:] {
		if id, k, ok := decodeRecord(b[:recordSize]); ok {
			r.known.Put(id, k)
		}
	}
	return true
}

// append encodes: ID, inode, size, mtime, ctime, links, settled, used, CRC-32C of these 76 bytes; little endian.
func (k record) append(b []byte, id ID) []byte {
	at := len(b)
	b = append(b, id[:]...)
	b = binary.LittleEndian.AppendUint64(b, k.ino)
	b = binary.LittleEndian.AppendUint64(b, uint64(k.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(k.mtime))
	b = binary.LittleEndian.AppendUint64(b, uint64(k.ctime))
	b = binary.LittleEndian.AppendUint32(b, k.nlink)
	settled := uint32(0)
	if k.settled {
		settled = 1
	}
	b = binary.LittleEndian.AppendUint32(b, settled)
	b = binary.LittleEndian.AppendUint32(b, k.used)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli()))
}

func decodeRecord(b []byte) (id ID, k record, ok bool) {
	if crc32.Checksum(b[:76], castagnoli()) != binary.LittleEndian.Uint32(b[76:]) {
		return id, k, false
	}
	copy(id[:], b)
	k.ino = binary.LittleEndian.Uint64(b[32:])
	k.size = int64(binary.LittleEndian.Uint64(b[40:]))
	k.mtime = int64(binary.LittleEndian.Uint64(b[48:]))
	k.ctime = int64(binary.LittleEndian.Uint64(b[56:]))
	k.nlink = binary.LittleEndian.Uint32(b[64:])
	k.settled = binary.LittleEndian.Uint32(b[68:]) == 1
	k.used = binary.LittleEndian.Uint32(b[72:])
	return id, k, true
}

// castagnoli's table is made once by the standard library.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// lastUse is when use was last called for id, in nanoseconds since 1970; 0 if never.
func (r *records) lastUse(id ID) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.refresh()
	}
	k, _ := r.known.Get(id)
	return int64(k.used) * int64(time.Minute)
}

// compact rewrites the file with one record for each object that is still there.
func (r *records) compact(live func(ID) bool) error {
	r.flush()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh()
	b := append([]byte(recordMagic), make([]byte, recordSize-len(recordMagic))...)
	left := &IDMap[record]{}
	for id, k := range r.known.All() {
		if live(id) {
			b = k.append(b, id)
			left.Put(id, k)
		}
	}
	r.known = left
	f, err := os.CreateTemp(filepath.Join(filepath.Dir(r.path), "tmp"), "stat-*")
	if err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if old, err := os.Stat(r.path); err == nil {
		mode = old.Mode().Perm() // other users of a shared cache append too
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		os.Remove(f.Name())
		return err
	}
	return os.Rename(f.Name(), r.path)
}
