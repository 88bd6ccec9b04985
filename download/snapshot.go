package download

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Snapshot is some files of a commit, all of them in the hub cache and verified.
type Snapshot struct {
	Repo    Repo
	Commit  string
	Files   []File
	Fetched int64 // bytes that came over the network

	cache hubCache
}

// SnapshotOptions say which files of a commit are wanted.
type SnapshotOptions struct {
	Filter
	Revision string // the branch that the commit was found by; noted in the cache. "": none
	// Unlisted accepts, offline, the files that the cache happens to hold of the commit: for a caller who knows what the
	// content must be and compares.
	Unlisted bool
	Progress func(Progress) // called by several goroutines, one at a time; nil: nobody is told
}

// Progress is how far a download is.
type Progress struct {
	Bytes, TotalBytes int64 // of the files that the cache lacked
	Files, TotalFiles int
}

// Snapshot brings the wanted files of a commit into the hub cache, and verifies those that lie there already.
func (c *Client) Snapshot(ctx context.Context, repo Repo, commit string, o SnapshotOptions) (*Snapshot, error) {
	s := &Snapshot{Repo: repo, Commit: commit, cache: hubCache{c.Cache}}
	if c.Offline {
		return s, c.snapshotOffline(s, o)
	}
	if err := s.cache.prepare(); err != nil {
		return nil, err
	}
	all, err := c.List(ctx, repo, commit)
	if err != nil {
		return nil, err
	}
	if s.Files = o.keep(all); len(s.Files) == 0 {
		return nil, &Error{Kind: NotFound, Message: fmt.Sprintf("%s at %s has %d files, and include and exclude leave none of them", repo, commit, len(all))}
	}
	watch := newWatch(o.Progress)
	missing, err := c.verify(ctx, s, watch)
	if err != nil {
		return nil, err
	}
	if err := c.fetch(ctx, s, missing, watch); err != nil {
		return nil, err
	}
	s.Fetched = watch.at.Bytes
	for _, f := range s.Files {
		if err := s.cache.link(repo, commit, f); err != nil {
			return nil, err
		}
	}
	return s, s.cache.setRef(repo, o.Revision, commit)
}

func (f Filter) keep(files []File) []File {
	var kept []File
	for _, one := range files {
		if f.Keep(one.Path) {
			kept = append(kept, one)
		}
	}
	return kept
}

// verify hashes the wanted blobs that the cache has, and returns the files that it lacks, each content once.
func (c *Client) verify(ctx context.Context, s *Snapshot, watch *watch) ([]File, error) {
	var mu sync.Mutex
	var missing []File
	seen := map[string]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, f := range s.Files {
		if seen[f.Hash] {
			continue
		}
		seen[f.Hash] = true
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if check(s.cache.blob(s.Repo, f.Hash), f) == nil {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			missing = append(missing, f)
			watch.expect(1, f.Size)
			return nil
		})
	}
	return missing, group.Wait()
}

// fetch downloads files, a few at a time; the ranges of all of them share the connections.
func (c *Client) fetch(ctx context.Context, s *Snapshot, files []File, watch *watch) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.Connections)
	for _, f := range files {
		group.Go(func() error {
			err := c.fetchBlob(ctx, s, f, watch)
			if err == nil {
				watch.file()
			}
			return err
		})
	}
	return group.Wait()
}

// fetchBlob brings one file as a blob. What arrives wrong is thrown away and asked for once more: a byte that flips on
// the way is rare, twice is no accident.
func (c *Client) fetchBlob(ctx context.Context, s *Snapshot, f File, watch *watch) error {
	blob := s.cache.blob(s.Repo, f.Hash)
	release, err := s.cache.lock(ctx, s.Repo, f.Hash)
	if err != nil {
		return err
	}
	defer release()
	if check(blob, f) == nil { // another program brought it while we waited
		watch.add(f.Size)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(blob), 0o777); err != nil {
		return err
	}
	part := blob + ".lpipe.incomplete"
	wrong := error(nil)
	for range 2 {
		var came int64
		t := &transfer{Client: c, size: f.Size, tag: f.Hash, count: watch.counter(&came),
			locate: func(ctx context.Context) (location, error) { return c.locate(ctx, s.Repo, s.Commit, f) }}
		err := t.run(ctx, part)
		if err != nil && !errors.Is(err, errChanged) {
			return fmt.Errorf("download %s of %s: %w", f.Path, s.Repo, err)
		}
		if err == nil {
			if err = check(part, f); err == nil {
				return install(part, blob)
			}
		}
		wrong = err
		watch.add(-came)
		os.Remove(statePath(part))
		if err := os.Remove(part); err != nil {
			return err
		}
	}
	return &Error{Kind: Damaged, Message: fmt.Sprintf("%s of %s arrived wrong twice; the server damages it, or something on the way", f.Path, s.Repo), Err: wrong}
}

