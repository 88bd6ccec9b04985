package crash

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain builds the program once; as a child of Run it becomes what it is told to.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Word {
		fmt.Fprintln(os.Stderr, Main(os.Args[2:]))
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// buildProgram makes the lpipe that people run.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "lpipe")
	build := exec.Command("go", "build", "-trimpath", "-tags", "urfave_cli_no_docs", "-ldflags", "-s -w", "-o", program, "lpipe/cmd/lpipe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build lpipe: %v\n%s", err, out)
	}
	return program
}

// place is a folder in which one trial after the other takes place, always under the same path: root/project,
// root/clone, root/bucket.
type place struct {
	program  string
	root     string
	home     string
	env      []string // beside what every command gets
	prepared map[*scenario]prepared
}

// prepared is a scenario's beginning, and the prints of its undisturbed end.
type prepared struct {
	before *Node
	want   map[string]string
}

func newPlace(t *testing.T, program string) *place {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &place{program, filepath.Join(dir, "w"), filepath.Join(dir, "home"), nil, map[*scenario]prepared{}}
	if err := os.Mkdir(p.home, 0o777); err != nil {
		t.Fatal(err)
	}
	return p
}

// patience is for a command that hangs. It is long since a busy machine, or one that pauses its processes, may take long for
// what is quick otherwise.
const patience = 15 * time.Minute

// command is lpipe in one of the place's folders. GOMAXPROCS=1 keeps the order of calls almost the same in every run.
func (p *place) command(folder string, args ...string) *exec.Cmd {
	cmd := exec.Command(p.program, append([]string{"-C", filepath.Join(p.root, folder), "--lock-timeout", "2m"}, args...)...)
	cmd.Args[0] = p.program
	cmd.Dir = p.home
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "NO_COLOR=1", "LANG=C", "GOMAXPROCS=1", "AWS_EC2_METADATA_DISABLED=true"}
	cmd.Env = append(cmd.Env, p.env...)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"} {
		cmd.Env = append(cmd.Env, name+"="+os.Getenv(name))
	}
	return cmd
}

// said is what a command left alone printed, and its exit code.
type said struct {
	code           int
	stdout, stderr string
}

func (s said) String() string { return fmt.Sprintf("exit %d\n%s%s", s.code, s.stdout, s.stderr) }

func (p *place) run(folder string, args ...string) (said, error) {
	return p.runUntil("", nil, folder, args...)
}

// runUntil is run, and does something as soon as the command says some words on its standard error.
func (p *place) runUntil(words string, do func() error, folder string, args ...string) (said, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	errOut := hearing{words: words, do: do}
	cmd := p.command(folder, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		return said{}, err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	cmd.Wait()
	return said{cmd.ProcessState.ExitCode(), out.String(), errOut.text.String()}, cmp.Or(ctx.Err(), errOut.err)
}

// hearing is what was printed; once that has some words in it, it does something.
type hearing struct {
	text  bytes.Buffer // not embedded: its ReadFrom would be used instead of Write
	words string
	do    func() error
	err   error
}

func (h *hearing) Write(b []byte) (int, error) {
	h.text.Write(b)
	if h.do != nil && bytes.Contains(h.text.Bytes(), []byte(h.words)) {
		h.err, h.do = h.do(), nil
	}
	return len(b), nil
}

// must is a command that has to succeed, at once: it must not meet a lock.
func (p *place) must(folder string, args ...string) (string, error) {
	s, err := p.run(folder, args...)
	if err == nil && (s.code != 0 || strings.Contains(s.stderr, "waiting for")) {
		err = fmt.Errorf("%s", s)
	}
	if err != nil {
		return "", fmt.Errorf("lpipe %s: %w", strings.Join(args, " "), err)
	}
	return s.stdout + s.stderr, nil
}

// write writes a file of the project, long ago: its time is settled.
func (p *place) write(path, text string) error {
	path = filepath.Join(p.root, path)
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		os.Remove(path) // it may be a link into the cache
		err = os.WriteFile(path, []byte(text), 0o666)
	}
	old := time.Now().Add(-time.Minute)
	if err == nil {
		err = os.Chtimes(path, old, old)
	}
	return err
}

