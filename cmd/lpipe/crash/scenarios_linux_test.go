package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const pipeline = `
variable "x" {
  type    = number
  default = 1
}

source "data" { path = "data" }

stage "shell" "a" {
  out     = { text = "build/a.txt" }
  command = "cat ${source.data.path}/one ${source.data.path}/sub/two > ${self.out.text}; echo ${var.x} >> ${self.out.text}"
}

stage "shell" "b" {
  in      = { text = stage.a.text }
  out     = { all = "build/b/" }
  command = "mkdir -p build/b/sub; cp build/a.txt build/b/x; tr a-z A-Z < build/a.txt > build/b/sub/y; echo echo > build/b/run; chmod +x build/b/run"
}

stage "convert" "qa" {
  in     = { raw = "rows.jsonl" }
  format = "alpaca"
}

stage "shell" "c" {
  in      = { all = stage.b.all, qa = stage.qa.data }
  out     = { sum = "build/c.txt" }
  command = "cat build/b/x build/b/sub/y build/qa/data.jsonl > build/c.txt"
}

remote "dir" "nas" { path = "../bucket" }
`

// scenario is a command in a state.
type scenario struct {
	name   string
	in     string               // folder; "" is project
	args   []string             // the command that is disturbed
	before func(p *place) error // brings the state about, after the files were written
	shared bool                 // the bucket is looked at, too
	edited bool                 // an edit by hand is in the way, and is told
}

func (s *scenario) folder() string {
	if s.in == "" {
		return "project"
	}
	return s.in
}

func scenarios() []*scenario {
	repro := []string{"repro", "--json", "--no-remote"}
	return []*scenario{
		{name: "repro", args: repro},
		{name: "repro after an edit", args: repro, before: func(p *place) error {
			return p.all(p.does("project", "repro"), func() error { return p.write("project/data/one", "another\n") })
		}},
		{name: "add", args: []string{"add"}},
		{name: "push", args: []string{"push"}, shared: true, before: func(p *place) error {
			return p.all(p.does("project", "add"), p.does("project", "repro"))
		}},
		{name: "pull", args: []string{"pull"}, in: "clone", before: func(p *place) error {
			return p.all(p.does("project", "add"), p.does("project", "repro"), p.does("project", "push"), p.clone)
		}},
		{name: "gc", args: []string{"gc", "--delete", "--older-than", "1ns"}, before: func(p *place) error {
			return p.all(p.does("project", "repro"), func() error { return p.write("project/data/one", "another\n") }, p.does("project", "repro"))
		}},
		{name: "checkout", args: []string{"checkout"}, edited: true, before: func(p *place) error {
			return p.all(p.does("project", "add"), p.does("project", "repro"), func() error {
				return os.RemoveAll(filepath.Join(p.root, "project/build/b"))
			}, func() error { return p.write("project/build/c.txt", "by hand\n") })
		}},
		{name: "commit", args: []string{"commit", "c"}, before: func(p *place) error {
			return p.all(p.does("project", "repro"), func() error { return p.write("project/build/c.txt", "by hand\n") })
		}},
		{name: "exp run", args: []string{"exp", "run", "--set", "x=[1,2]", "b", "--json"}},
	}
}

func (p *place) all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) does(folder string, args ...string) func() error {
	return func() error { _, err := p.must(folder, args...); return err }
}