// install makes a whole, synced partial file the thing itself.
func install(part, to string) error {
	os.Remove(statePath(part))
	if err := os.Rename(part, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

// snapshotOffline takes what the cache holds of a commit.
func (c *Client) snapshotOffline(s *Snapshot, o SnapshotOptions) error {
	needs := func(why string) error {
		return &Error{Kind: Offline, Message: fmt.Sprintf("%s at %s must be downloaded (%s), and the network must not be used (--offline or HF_HUB_OFFLINE)", s.Repo, s.Commit, why)}
	}
	if !o.Unlisted {
		return needs("which files it has is on no record: run it once with the network, or take the lock file of such a run")
	}
	dir := s.cache.snapshot(s.Repo, s.Commit)
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel := filepath.ToSlash(strings.TrimPrefix(at, dir+string(filepath.Separator)))
		if !o.Keep(rel) {
			return nil
		}
		blob, err := filepath.EvalSymlinks(at)
		if err != nil {
			return err
		}
		info, err := os.Stat(blob)
		if err != nil {
			return err
		}
		f := File{Path: rel, Size: info.Size(), Hash: filepath.Base(blob)}
		if !hashForm().MatchString(f.Hash) {
			return needs(rel + " in the cache is not kept by its hash")
		}
		if err := check(blob, f); err != nil {
			return needs(fmt.Sprintf("%s in the cache is damaged: %v", rel, err))
		}
		s.Files = append(s.Files, f)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(s.Files) == 0 {
		return needs("the hub cache " + c.Cache + " does not hold it")
	}
	return err
}

// Place makes a fresh folder of the snapshot's files at a path where nothing stands. Files are cloned or linked from the
// hub cache where the disk can do that, else copied; linked ones become read-only, in the cache too.
func (s *Snapshot) Place(to string) error {
	if err := os.MkdirAll(to, 0o777); err != nil {
		return err
	}
	folders := map[string]bool{to: true}
	for _, f := range s.Files {
		at := filepath.Join(to, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			return err
		}
		for dir := filepath.Dir(at); !folders[dir]; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
		if err := placeFile(s.cache.blob(s.Repo, f.Hash), at); err != nil {
			return fmt.Errorf("place %s: %w", f.Path, err)
		}
	}
	for dir := range folders {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// watch counts what arrives and tells it, ten times a second at most.
type watch struct {
	tell func(Progress)

	mu   sync.Mutex
	at   Progress
	told time.Time
}

func newWatch(tell func(Progress)) *watch { return &watch{tell: tell} }

func (w *watch) change(now bool, change func(*Progress)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.at)
	if w.tell != nil && (now || time.Since(w.told) >= 100*time.Millisecond) {
		w.told = time.Now()
		w.tell(w.at)
	}
}

func (w *watch) expect(files int, bytes int64) {
	w.change(false, func(p *Progress) { p.TotalFiles += files; p.TotalBytes += bytes })
}

func (w *watch) add(bytes int64) { w.change(false, func(p *Progress) { p.Bytes += bytes }) }

func (w *watch) file() { w.change(true, func(p *Progress) { p.Files++ }) }

// counter adds to the whole and to one file's own count.
func (w *watch) counter(own *int64) func(int64) {
	return func(bytes int64) {
		w.change(false, func(p *Progress) { p.Bytes += bytes; *own += bytes })
	}
}
