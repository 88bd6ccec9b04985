package cache

import (
	"encoding/binary"
	"iter"
	pathpkg "path"
	"slices"
	"strings"

	"github.com/zeebo/blake3"
)

// Scan is what stands at a path: its content, and below a folder every file's.
type Scan struct {
	Content
	root node
}

// node is a file, link or folder as found.
type node struct {
	entry // of a file: name, stat, ID; of a Dir: name, its own stat, settled: whether a change of its names must show in it
	typ   Type
	// placed tells a symbolic link into the cache, which stands for the file that it names.
	placed   bool
	link     string // text of a Link
	*dirNode        // of a Dir
}

type dirNode struct {
	sum  Content
	kids []node // sorted by name; only the folders among them if held says the rest
	// held is a folder whose files and links are as the state remembers them.
	held *folder
	// others are the names that do not count.
	others []known
}

// gone is the type of a node that does not count.
const gone Type = 255

// Files gives the regular files by slash-separated path within the folder, in order; for a file, itself as "".
func (s *Scan) Files() iter.Seq2[string, Content] {
	return func(yield func(string, Content) bool) { s.root.files("", yield) }
}

func (n *node) files(at string, yield func(string, Content) bool) bool {
	switch n.typ {
	case File, Exec:
		return yield(at, n.content())
	case Dir:
		for _, kid := range n.children() {
			if !kid.files(pathpkg.Join(at, kid.name), yield) {
				return false
			}
		}
	}
	return true
}

// Digest is the hash of the files that match and their paths, for a reader that looks at these alone.
func (s *Scan) Digest(match func(rel string) bool) ID {
	h := blake3.New()
	h.WriteString("lpipe digest 1\n")
	var b []byte
	for rel, f := range s.Files() {
		if match != nil && !match(rel) {
			continue
		}
		b = binary.AppendUvarint(b[:0], uint64(len(rel)))
		b = append(append(b, rel...), f.ID[:]...)
		if f.Exec {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
		h.Write(b)
	}
	var id ID
	h.Sum(id[:0])
	return id
}

func (n *node) content() Content {
	switch n.typ {
	case Dir:
		return n.sum
	case Link:
		return Content{}
	}
	return Content{ID: n.id, Exec: n.typ == Exec, Size: n.size, Files: 1}
}

// children are all kids of a folder; where the state holds them, they are made now.
func (n *node) children() []node {
	if n.held == nil {
		return n.kids
	}
	all := make([]node, 0, n.held.count)
	dirs := n.kids
	for i := range n.held.count {
		switch k := n.held.at(i); k.typ {
		case knownDir:
			all, dirs = append(all, dirs[0]), dirs[1:]
		case knownFile, knownLink:
			all = append(all, k.node())
		}
	}
	return all
}

// node is the file or link, or a folder that is not looked at yet.
func (k *known) node() node {
	n := node{entry: k.entry}
	switch k.typ {
	case knownDir:
		n = node{typ: Dir, entry: entry{name: k.name}}
	case knownLink:
		n = node{typ: Link, link: k.text, entry: entry{name: k.name}}
	case knownOther:
		n = node{typ: gone, entry: entry{linked: k.linked}}
	default:
		n.typ = n.fileType()
	}
	return n
}

func (e *entry) fileType() Type {
	if e.exec() {
		return Exec
	}
	return File
}

// rest are the folders that are known, not looked at yet, and the names that did not count.
func (f *folder) rest() (folders []node, others []known) {
	for i := range f.count {
		switch f.typ(i) {
		case knownDir:
			k := f.at(i)
			folders = append(folders, k.node())
		case knownOther:
			others = append(others, f.at(i))
		}
	}
	return folders, others
}

// sameFolders tells whether the folders in a held folder hold what the state says.
func (n *node) sameFolders() bool {
	kids := n.kids
	for i := range n.held.count {
		if len(kids) == 0 {
			break
		}
		if n.held.typ(i) == knownDir {
			if n.held.at(i).sum != kids[0].sum {
				return false
			}
			kids = kids[1:]
		}
	}
	return true
}

// tree is the folder's tree object.
func (n *node) tree() *Tree {
	kids := n.children()
	t := &Tree{Entries: make([]Entry, len(kids))}
	for i := range kids {
		k := &kids[i]
		c := k.content()
		t.Entries[i] = Entry{Name: k.name, Type: k.typ, ID: c.ID, Size: c.Size, Link: k.link}
		if k.typ == Dir {
			t.Entries[i].Files = c.Files
		}
	}
	return t
}

// finish sums a folder up from its kids.
func (n *node) finish() {
	t := n.tree()
	n.sum = t.Content(Sum(t.Encode()))
}

// facts are what the state keeps of a folder. A link into the cache stands for an object that may be damaged, so a
// folder with one is looked at name by name every time.
func (n *node) facts() folderFacts {
	kids := n.children()
	facts := folderFacts{stat: n.fileStat, whole: n.settled, sum: n.sum, list: make([]known, 0, len(kids)+len(n.others))}
	for i := range kids {
		switch k := &kids[i]; {
		case k.placed:
			facts.whole = false
		case k.typ == Dir:
			facts.list = append(facts.list, known{typ: knownDir, entry: entry{name: k.name}, sum: k.sum})
		case k.typ == Link:
			facts.list = append(facts.list, known{typ: knownLink, entry: entry{name: k.name}, text: k.link})
		default:
			facts.list = append(facts.list, known{typ: knownFile, entry: k.entry})
		}
	}
	if !facts.whole {
		facts.stat = fileStat{}
	}
	if len(n.others) > 0 {
		facts.list = append(facts.list, n.others...)
		slices.SortFunc(facts.list, func(a, b known) int { return strings.Compare(a.name, b.name) })
	}
	return facts
}

func (n *node) isFile() bool { return (n.typ == File || n.typ == Exec) && !n.placed }
