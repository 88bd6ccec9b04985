package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// experimentsDir holds a project's experiments: <name>/experiment.json says what each is, <name>/<instance>/ is an
// instance's workspace.
func experimentsDir(dir string) string { return filepath.Join(dir, ".lpipe", "exp") }

// experimentWorkspaces lists the workspaces of all experiments. An error is no empty list: what gc keeps hangs on it.
func experimentWorkspaces(dir string) ([]string, error) {
	var found []string
	names, err := foldersIn(experimentsDir(dir))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		instances, err := foldersIn(name)
		if err != nil {
			return nil, err
		}
		found = append(found, instances...)
	}
	return found, nil
}

// foldersIn lists the folders in a folder; where there is no such folder there are none.
func foldersIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for experiments: %w", err)
	}
	var folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, filepath.Join(dir, e.Name()))
		}
	}
	return folders, nil
}

// mirror gives an experiment's workspace what the project has beside outputs, as links: a command finds whatever it
// finds in the project. Folders that stages write into, or run in, are real ones; so are those that a stage reads whole
// and another writes into, and their files are copies, since content may not reach out of its folder.
type mirror struct {
	plan     *Plan
	from, to string
	real     map[string]bool
	copied   map[string]bool
}

// link brings the runner's workspace up to date with its origin.
func (r *Runner) link() error {
	m := &mirror{plan: r.Plan, from: r.Origin, to: r.dir, real: map[string]bool{".": true}, copied: map[string]bool{}}
	for _, out := range r.Plan.outputs {
		m.keepReal(path.Dir(out.Path))
	}
	for _, origin := range r.Plan.Sources {
		if origin.Download != nil {
			m.keepReal(path.Dir(origin.Path)) // what the project has not downloaded yet comes to the instance
		}
	}
	for _, n := range r.Plan.Nodes {
		if dir := n.runsIn(); dir != "" && !path.IsAbs(dir) {
			m.keepReal(path.Clean(dir))
		}
		for _, in := range n.inputs {
			if len(in.makers) > 0 && in.makers[0].Path != in.Path && !strings.HasPrefix(in.Path, in.makers[0].Path+"/") {
				m.keepReal(in.Path)
				m.copied[in.Path] = true
			}
		}
	}
	if err := os.MkdirAll(r.path(), 0o777); err != nil {
		return writeError(r.dir, err)
	}
	if err := m.folder(".", false); err != nil {
		return fmt.Errorf("link the project's files into %s: %w", r.dir, writeError(r.dir, err))
	}
	return nil
}

// runsIn is the folder that a shell stage runs in.
func (n *Node) runsIn() (dir string) {
	if !n.Step.Kind.InPlace {
		return ""
	}
	for _, setting := range n.Step.Settings {
		if setting.Name == "dir" && json.Unmarshal([]byte(setting.Value), &dir) == nil {
			return dir
		}
	}
	return ""
}

func (m *mirror) keepReal(at string) {
	for ; at != "." && at != "/" && !m.real[at]; at = path.Dir(at) {
		m.real[at] = true
	}
}

// folder links, or copies, the entries of one folder, and removes links to what is no more.
func (m *mirror) folder(at string, copies bool) error {
	copies = copies || m.copied[at]
	entries, err := os.ReadDir(under(m.from, at))
	if errors.Is(err, fs.ErrNotExist) {
		entries, err = nil, nil // only stages make it
	}
	if err != nil {
		return err
	}
	if err := m.makeReal(at); err != nil {
		return err
	}
	for _, entry := range entries {
		child := path.Join(at, entry.Name())
		if m.leavesOut(child) {
			continue
		}
		if err := m.entry(child, copies); err != nil {
			return err
		}
	}
	return m.removeStale(at)
}

// leavesOut tells what is not linked: what is lpipe's or Git's own, and what stages of this pipeline make.
func (m *mirror) leavesOut(at string) bool {
	_, made := m.plan.owners[at]
	lock := path.Dir(at) == "." && strings.HasPrefix(at, "pipeline") && strings.HasSuffix(at, ".lock")
	return made || lock || at == ".lpipe" || at == ".git"
}

func (m *mirror) entry(at string, copies bool) error {
	from, to := under(m.from, at), under(m.to, at)
	info, err := os.Stat(from)
	folder := err == nil && info.IsDir()
	if here, err := os.Lstat(to); folder && (copies || m.real[at] || err == nil && here.IsDir()) {
		return m.folder(at, copies)
	}
	if copies && err == nil {
		return copyChanged(from, to, info)
	}
	if was, err := os.Readlink(to); err == nil && was == from {
		return nil
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(from, to)
}

// makeReal makes a folder, in the place of a link that stood there when no stage wrote into it.
func (m *mirror) makeReal(at string) error {
	to := under(m.to, at)
	if info, err := os.Lstat(to); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		if err := os.Remove(to); err != nil {
			return err
		}
	}
	return os.MkdirAll(to, 0o777)
}

func (m *mirror) removeStale(at string) error {
	entries, err := os.ReadDir(under(m.to, at))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Type()&fs.ModeSymlink == 0 {
			continue
		}
		child := path.Join(at, entry.Name())
		target, err := os.Readlink(under(m.to, child))
		if err != nil || target != under(m.from, child) {
			continue // a stage's
		}
		if !standsAt(target) || m.leavesOut(child) {
			if err := os.Remove(under(m.to, child)); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyChanged copies a file unless its copy has the size and the time already.
func copyChanged(from, to string, info fs.FileInfo) error {
	if was, err := os.Lstat(to); err == nil && was.Mode().IsRegular() && was.Size() == info.Size() && was.ModTime().Equal(info.ModTime()) {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	temp := to + ".lpipe-new"
	out, err := os.OpenFile(temp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Close())
	if err == nil {
		err = errors.Join(os.Chtimes(temp, info.ModTime(), info.ModTime()), os.Rename(temp, to))
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}
