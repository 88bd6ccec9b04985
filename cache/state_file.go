package cache

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unsafe"
)

// The file .lpipe/state, specified in doc/format.md: a mark, then records of folders, of which the last of each folder
// counts. A record is length, checksum, day of use, and the body that folder reads in place.

const (
	stateMagic = "lpstate\x02"
	recordHead = 3 * 4
)

// The types of a folder's names in its body.
const (
	knownFile  = iota
	knownDir   // a folder with what it held
	knownLink  // a symbolic link that stays within the scanned folder
	knownOther // a name that did not count
)

// known is one name of a folder.
type known struct {
	typ byte
	entry
	sum  Content // of a knownDir
	text string  // of a knownLink
}

// folderFacts are a folder before it is encoded.
type folderFacts struct {
	stat  fileStat // of the folder itself: inode, mtime, ctime
	whole bool     // list has all its names, and a name more or less must show in stat
	sum   Content  // of a whole folder
	list  []known  // sorted by name
}

const (
	bodyHead   = 3*8 + 1 + 32 + 8 + 8 + 4
	nameHead   = 1 + 1 + 2
	fileBytes  = 4*8 + 2*4 + 32
	dirBytes   = 32 + 8 + 8
	linkBytes  = 4
	offsetSize = 4
)

// encode gives the body: path, the folder's facts, the offset of each name, the names.
func (f *folderFacts) encode(path string) []byte {
	size := 4 + len(path) + bodyHead
	for i := range f.list {
		size += offsetSize + nameHead + fileBytes + len(f.list[i].name) + len(f.list[i].text)
	}
	b := make([]byte, 0, size)
	le := binary.LittleEndian
	b = append(le.AppendUint32(b, uint32(len(path))), path...)
	b = le.AppendUint64(b, f.stat.ino)
	b = le.AppendUint64(b, uint64(f.stat.mtime))
	b = le.AppendUint64(b, uint64(f.stat.ctime))
	b = append(b, bit(f.whole, 1))
	b = append(b, f.sum.ID[:]...)
	b = le.AppendUint64(b, uint64(f.sum.Size))
	b = le.AppendUint64(b, uint64(f.sum.Files))
	b = le.AppendUint32(b, uint32(len(f.list)))
	offsets := len(b)
	b = append(b, make([]byte, offsetSize*len(f.list))...)
	for i := range f.list {
		le.PutUint32(b[offsets+offsetSize*i:], uint32(len(b)))
		b = f.list[i].append(b)
	}
	return b
}

func bit(on bool, bit byte) byte {
	if on {
		return bit
	}
	return 0
}

func (k *known) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, k.typ, bit(k.settled, 1)|bit(k.linked, 2))
	b = append(le.AppendUint16(b, uint16(len(k.name))), k.name...)
	switch k.typ {
	case knownFile:
		b = le.AppendUint64(b, k.ino)
		b = le.AppendUint64(b, uint64(k.size))
		b = le.AppendUint64(b, uint64(k.mtime))
		b = le.AppendUint64(b, uint64(k.ctime))
		b = le.AppendUint32(b, k.mode)
		b = le.AppendUint32(b, k.nlink)
		b = append(b, k.id[:]...)
	case knownDir:
		b = append(b, k.sum.ID[:]...)
		b = le.AppendUint64(b, uint64(k.sum.Size))
		b = le.AppendUint64(b, uint64(k.sum.Files))
	case knownLink:
		b = append(le.AppendUint32(b, uint32(len(k.text))), k.text...)
	}
	return b
}

// folder is a body that is wellFormed, read in place.
type folder struct {
	body    string
	offsets string
	count   int
	stat    fileStat // inode, mtime, ctime
	whole   bool
	sum     Content
}

func folderOf(body []byte) folder {
	s := stringOf(body)
	at := 4 + int(le32(s, 0))
	f := folder{body: s, whole: s[at+24]&1 != 0, count: int(le32(s, at+bodyHead-4))}
	f.stat = fileStat{ino: le64(s, at), mtime: int64(le64(s, at+8)), ctime: int64(le64(s, at+16))}
	f.sum = dirContent(s, at+25)
	f.offsets = s[at+bodyHead : at+bodyHead+offsetSize*f.count]
	return f
}

func dirContent(s string, at int) Content {
	c := Content{Dir: true, Size: int64(le64(s, at+32)), Files: int64(le64(s, at+40))}
	copy(c.ID[:], s[at:])
	return c
}

// at is the i-th name. Its strings are parts of the body.
func (f *folder) at(i int) known {
	s := f.body[le32(f.offsets, offsetSize*i):]
	k := known{typ: s[0]}
	k.settled, k.linked = s[1]&1 != 0, s[1]&2 != 0
	end := nameHead + int(le16(s, 2))
	k.name = s[nameHead:end]
	switch k.typ {
	case knownFile:
		k.ino, k.size = le64(s, end), int64(le64(s, end+8))
		k.mtime, k.ctime = int64(le64(s, end+16)), int64(le64(s, end+24))
		k.mode, k.nlink = le32(s, end+32), le32(s, end+36)
		copy(k.id[:], s[end+40:])
	case knownDir:
		k.sum = dirContent(s, end)
	case knownLink:
		k.text = s[end+linkBytes : end+linkBytes+int(le32(s, end))]
	}
	return k
}

