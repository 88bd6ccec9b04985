package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Type is the type of a tree's entry.
type Type byte

// The types of entries, as encoded.
const (
	File Type = iota
	Exec      // an executable file
	Dir
	Link // a symbolic link that stays within the folder
)

// Entry is one name in a folder.
type Entry struct {
	Name  string
	Type  Type
	ID    ID     // of File, Exec: the bytes; of Dir: its tree
	Size  int64  // of File, Exec: bytes; of Dir: the sum over its files
	Files int64  // of Dir: regular files in it, at any depth
	Link  string // of Link: its text
}

// Tree is a folder: entries sorted by name (bytewise). Subfolders are trees of their own, so that a changed
// file changes one tree for each level above it.
type Tree struct{ Entries []Entry }

// treeMagic starts every encoded tree; the last byte is the version.
const treeMagic = "lptree\x00\x01"

// Content sums the tree up. id is the ID of its encoding.
func (t *Tree) Content(id ID) Content {
	c := Content{ID: id, Dir: true}
	for _, e := range t.Entries {
		switch e.Type {
		case File, Exec:
			c.Size, c.Files = c.Size+e.Size, c.Files+1
		case Dir:
			c.Size, c.Files = c.Size+e.Size, c.Files+e.Files
		}
	}
	return c
}

// Content is what stands under the entry's name. A link has none.
func (e Entry) Content() Content {
	switch e.Type {
	case Dir:
		return Content{ID: e.ID, Dir: true, Size: e.Size, Files: e.Files}
	case Link:
		return Content{}
	}
	return Content{ID: e.ID, Exec: e.Type == Exec, Size: e.Size, Files: 1}
}

// Encode gives the canonical bytes; their BLAKE3 hash is the tree's ID. The entries must be sorted by name.
//
//	"lptree" 0 1, count, then for each entry:
//	type (1 byte), length of name, name,
//	File, Exec: ID (32 bytes), size;   Dir: ID, size, files;   Link: length of text, text
//
// All numbers are unsigned LEB128 (encoding/binary's uvarint) in their shortest form.
func (t *Tree) Encode() []byte {
	n := len(treeMagic) + binary.MaxVarintLen64
	for i := range t.Entries {
		n += 64 + len(t.Entries[i].Name) + len(t.Entries[i].Link)
	}
	b := append(make([]byte, 0, n), treeMagic...)
	b = binary.AppendUvarint(b, uint64(len(t.Entries)))
	for i := range t.Entries {
		b = t.Entries[i].append(b)
	}
	return b
}

func (e *Entry) append(b []byte) []byte {
	b = append(b, byte(e.Type))
	b = binary.AppendUvarint(b, uint64(len(e.Name)))
	b = append(b, e.Name...)
	switch e.Type {
	case Link:
		b = binary.AppendUvarint(b, uint64(len(e.Link)))
		return append(b, e.Link...)
	case Dir:
		b = append(b, e.ID[:]...)
		b = binary.AppendUvarint(b, uint64(e.Size))
		return binary.AppendUvarint(b, uint64(e.Files))
	default:
		b = append(b, e.ID[:]...)
		return binary.AppendUvarint(b, uint64(e.Size))
	}
}

// DecodeTree reads what Encode writes and nothing else: whatever decodes without an error encodes to the
// same bytes again. Errors are ErrDamaged.
func DecodeTree(data []byte) (*Tree, error) {
	r := treeReader{rest: data}
	if string(r.bytes(uint64(len(treeMagic)))) != treeMagic {
		return nil, damaged("read tree: it does not start with this version's mark")
	}
	n := r.uvarint()
	if n > uint64(len(r.rest))/3 { // an entry has at least type, length, one byte of name
		return nil, damaged("read tree: %d entries announced in %d bytes", n, len(data))
	}
	t := &Tree{Entries: make([]Entry, 0, n)}
	last := ""
	for i := uint64(0); i < n && r.err == nil; i++ {
		e := r.entry()
		if r.err == nil && i > 0 && e.Name <= last {
			r.err = fmt.Errorf("name %q after %q", e.Name, last)
		}
		last = e.Name
		t.Entries = append(t.Entries, e)
	}
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.rest))
	}
	if r.err != nil {
		return nil, damaged("read tree: %v", r.err)
	}
	return t, nil
}

// treeReader takes fields off the front; after the first error all are empty.
type treeReader struct {
	rest []byte
	err  error
}

func (r *treeReader) entry() Entry {
	var e Entry
	if b := r.bytes(1); len(b) == 1 {
		e.Type = Type(b[0])
	}
	e.Name = string(r.bytes(r.uvarint()))
	switch e.Type {
	case File, Exec, Dir:
		copy(e.ID[:], r.bytes(32))
		e.Size = r.size()
		if e.Type == Dir {
			e.Files = r.size()
		}
	case Link:
		e.Link = string(r.bytes(r.uvarint()))
		if r.err == nil && (e.Link == "" || strings.IndexByte(e.Link, 0) >= 0) {
			r.err = fmt.Errorf("link %q with text %q", e.Name, e.Link)
		}
	default:
		r.err = fmt.Errorf("type %d", e.Type)
	}
	if r.err == nil && !validName(e.Name) {
		r.err = fmt.Errorf("name %q", e.Name)
	}
	return e
}

// validName tells whether a name can stand in a folder: what a hostile tree must not do is reach out of it.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

func (r *treeReader) bytes(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.rest)) {
		r.err = errors.New("it ends early")
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *treeReader) size() int64 {
	v := r.uvarint()
	if r.err == nil && v > 1<<62 {
		r.err = fmt.Errorf("size %d", v)
	}
	return int64(v)
}

func (r *treeReader) uvarint() uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || n > 1 && r.rest[n-1] == 0 {
		r.err = errors.New("a number that is not in its shortest form, or cut")
		return 0
	}
	r.rest = r.rest[n:]
	return v
}
