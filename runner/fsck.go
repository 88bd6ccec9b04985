package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lpipe/cache"
)

// FileProblem is a file of the project, not of the cache, that is not what lpipe wrote.
type FileProblem struct {
	Path     string // relative to the workspace
	What     string // "lock", "journal", "pins", "experiment"
	Err      error  // is cache.ErrDamaged
	Repaired bool

	dir    string       // the workspace that the file is of: the project's, or an experiment's
	repair func() error // nil: there is none
}

// CheckFiles looks at the files that lpipe keeps in a project and its experiments: each lock, journal, pins, records.
// With repair, damaged records are dropped where a run or a colleague gives them again, and mended where nobody would.
func (r *Runner) CheckFiles(ctx context.Context, repair bool) ([]FileProblem, error) {
	problems := r.checkFiles()
	if !repair || len(problems) == 0 {
		return problems, nil
	}
	err := r.exclusive(ctx, func() error {
		for i := range problems {
			if problems[i].repair == nil {
				continue // it cannot be read
			}
			if err := problems[i].repair(); err != nil {
				problems[i].Err = errors.Join(problems[i].Err, err)
				continue
			}
			problems[i].Repaired = true
		}
		return nil
	})
	return problems, err
}

func (r *Runner) checkFiles() (problems []FileProblem) {
	instances, err := experimentWorkspaces(r.dir)
	if err != nil {
		problems = append(problems, FileProblem{Path: experimentsDir(r.dir), What: "experiment", Err: err})
	}
	for _, dir := range append([]string{r.dir}, instances...) {
		found := checkLocks(dir)
		found = append(found, checkJournal(dir)...)
		found = append(found, checkPins(dir)...)
		for i := range found {
			found[i].dir = dir
		}
		problems = append(problems, found...)
	}
	for i := range problems {
		if one := &problems[i]; one.What == "lock" && one.dir == r.dir && one.Path == LockPath(r.dir, r.Pipeline.Profile) {
			one.repair = func() error { return r.writeLock(r.lock) } // what could be read of it, and the journal
		}
	}
	problems = append(problems, checkExperiments(r.dir)...)
	for i := range problems {
		problems[i].Path = r.rel(problems[i].Path)
	}
	return problems
}

// checkLocks also finds changes that leave every record as it was: a lock is written in one way only.
func checkLocks(dir string) (problems []FileProblem) {
	files, err := lockFiles(dir)
	if err != nil {
		return []FileProblem{{Path: dir, What: "lock", Err: err}}
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			problems = append(problems, FileProblem{Path: path, What: "lock", Err: err})
			continue
		}
		lock, err := parseLock(filepath.Base(path), data)
		if err == nil {
			_, schema, _ := decodeLock(data)
			if line := firstDifference(data, lock.encode()); schema == lockSchema && line > 0 {
				err = fmt.Errorf("line %d is not as lpipe writes it: %w", line, cache.ErrDamaged)
			}
		}
		if errors.Is(err, cache.ErrDamaged) {
			problems = append(problems, FileProblem{Path: path, What: "lock", Err: err, repair: func() error {
				return writeFile(path, filepath.Join(dir, ".lpipe", "lock.new"), salvage(data).encode())
			}})
		}
	}
	return problems
}

// firstDifference is the number of the first line in which two texts differ, 0 if they do not.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return 1 + bytes.Count(a[:n], []byte("\n"))
}

func checkJournal(dir string) []FileProblem {
	path := filepath.Join(dir, ".lpipe", "journal")
	damage := journalDamage(path)
	_, good, _, err := readJournal(path)
	if damage == nil || err != nil {
		return nil
	}
	return []FileProblem{{
		Path: path, What: "journal",
		Err: fmt.Errorf("%w; stages that it named after that run again", damage),
		repair: func() error { // the project's own is folded into the lock by now
			if j, err := openJournal(path, good); standsAt(path) && err == nil {
				return j.close()
			}
			return nil
		},
	}}
}

func checkPins(dir string) []FileProblem {
	path := filepath.Join(dir, ".lpipe", "pins")
	if _, err := readPins(path); !errors.Is(err, cache.ErrDamaged) {
		return nil
	} else {
		return []FileProblem{{Path: path, What: "pins", Err: err, repair: func() error {
			dropped, err := mendPins(path, path+".new")
			if err == nil && len(dropped) > 0 {
				err = fmt.Errorf("more than a bit was wrong, so gc may take what it kept: %s", strings.Join(dropped, "; "))
			}
			return err
		}}}
	}
}

// mendable is how large a record may be for all its bits to be tried.
const mendable = 16 << 10

// checkExperiments looks at the descriptions and records of experiments. A record that cannot be mended is removed: its
// instance counts as unfinished, and exp run makes it again.
func checkExperiments(dir string) (problems []FileProblem) {
	paths, _ := filepath.Glob(filepath.Join(experimentsDir(dir), "*", "experiment.json"))
	instances, _ := experimentWorkspaces(dir) // an error is checkFiles'
	for _, workspace := range instances {
		paths = append(paths, recordPath(workspace))
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if _, err := uncheckJSON(path, data); err != nil {
			problems = append(problems, FileProblem{Path: path, What: "experiment", Err: err, repair: func() error {
				good := func(data []byte) bool { _, err := uncheckJSON(path, data); return err == nil }
				if len(data) <= mendable {
					if mended, ok := cache.Mend(data, good); ok {
						return writeFile(path, path+".new", mended)
					}
				}
				if filepath.Base(path) == "experiment.json" {
					return fmt.Errorf("more than a bit is wrong; lpipe exp run makes it again")
				}
				return remove(path)
			}})
		}
	}
	return problems
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