// reset makes the place what it was.
func (p *place) reset(tree *Node) error {
	if err := p.clear(); err != nil {
		return err
	}
	return tree.Build(p.root)
}

func (p *place) clear() error { return os.RemoveAll(p.root) }

// prints are the bytes of what counts, by path: the workspaces' files with their execute bits, the names of the
// caches' objects, trees and results.
func (p *place) prints() (map[string]string, error) {
	found, logs := map[string]string{}, []string{}
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.root, path)
		parts := strings.Split(rel, "/")
		if at := slices.Index(parts, ".lpipe"); at >= 0 && len(parts) > at+1 {
			switch parts[at+1] {
			case "cache":
				if len(parts) > at+2 && !slices.Contains([]string{"objects", "trees", "results"}, parts[at+2]) {
					return skip(d)
				}
				if !d.IsDir() {
					found[rel] = ""
					if parts[at+2] == "results" {
						logs = append(logs, logOf(path, parts[:at+2])...)
					}
				}
				return nil
			case "exp":
				if len(parts) == at+5 && parts[at+4] == ".lpipe" || len(parts) == at+3 && !d.IsDir() {
					return skip(d)
				}
			default:
				return skip(d)
			}
		}
		if parts[0] == "bucket" {
			return skip(d)
		}
		if d.IsDir() {
			found[rel] = "folder"
			return nil
		}
		found[rel], err = printOf(path)
		return err
	})
	for _, log := range logs {
		delete(found, log)
	}
	return found, err
}

// printOf is what counts of a file or link.
func printOf(path string) (string, error) {
	if text, err := os.Readlink(path); err == nil && !strings.Contains(text, "/.lpipe/cache/") { // else it is how output is placed
		return "link to " + text, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(path)
	return fmt.Sprintf("%v %s", info.Mode()&0o100 != 0, data), err
}

// logOf is the path of the object that is a result's log: a result is whole without it.
func logOf(path string, cache []string) []string {
	text, err := os.ReadFile(path)
	_, body, _ := bytes.Cut(text, []byte("{"))
	var r struct {
		Record struct{ Log *struct{ ID string } }
	}
	if err != nil || json.Unmarshal(append([]byte("{"), body...), &r) != nil || r.Record.Log == nil {
		return nil
	}
	id := r.Record.Log.ID
	return []string{filepath.Join(filepath.Join(cache...), "objects", id[:2], id[2:])}
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// differences lists what differs between two sets of prints.
func differences(want, got map[string]string) error {
	var list []string
	for path, text := range want {
		if now, there := got[path]; !there {
			list = append(list, "missing: "+path)
		} else if now != text {
			list = append(list, fmt.Sprintf("differs: %s: %.200q instead of %.200q", path, now, text))
		}
	}
	for path := range got {
		if _, there := want[path]; !there {
			list = append(list, "too much: "+path)
		}
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return fmt.Errorf("%s", strings.Join(list, "\n"))
}

// garbage lists what no command may leave behind once gc was here.
func (p *place) garbage() error {
	var list []string
	err := filepath.WalkDir(p.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(p.root, path)
		name, in := d.Name(), filepath.Base(filepath.Dir(path))
		switch {
		case in == "tmp", strings.HasPrefix(name, ".lpipe-tmp-"), strings.HasPrefix(name, ".state-"), strings.HasPrefix(name, ".stat-"),
			strings.HasPrefix(name, ".index-"), name == "lock.new", name == "journal":
			list = append(list, rel)
		}
		return nil
	})
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("left behind: %s", strings.Join(list, ", "))
	}
	return err
}

// acknowledged are the stages that a run's output tells as having run.
func acknowledged(stdout string) []string {
	var list []string
	for line := range strings.Lines(stdout) {
		var e struct{ Event, Stage, How string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "stage" && e.How == "ran" {
			list = append(list, e.Stage)
		}
	}
	return list
}