func (f *folder) name(i int) string {
	s := f.body[le32(f.offsets, offsetSize*i):]
	return s[nameHead : nameHead+int(le16(s, 2))]
}

func (f *folder) typ(i int) byte { return f.body[le32(f.offsets, offsetSize*i)] }

// find is the place of a name, or that where it would stand.
func (f *folder) find(name string) (int, bool) {
	low, high := 0, f.count
	for low < high {
		mid := (low + high) / 2
		switch strings.Compare(f.name(mid), name) {
		case 0:
			return mid, true
		case -1:
			low = mid + 1
		default:
			high = mid
		}
	}
	return low, false
}

// wellFormed tells whether folder can read all of a body. One with a right checksum was written so; this holds
// against a file made to break us.
func wellFormed(body []byte) bool {
	s := stringOf(body)
	if len(s) < 4 || uint64(le32(s, 0))+4+bodyHead > uint64(len(s)) {
		return false
	}
	at := 4 + int(le32(s, 0)) + bodyHead
	count := uint64(le32(s, at-4))
	if count*offsetSize > uint64(len(s)-at) {
		return false
	}
	next := at + int(count)*offsetSize
	for i := range int(count) {
		if int(le32(s, at+offsetSize*i)) != next {
			return false
		}
		n := knownLength(s[next:])
		if n == 0 {
			return false
		}
		next += n
	}
	return next == len(s)
}

// knownLength is how many bytes the name takes that s begins with; 0 if s is too short for it.
func knownLength(s string) int {
	if len(s) < nameHead {
		return 0
	}
	n := nameHead + int(le16(s, 2))
	switch s[0] {
	case knownFile:
		n += fileBytes
	case knownDir:
		n += dirBytes
	case knownLink:
		if len(s) < n+linkBytes {
			return 0
		}
		n += linkBytes + int(le32(s, n))
	case knownOther:
	default:
		return 0
	}
	if n > len(s) {
		return 0
	}
	return n
}

// append writes the folder's record.
func (d *folderState) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(d.body)))
	b = binary.LittleEndian.AppendUint32(b, d.sum)
	b = binary.LittleEndian.AppendUint32(b, d.used)
	return append(b, d.body...)
}

// decode finds the folders in data, up to the first record that is cut, and returns how many bytes come after these.
// Checksums are compared when a folder is asked for.
func (s *State) decode(data []byte) (left int) {
	rest, ok := bytes.CutPrefix(data, []byte(stateMagic))
	if !ok {
		return s.decodeFirst(data)
	}
	for len(rest) >= recordHead {
		n := uint64(binary.LittleEndian.Uint32(rest))
		if n < 4+bodyHead || n > uint64(len(rest)-recordHead) {
			break
		}
		body := rest[recordHead : recordHead+n]
		path := uint64(binary.LittleEndian.Uint32(body))
		if path > n-4-bodyHead {
			break
		}
		key := string(body[4 : 4+path])
		if was := s.folders[key]; was != nil {
			s.dead += int64(len(was.body)) + recordHead
		}
		s.folders[key] = &folderState{used: binary.LittleEndian.Uint32(rest[8:]), body: body, sum: binary.LittleEndian.Uint32(rest[4:])}
		rest = rest[recordHead+n:]
	}
	if len(rest) == 0 {
		s.file = int64(len(data))
	}
	return len(rest)
}

// decodeFirst reads the first version of the file, which knew files only: what is in it need not be hashed again.
func (s *State) decodeFirst(data []byte) (left int) {
	rest, ok := bytes.CutPrefix(data, []byte("lpstate\x01"))
	for ok && len(rest) >= 8 {
		n := uint64(binary.LittleEndian.Uint32(rest))
		if n > uint64(len(rest)-8) || crc32.Checksum(rest[8:8+n], castagnoli()) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		key, used, facts, good := firstFolder(stringOf(rest[8 : 8+n]))
		if !good {
			break
		}
		d := &folderState{used: used}
		d.set(facts.encode(key))
		s.folders[key] = d
		rest = rest[8+n:]
	}
	return len(rest)
}

func firstFolder(s string) (key string, used uint32, facts folderFacts, good bool) {
	const size = 4*8 + 2*4 + 32 + 1 + 4
	if len(s) < 8 || uint64(le32(s, 4)) > uint64(len(s)-8) {
		return
	}
	used = le32(s, 0)
	key = strings.Clone(s[8 : 8+le32(s, 4)])
	for s = s[8+len(key):]; s != ""; {
		if len(s) < size || uint64(le32(s, 73)) > uint64(len(s)-size) {
			return
		}
		e := entry{settled: s[72]&1 != 0, linked: s[72]&2 != 0}
		e.ino, e.size, e.mtime, e.ctime = le64(s, 0), int64(le64(s, 8)), int64(le64(s, 16)), int64(le64(s, 24))
		e.mode, e.nlink = le32(s, 32), le32(s, 36)
		copy(e.id[:], s[40:])
		end := size + int(le32(s, 73))
		e.name = s[size:end]
		facts.list = append(facts.list, known{typ: knownFile, entry: e})
		s = s[end:]
	}
	return key, used, facts, true
}

// stringOf is b as a string, not copied: nobody changes b after this.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func le16(s string, at int) uint16 { return uint16(s[at]) | uint16(s[at+1])<<8 }

func le32(s string, at int) uint32 {
	s = s[at : at+4]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func le64(s string, at int) uint64 {
	s = s[at : at+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
