package cache

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Options says where a cache is and how it places content.
type Options struct {
	Dir    string                           // the cache's folder; made where it is missing
	Link   []string                         // "reflink", "hardlink", "symlink", "copy": the first that works. Default: all, in this order
	Ignore func(path string, dir bool) bool // names that do not count as content of a folder; path is absolute
	Wait   func(holder string)              // called when another process (a gc) holds the cache; may be nil
	Now    func() time.Time                 // default time.Now
}

// Cache is one folder of objects and results, shared by goroutines, processes, projects and users.
type Cache struct{}

// Open opens a cache and makes its folders where they are missing.
func Open(ctx context.Context, o Options) (*Cache, error) { return nil, errors.ErrUnsupported }

// Close releases what Open took.
func (c *Cache) Close() error { return errors.ErrUnsupported }

// Dir is the cache's folder, absolute.
func (c *Cache) Dir() string { return "" }

// State is the stat cache of one project: what its files were when last hashed. It may be deleted at any time.
type State struct{}

// OpenState reads the state at path; a missing or damaged file is an empty state.
func OpenState(path string) (*State, error) { return nil, errors.ErrUnsupported }

// Save writes the state back if it changed.
func (s *State) Save() error { return errors.ErrUnsupported }

// Scan is what stands at a path: its content, and below a folder every file's.
type Scan struct{ Content }

// Files gives the regular files by slash-separated path within the folder, in order; for a file, itself as "".
func (s *Scan) Files() iter.Seq2[string, Content] { return nil }

// Digest is the hash of the files that match and their paths, for a reader that looks at these alone.
func (s *Scan) Digest(match func(rel string) bool) ID { return ID{} }

// Scan hashes the file or folder at path without storing it. st may be nil.
func (c *Cache) Scan(ctx context.Context, st *State, path string) (*Scan, error) {
	return nil, errors.ErrUnsupported
}

// AddOptions says how Add treats the files it stores.
type AddOptions struct {
	// Move makes the cache own the files: they become placed links of their objects, with no data copied
	// where the file system allows. Without it they are copied (or cloned) and left alone.
	Move bool
}

// Add stores the file or folder at path, durably, and returns what it is.
func (c *Cache) Add(ctx context.Context, st *State, path string, o AddOptions) (Content, error) {
	return Content{}, errors.ErrUnsupported
}

// Place puts content at path, whole or not at all, replacing what stands there; it does nothing where the
// content stands already. Missing parents are made. An absent object is ErrNotFound.
func (c *Cache) Place(ctx context.Context, st *State, want Content, path string) (changed bool, err error) {
	return false, errors.ErrUnsupported
}

// Unlink makes placed files writable and their own: no longer links into the cache.
func (c *Cache) Unlink(path string) error { return errors.ErrUnsupported }

// Has tells whether the cache holds the object, intact as far as its stat tells.
func (c *Cache) Has(id ID) bool { return false }

// Missing lists the objects of want that the cache does not hold. Below a missing tree nothing is known.
func (c *Cache) Missing(ctx context.Context, want Content) ([]ID, error) {
	return nil, errors.ErrUnsupported
}

// Objects gives every object of want once, each tree after what it names.
func (c *Cache) Objects(ctx context.Context, want Content) iter.Seq2[Object, error] { return nil }

// Open reads an object and verifies it on the way: damage is ErrDamaged instead of io.EOF.
func (c *Cache) Open(id ID) (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Path is the object's file.
func (c *Cache) Path(id ID) string { return "" }

// Put stores an object from r, verified: other bytes than id's are ErrDamaged.
func (c *Cache) Put(ctx context.Context, id ID, tree bool, size int64, r io.Reader) error {
	return errors.ErrUnsupported
}

// PutResult records a result, durably. Its objects must be stored before.
func (c *Cache) PutResult(k Key, r *Result) error { return errors.ErrUnsupported }

// Result is the result recorded under a key: ErrNotFound without one, ErrDamaged for one that cannot be trusted.
func (c *Cache) Result(k Key) (*Result, error) { return nil, errors.ErrUnsupported }

// Results gives the keys of all results.
func (c *Cache) Results() iter.Seq2[Key, error] { return nil }

// DeleteResult forgets a result.
func (c *Cache) DeleteResult(k Key) error { return errors.ErrUnsupported }

// Register notes a project that uses this cache, so that gc of another one knows whom to ask.
func (c *Cache) Register(workspace string) error { return errors.ErrUnsupported }

// Projects lists the registered workspaces, those that no longer exist included.
func (c *Cache) Projects() ([]string, error) { return nil, errors.ErrUnsupported }

// GCRoots is what must stay.
type GCRoots struct {
	Contents []Content
	Keys     []Key // results, with their outputs and logs
}

// GCOptions says what may go. The zero value is a preview of all that no root needs.
type GCOptions struct {
	Delete    bool          // without it nothing is removed
	KeepLast  int           // keep the newest results of each stage, this many
	MaxSize   int64         // remove unneeded results, oldest first, only until the cache is this small; 0: all of them
	OlderThan time.Duration // remove only what is older
	Grace     time.Duration // never remove what is younger; 0: one hour, below 0: none
	Now       time.Time     // zero: the clock
}

// GCReport is what GC removed, or would remove.
type GCReport struct {
	Objects, Results, Temp int   // removed (Temp: leftovers of interrupted commands)
	Bytes                  int64 // freed
	KeptObjects            int
	KeptResults            int
	KeptBytes              int64
}

// GC removes what no root needs. It waits until no other process works on the cache.
func (c *Cache) GC(ctx context.Context, roots GCRoots, o GCOptions) (GCReport, error) {
	return GCReport{}, errors.ErrUnsupported
}

// FsckOptions says how thoroughly Fsck looks.
type FsckOptions struct {
	Full     bool // hash every object; without it only those whose stat differs from their record
	Repair   bool // set damaged objects aside, remove damaged results, restore read-only modes
	Progress func(objects int, bytes int64)
}

// Problem is one finding of Fsck.
type Problem struct {
	Path     string // the file
	What     string // "object", "tree", "result", "mode", "name"
	Err      error
	Repaired bool
}

// FsckReport is what Fsck saw.
type FsckReport struct {
	Objects, Trees, Results int
	Bytes                   int64 // hashed
	Problems                []Problem
}

// Fsck checks content against names.
func (c *Cache) Fsck(ctx context.Context, o FsckOptions) (FsckReport, error) {
	return FsckReport{}, errors.ErrUnsupported
}
