package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// spareLogs are logs of stages of this run that succeeded and printed nothing. Each is renamed for a stage that starts later, so that
// silent stages cost no file each: file systems are slow to make inodes anew that were just given up.
type spareLogs struct {
	mu    sync.Mutex
	paths []string
}

// open opens the log of a stage for appending: a spare one under its new name, else a new one.
func (s *spareLogs) open(path string) (*os.File, error) {
	if !standsAt(path) {
		if spare := s.take(); spare != "" {
			os.Rename(spare, path) // if it cannot be, it stays an empty file, and another is made
		}
	}
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

func (s *spareLogs) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.paths) - 1
	if last < 0 {
		return ""
	}
	path := s.paths[last]
	s.paths = s.paths[:last]
	return path
}

// reuse takes back the log of a stage that succeeded, whose processes are gone, if it is empty.
func (s *spareLogs) reuse(path string) bool {
	if info, err := os.Stat(path); err != nil || info.Size() > 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, path)
	return true
}

// close removes what is left over.
func (s *spareLogs) close() {
	for path := s.take(); path != ""; path = s.take() {
		os.Remove(path)
	}
}

// LogPath finds the log of a stage: of one run, or with "" of the last run in which it ran. It is "" where the stage printed
// nothing. Without one in this workspace it is fs.ErrNotExist; the result of a stage that succeeded holds its log as well.
func LogPath(dir, stage, runID string) (string, error) {
	root := filepath.Join(dir, ".lpipe", "runs")
	ids := runIDs(root)
	if runID != "" {
		if !slices.Contains(ids, runID) {
			return "", usage("there is no run %q; lpipe runs ls lists them", runID)
		}
		ids = []string{runID}
	}
	for _, id := range slices.Backward(ids) {
		path := filepath.Join(root, id, stage+".log")
		if standsAt(path) {
			return path, nil
		}
		ran, err := ranIn(filepath.Join(root, id), stage)
		if ran || err != nil {
			return "", err
		}
	}
	if runID != "" {
		return "", usage("stage %s did not run in run %s", stage, runID)
	}
	return "", fmt.Errorf("stage %s has no log in this workspace: %w", stage, fs.ErrNotExist)
}

// ranIn tells whether a stage ran to its end in the run of a folder.
func ranIn(folder, stage string) (bool, error) {
	events, err := os.ReadFile(filepath.Join(folder, "events.jsonl"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read run %s: %w", filepath.Base(folder), err)
	}
	for line := range strings.Lines(string(events)) {
		var e RunEvent
		if strings.Contains(line, HowRan) && json.Unmarshal([]byte(line), &e) == nil && e.Event == "stage" && e.Stage == stage && e.How == HowRan {
			return true, nil
		}
	}
	return false, nil
}

// Log opens a stage's log: the file that LogPath finds, else what its recorded result holds.
func (r *Runner) Log(stage, runID string) (io.ReadCloser, error) {
	path, err := LogPath(r.dir, stage, runID)
	if err == nil && path == "" {
		return io.NopCloser(strings.NewReader("")), nil
	}
	if err == nil {
		return openNamed(path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	result, wrong := r.Cache.Result(r.lock.Stages[stage].Key)
	if wrong != nil || result.Record.Log == nil {
		return nil, err
	}
	return r.Cache.Open(result.Record.Log.ID)
}

// namedFile reads a log that grows, as long as it has its name: later it is that of another stage.
type namedFile struct{ f *os.File }

func openNamed(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return namedFile{f}, nil
}

func (n namedFile) Close() error { return n.f.Close() }

func (n namedFile) Read(b []byte) (int, error) {
	count, err := n.f.Read(b)
	if count == 0 {
		return 0, err
	}
	mine, wrong := n.f.Stat()
	if wrong != nil {
		return 0, wrong
	}
	if now, wrong := os.Stat(n.f.Name()); wrong != nil || !os.SameFile(mine, now) {
		return 0, io.EOF
	}
	return count, err
}
