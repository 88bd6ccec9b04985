package runner

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
	spare := s.takeSpare(path)
	if spare == path || spare != "" && os.Rename(spare, path) == nil {
		return path, nil
	}
	return path, os.MkdirAll(path, 0o777)
}

// takeSpare returns a folder that nobody uses: the one at path, if that is one, or any where nothing stands at path; else "".
func (s *scratches) takeSpare(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.spare, path)
	if at < 0 && !standsAt(path) {
		at = len(s.spare) - 1
	}
	if at < 0 {
		return ""
	}
	spare := s.spare[at]
	s.spare = slices.Delete(s.spare, at, at+1)
	return spare
}

// done takes back the folder of a stage that succeeded.
func (s *scratches) done(path string) {
	if !s.reuse(path) {
		removeAll(path)
	}
}

// reuse takes back the folder of a stage that ended, if it is empty.
func (s *scratches) reuse(path string) bool {
	if !empty(path) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = append(s.spare, path)
	return true
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
