package runner

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// scratches hands out the scratch folders of running stages, named by their keys. A folder that a stage left empty is
// renamed for the next one rather than removed: file systems are slow to make inodes anew that were just given up.
type scratches struct {
	dir string

	mu    sync.Mutex
	spare []string
}

// take returns the folder of a key: what an earlier attempt left, or an empty one.
func (s *scratches) take(key string) (string, error) {
	path := filepath.Join(s.dir, key)
	if standsAt(path) {
		return path, nil
	}
	s.mu.Lock()
	spare := ""
	if last := len(s.spare) - 1; last >= 0 {
		spare, s.spare = s.spare[last], s.spare[:last]
	}
	s.mu.Unlock()
	if spare != "" && os.Rename(spare, path) == nil {
		return path, nil
	}
	return path, os.MkdirAll(path, 0o777)
}

// done takes back the folder of a stage that succeeded.
func (s *scratches) done(path string) {
	if !empty(path) {
		removeAll(path)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, path)
}

func empty(path string) bool {
	d, err := os.Open(path)
	if err != nil {
		return false
	}
	defer d.Close()
	_, err = d.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// close removes the folders that are left over.
func (s *scratches) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.spare {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			removeAll(path)
		}
	}
	s.spare = nil
}