// clone makes a second project that has the first one's pipeline and lock, and the sources that were not added.
func (p *place) clone() error {
	for _, name := range []string{"pipeline.hcl", "pipeline.lock"} {
		text, err := os.ReadFile(filepath.Join(p.root, "project", name))
		if err == nil {
			err = p.write("clone/"+name, string(text))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare brings a scenario's state about, once in each place, and has the command run undisturbed.
func (s *scenario) prepare(p *place) (prepared, error) {
	if known, done := p.prepared[s]; done {
		return known, nil
	}
	before, want, err := s.bringAbout(p)
	if err == nil {
		p.prepared[s] = prepared{before, want}
	}
	return prepared{before, want}, err
}

func (s *scenario) bringAbout(p *place) (before *Node, want map[string]string, err error) {
	if err := p.clear(); err != nil {
		return nil, nil, err
	}
	if err := s.files(p); err != nil {
		return nil, nil, err
	}
	if s.before != nil {
		if err := s.before(p); err != nil {
			return nil, nil, err
		}
	}
	if before, err = ReadTree(p.root); err != nil {
		return nil, nil, err
	}
	if err := p.reset(before); err != nil { // as in every trial
		return nil, nil, err
	}
	if _, err := p.must(s.folder(), s.args...); err != nil {
		return nil, nil, err
	}
	if want, err = s.collected(p); err != nil {
		return nil, nil, err
	}
	return before, want, nil
}

// files writes the project's files.
func (s *scenario) files(p *place) error {
	for path, text := range map[string]string{
		"pipeline.hcl": pipeline,
		"rows.jsonl":   `{"instruction":"one","output":"two"}` + "\n" + `{"instruction":"three","output":"four"}` + "\n",
		"data/one":     "first\n",
		"data/sub/two": "second\n",
	} {
		if err := p.write("project/"+path, text); err != nil {
			return err
		}
	}
	return nil
}

// collected are the prints after a gc that takes all that nothing needs.
func (s *scenario) collected(p *place) (map[string]string, error) {
	if _, err := p.must(s.folder(), "gc", "--delete", "--older-than", "1ns"); err != nil {
		return nil, err
	}
	return p.prints()
}

// examine goes on after a disturbance, as a person would.
func (s *scenario) examine(p *place, ended Ended, want map[string]string, cut bool) error {
	folder := s.folder()
	if s.in == "" {
		if err := p.inputs(folder, want); err != nil {
			return err
		}
	}
	if _, err := p.must(folder, "fsck", "--full"); err != nil {
		return err
	}
	if ended.Code == 0 {
		if err := s.complete(p, want); err != nil {
			return fmt.Errorf("it had ended with success: %w", err)
		}
	}
	again, err := p.must(folder, s.args...)
	if err != nil {
		return fmt.Errorf("again: %w", err)
	}
	for _, stage := range acknowledged(ended.Stdout) {
		if slices.Contains(acknowledged(again), stage) {
			return fmt.Errorf("%s was acknowledged, and ran again:\n%s", stage, again)
		}
	}
	kept, err := s.warned(again, cut)
	if err != nil {
		return fmt.Errorf("again: %w", err)
	}
	if s.shared {
		if err := p.sharedWhole(); err != nil {
			return err
		}
	}
	got, err := s.collected(p)
	if err != nil {
		return err
	}
	if kept {
		got = only(want, got)
	}
	if err := differences(want, got); err != nil {
		return fmt.Errorf("it did not come to the same end:\n%w", err)
	}
	if err := p.garbage(); err != nil {
		return err
	}
	_, err = p.must(folder, "fsck", "--full")
	return err
}

// complete tells whether all is on record that a command with exit code 0 has promised, without another run.
func (s *scenario) complete(p *place, want map[string]string) error {
	lock := filepath.Join(s.folder(), "pipeline.lock")
	if text, written := want[lock]; written {
		if now, err := printOf(filepath.Join(p.root, lock)); err != nil || now != text {
			return fmt.Errorf("its lock is %.200q (%v), not %.200q", now, err, text)
		}
	}
	if s.shared {
		return p.sharedWhole()
	}
	return nil
}

// warned looks at the warnings of the next run. After a loss of power two are in order, and mean no loss: the last
// lines of the journal may be cut, and what a stage was writing may look like somebody's edit, which is kept.
func (s *scenario) warned(output string, cut bool) (kept bool, err error) {
	for line := range strings.Lines(output) {
		switch {
		case !strings.Contains(line, "warning: "):
		case strings.Contains(line, "was changed outside lpipe; the edit is kept in the cache") && (s.edited || cut):
			kept = true
		case strings.Contains(line, "bytes of .lpipe/journal are damaged and are cut off") && cut:
		default:
			return kept, errors.New(line)
		}
	}
	return kept, nil
}

// only are those of the prints that are wanted.
func only(want, got map[string]string) map[string]string {
	some := map[string]string{}
	for path, text := range got {
		if _, wanted := want[path]; wanted {
			some[path] = text
		}
	}
	return some
}

// sharedWhole tells whether a clone gets all from the bucket that the project has, also after a gc there.
func (p *place) sharedWhole() error {
	// A lock in a bucket whose holder was killed is believed for twenty minutes.
	if err := os.RemoveAll(filepath.Join(p.root, "bucket/locks")); err != nil {
		return err
	}
	err := p.all(p.does("project", "fsck", "--remote", "nas", "--full"),
		p.does("project", "gc", "--remote", "nas", "--delete", "--older-than", "1ns"),
		p.does("project", "fsck", "--remote", "nas", "--full"), p.clone, p.does("clone", "pull"))
	if err != nil {
		return err
	}
	if err := p.outputsAlike(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(p.root, "clone"))
}

// outputsAlike tells whether a clone's workspace has what the project's has.
func (p *place) outputsAlike() error {
	prints, err := p.prints()
	if err != nil {
		return err
	}
	theirs, ours := map[string]string{}, map[string]string{}
	for path, text := range prints {
		if rest, ok := strings.CutPrefix(path, "clone/"); ok && !strings.Contains(path, ".lpipe") {
			theirs[rest] = text
		}
		if rest, ok := strings.CutPrefix(path, "project/"); ok && !strings.Contains(path, ".lpipe") {
			ours[rest] = text
		}
	}
	return differences(ours, theirs)
}
