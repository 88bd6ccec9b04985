package runner_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// moody is a project whose answer hangs on everything that an answer can hang on.
const moody = `
variable "word" { default = "w" }
variable "mode" { default = "a" }
profile "other" { set = { mode = "b" } }
locals {
  conf  = file("conf.txt")
  extra = try(file("extra.txt"), "none")
}

source "unread" { path = "unread.txt" }

stage "shell" "single" {
  in      = { raw = "raw.txt" }
  out     = { o = "build/single.txt" }
  command = "cat raw.txt > ${self.out.o}; echo '${var.word}' >> ${self.out.o}"
}
stage "shell" "folder" {
  in      = { data = "data" }
  out     = { o = "build/tree/" }
  command = "mkdir -p ${self.out.o}/sub; cat data/*.txt > ${self.out.o}/sub/all; echo ${local.conf} ${local.extra} > ${self.out.o}/conf"
}
stage "shell" "each" {
  for_each = fileset("items", "*.txt")
  in       = { one = "items/${each.key}" }
  out      = { o = "build/${each.key}" }
  command  = "cat items/${each.key} > ${self.out.o}"
}
stage "shell" "coded" {
  in      = { tree = stage.folder.o, first = stage.single.o }
  out     = { o = "build/coded.txt" }
  code    = ["lib/**/*.sh"]
  tools   = ["mytool"]
  env     = { MOOD = env("MOOD", "none") }
  command = "sh lib/run.sh > ${self.out.o}; ls -R ${stage.folder.o} >> ${self.out.o}"
}
stage "upper" "loud" {
  in = { data = stage.single.o }
}
`

// A moodyProject is that project, and the circumstances under which it is asked.
type moodyProject struct {
	*workspace
	decode   runner.DecodeOptions
	excerpts int // how many were compared
	env      map[string]string
}

func newMoodyProject(t *testing.T) *moodyProject {
	m := &moodyProject{workspace: newWorkspace(t, moody, "raw.txt", "raw\n", "unread.txt", "u", "conf.txt", "conf", "data/a.txt", "1\n", "data/b.txt", "2\n",
		"data/deep/c.txt", "3\n", "data/old.pyc", "x", "items/x.txt", "x", "items/y.txt", "y", "lib/run.sh", "echo run\n", "lib/more/extra.sh", "echo more\n")}
	m.write("bin/mytool", "#!/bin/sh\n")
	m.must(os.Chmod(filepath.Join(m.dir, "bin/mytool"), 0o755))
	m.must(os.Mkdir(filepath.Join(m.dir, "earlier"), 0o777))
	m.reset()
	return m
}

// reset gives the circumstances their usual values.
func (m *moodyProject) reset() {
	m.env = map[string]string{"PATH": m.at("earlier") + ":" + m.at("bin") + ":/usr/bin:/bin"}
	m.decode = runner.DecodeOptions{Dir: m.dir, Kinds: m.kinds, Version: "0.1.0"}
}

func (m *moodyProject) at(path string) string { return filepath.Join(m.dir, path) }

func (m *moodyProject) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *moodyProject) circumstances() runner.Circumstances {
	o := m.decode
	o.Getenv = func(name string) (string, bool) { text, set := m.env[name]; return text, set }
	for name := range m.env {
		o.Environ = append(o.Environ, name)
	}
	program, err := os.Executable()
	m.must(err)
	return runner.Circumstances{Decode: o, Program: program, Env: []string{"PATH"}}
}

// plain is what the long way says: how many stages stood as they were, of how many, and what is fresh; or the mistakes.
func (m *moodyProject) plain() (answer string, r *runner.Runner) {
	c := m.circumstances()
	p, diags := runner.Decode(c.Decode)
	if diags.HasErrors() {
		return "mistakes: " + diags.Error(), nil
	}
	store, err := cache.Open(m.t.Context(), cache.Options{Dir: m.at(".lpipe/cache")})
	m.must(err)
	m.t.Cleanup(func() { store.Close() })
	m.must(store.Register(m.dir))
	state, err := cache.OpenState(m.at(".lpipe/state"))
	m.must(err)
	var environ []string
	for name, value := range m.env {
		environ = append(environ, name+"="+value)
	}
	r, diags, err = runner.New(runner.Options{Pipeline: p, Cache: store, State: state, Environ: environ, Jobs: 4, Report: m.note})
	if diags.HasErrors() {
		return "mistakes: " + diags.Error(), nil
	}
	m.must(err)
	stale := []string{}
	status, err := r.Status(m.t.Context(), nil)
	if err != nil {
		stale = append(stale, err.Error())
	}
	for _, s := range status.Stages {
		if s.State != runner.Fresh {
			stale = append(stale, s.Name)
		}
	}
	for _, s := range status.Sources {
		if s.State != runner.Fresh {
			stale = append(stale, s.Path)
		}
	}
	m.events = nil
	summary, err := r.Repro(m.t.Context(), runner.ReproOptions{})
	if err != nil {
		return "failed: " + err.Error(), nil
	}
	for _, e := range m.events {
		if e.Event == "warning" || e.Event == "stage" && e.How != runner.HowWorkspace {
			stale = append(stale, e.Stage+":"+e.How+e.Message)
		}
	}
	slices.Sort(stale)
	return said(summary.Reused, len(status.Sources), summary.Saved, stale), r
}

func said(stages, sources int, saved float64, stale []string) string {
	return fmt.Sprintf("%d stages, %d sources, saved %.9f, not fresh: %v", stages, sources, saved, stale)
}

// settle asks the long way until the short one knows.
func (m *moodyProject) settle() {
	m.t.Helper()
	var err error
	for range 100 {
		answer, r := m.plain()
		if r == nil {
			m.t.Fatal(answer)
		}
		if err = r.KeepFresh(context.Background(), m.circumstances()); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond) // until a later change must show in the times of what was just made
	}
	m.t.Fatalf("the workspace never settles: %v", err)
}

// changes are all that may happen to a project between two looks. Each leaves it such that it can be brought up to
// date under the usual circumstances.
func (m *moodyProject) changes() map[string]func() {
	rewrite := func(path, text string) func() { // in place, with its old time
		return func() {
			info, err := os.Stat(m.at(path))
			m.must(err)
			was, err := os.ReadFile(m.at(path))
			m.must(err)
			m.must(os.Chmod(m.at(path), 0o644))
			m.must(os.WriteFile(m.at(path), []byte((text + string(was))[:len(was)]), 0o644))
			m.must(os.Chtimes(m.at(path), info.ModTime(), info.ModTime()))
		}
	}
	write := func(path, text string) func() { return func() { m.write(path, text) } }
	remove := func(path string) func() { return func() { m.must(os.RemoveAll(m.at(path))) } }
	set := func(name, value string) func() { return func() { m.env[name] = value } }
	made := 0
	fresh := func() string { made++; return fmt.Sprint(made) }
	return map[string]func(){
		"nothing":              func() {},
		"an input":             func() { m.write("raw.txt", fresh()) },
		"an input, same bytes": func() { m.write("raw.txt", m.read("raw.txt")) },
		"touch":                func() { m.must(os.Chtimes(m.at("raw.txt"), time.Now(), time.Now())) },
		"same size, old time":  rewrite("raw.txt", "X"),
		"file in a folder":     rewrite("data/deep/c.txt", "Y"),
		"new in a folder":      func() { m.write("data/n"+fresh()+".txt", "n") },
		"new deep in a folder": func() { m.write("data/deep/n"+fresh()+".txt", "n") },
		"ignored in a folder":  func() { m.write("data/n"+fresh()+".pyc", "n") },
		"executable":           func() { m.must(os.Chmod(m.at("data/a.txt"), 0o755)) },
		"not executable":       func() { m.must(os.Chmod(m.at("data/a.txt"), 0o644)) },
		"link for a file": func() {
			m.write("raw.bak", m.read("raw.txt"))
			os.Remove(m.at("raw.txt"))
			m.must(os.Symlink("raw.bak", m.at("raw.txt")))
		},
		"through the link": func() {
			m.write("raw.bak", fresh())
			os.Remove(m.at("raw.txt"))
			m.must(os.Symlink("raw.bak", m.at("raw.txt")))
		},
		"an output":            rewrite("build/single.txt", "Z"),
		"an output's size":     write("build/single.txt", "edited"),
		"an output gone":       remove("build/coded.txt"),
		"a folder gone":        remove("build/tree"),
		"file in an output":    rewrite("build/tree/sub/all", "Q"),
		"more in an output":    write("build/tree/sub/more", "m"),
		"conf":                 func() { m.write("conf.txt", fresh()) },
		"what try() missed":    func() { m.write("extra.txt", fresh()) },
		"not any more":         remove("extra.txt"),
		"an item":              func() { m.write("items/i"+fresh()+".txt", "i") },
		"no item":              remove("items/y.txt"),
		"code":                 func() { m.write("lib/run.sh", "echo "+fresh()+"\n") },
		"more code":            func() { m.write("lib/more/c"+fresh()+".sh", "") },
		"code in a new folder": func() { m.write("lib/f"+fresh()+"/c.sh", "") },
		"no code":              func() { m.write("lib/n"+fresh()+".txt", "") },
		"another tool first": func() {
			m.write("earlier/mytool", "#!/bin/sh\n#"+fresh())
			m.must(os.Chmod(m.at("earlier/mytool"), 0o755))
		},
		"the tool":              func() { m.write("bin/mytool", "#!/bin/sh\n#"+fresh()); m.must(os.Chmod(m.at("bin/mytool"), 0o755)) },
		"PATH":                  func() { m.env["PATH"] = m.at("bin") + ":/usr/bin:/bin" },
		"an environment":        set("MOOD", fresh()),
		"an empty environment":  set("MOOD", ""),
		"environment of none":   set("OTHER", "x"),
		"LPIPE_VAR":             set("LPIPE_VAR_word", fresh()),
		"LPIPE_VAR of none":     set("LPIPE_VAR_nobody", "x"),
		"--var":                 func() { m.decode.Vars = []string{"word=" + fresh()} },
		"--var of none":         func() { m.decode.Vars = []string{"nobody=x"} },
		"--var-file":            func() { m.write("v.hcl", "word = \""+fresh()+"\""); m.decode.VarFiles = []string{"v.hcl"} },
		"profile":               func() { m.decode.Profile = "other" },
		"--file":                func() { m.decode.Files = []string{"pipeline.hcl"} },
		"another version":       func() { m.decode.Version = "0.2.0" },
		"comment":               func() { m.write("pipeline.hcl", moody+"# "+fresh()+"\n") },
		"command":               func() { m.write("pipeline.hcl", strings.Replace(moody, "echo run", "echo "+fresh(), 1)) },
		"mistake":               func() { m.write("pipeline.hcl", moody+"stage \"shell\" \"single\" {}") },
		"another pipeline file": func() { m.write("b.pipeline.hcl", "locals { more"+fresh()+" = 1 }") },
		"more stages": func() {
			m.write("c.pipeline.hcl", "stage \"shell\" \"more\" {\n out = { o = \"build/more"+fresh()+"\" }\n command = \"echo > ${self.out.o}\"\n}")
		},
		"no more stages":     remove("c.pipeline.hcl"),
		"pipeline.local.hcl": write("pipeline.local.hcl", "lpipe { pools = { disk = 1 } }"),
		"vars.auto.hcl":      func() { m.write("vars.auto.hcl", "word = \""+fresh()+"\"") },
		"no vars.auto.hcl":   remove("vars.auto.hcl"),
		".lpipeignore":       func() { m.write(".lpipeignore", "n"+fresh()+".txt\n*.bak\n") },
		"the lock":           remove("pipeline.lock"),
		"an old lock": func() {
			m.write("pipeline.lock", strings.Replace(m.read("pipeline.lock"), "\"id\":\"", "\"id\":\"0", 1))
		},
		"the state":              remove(".lpipe/state"),
		"the cache":              remove(".lpipe/cache"),
		"the project's register": remove(".lpipe/cache/projects"),
		"what was remembered":    remove(".lpipe/stages.json"),
		"an unread source":       func() { m.write("unread.txt", fresh()) },
		"something else":         func() { m.write("notes"+fresh(), "n") },
	}
}

// TestFreshSaysWhatTheLongWaySays changes a project at random and asks both ways. The short one may not know; what it
// says, the long one says too. What nothing was done to, it knows.
func TestFreshSaysWhatTheLongWaySays(t *testing.T) {
	m := newMoodyProject(t)
	changes := m.changes()
	names := make([]string, 0, len(changes))
	for name := range changes {
		names = append(names, name)
	}
	slices.Sort(names)
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for i := range len(names) + len(names)/3 {
		m.settle()
		done := []string{names[i%len(names)]}
		if i >= len(names) {
			done = append(done, names[r.IntN(len(names))])
		}
		for _, name := range done {
			changes[name]()
		}
		short, known := runner.ReadFresh(m.circumstances())
		long, _ := m.plain()
		if got := said(short.Stages, short.Sources, short.Saved, []string{}); known && got != long {
			t.Errorf("after %q the short way says %s, the long way %s", done, got, long)
		}
		if !known && !slices.ContainsFunc(done, func(name string) bool { return name != "nothing" && name != "environment of none" }) {
			t.Errorf("after %q the short way does not know", done)
		}
		m.reset()
		m.write("pipeline.hcl", moody)
		m.write("items/x.txt", "x")
		if strings.HasPrefix(long, "failed") {
			os.Remove(m.at("pipeline.lock"))
		}
	}
}

// TestDecodedIsWhatDecodeMakes changes a project at random and asks Decode and ReadDecoded. Nothing of the project's
// data, outputs and records makes ReadDecoded forget.
func TestDecodedIsWhatDecodeMakes(t *testing.T) {
	open := strings.Replace(moody, `env     = { MOOD = env("MOOD", "none") }`, `when    = env("MOOD", "none") != "bad"`, 1)
	m := newMoodyProject(t)
	m.must(os.MkdirAll(m.at(".lpipe"), 0o777))
	changes := m.changes()
	known := 0
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		m.write("pipeline.hcl", open)
		m.keepDecoded()
		os.MkdirAll(m.at("build/tree/sub"), 0o777) // what changes touch, though nothing ran
		for _, path := range []string{"build/single.txt", "build/tree/sub/all", "pipeline.lock"} {
			m.write(path, "made")
		}
		changes[name]()
		if read, holds := runner.ReadDecoded(m.circumstances()); holds {
			known++
			if p, diags := runner.Decode(m.circumstances().Decode); len(diags) > 0 || !runner.SamePipeline(p, read) {
				t.Errorf("after %q decode says %v %+v, and was remembered as %+v", name, diags, p, read)
			}
		} else if slices.Contains([]string{"nothing", "an input", "an output", "the lock", "file in a folder", "code", "something else"}, name) {
			t.Errorf("after %q the pipeline is decoded again", name)
		}
		m.reset()
	}
	if known < len(changes)/2 {
		t.Errorf("only %d of %d changes left what was decoded", known, len(changes))
	}
}

// keepDecoded decodes until what that makes can be kept.
func (m *moodyProject) keepDecoded() {
	m.t.Helper()
	var err error
	for range 100 {
		p, diags := runner.Decode(m.circumstances().Decode)
		if len(diags) > 0 {
			m.t.Fatal(diags)
		}
		if err = p.KeepDecoded(m.circumstances()); err == nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	m.t.Fatal(err)
}

// TestSecretsAreNotKept: a pipeline in which a sensitive value, or one of the environment, stands is decoded anew.
func TestSecretsAreNotKept(t *testing.T) {
	for name, stage := range map[string]string{
		"env":        `env = { A = env("MOOD", "none") }`,
		"setting":    `dir = env("MOOD", ".")`,
		"secret_env": `secret_env = { A = var.token }`,
	} {
		m := newMoodyProject(t)
		m.must(os.MkdirAll(m.at(".lpipe"), 0o777))
		m.env["MOOD"] = "."
		m.write("pipeline.hcl", "variable \"token\" {\n default = \"x\"\n sensitive = true\n}\nstage \"shell\" \"a\" {\n  out = { o = \"o\" }\n  command = \"true\"\n  "+stage+"\n}\n")
		p, diags := runner.Decode(m.circumstances().Decode)
		if diags.HasErrors() {
			t.Fatal(name, diags)
		}
		if err := p.KeepDecoded(m.circumstances()); err == nil || !strings.Contains(err.Error(), "sensitive") {
			t.Errorf("%s: it is kept: %v", name, err)
		}
	}
}

// TestFreshIsWholeOrNothing: one that is cut, or in which a byte is another, is not believed.
func TestFreshIsWholeOrNothing(t *testing.T) {
	m := newMoodyProject(t)
	m.settle()
	path := m.at(".lpipe/fresh")
	whole, err := os.ReadFile(path)
	m.must(err)
	if _, known := runner.ReadFresh(m.circumstances()); !known {
		t.Fatal("the whole one is not believed")
	}
	for i := 0; i < len(whole); i += 1 + i/40 {
		damaged := slices.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		for what, data := range map[string][]byte{"a flipped bit at": damaged, "cut at": whole[:i]} {
			m.must(os.WriteFile(path, data, 0o600))
			if _, known := runner.ReadFresh(m.circumstances()); known {
				t.Fatalf("%s byte %d is believed", what, i)
			}
		}
	}
	m.must(os.WriteFile(path, append(whole, 0), 0o600))
	if _, known := runner.ReadFresh(m.circumstances()); known {
		t.Error("one that is too long is believed")
	}
}

// TestExampleIsKept: the settings of the built-in kinds are read back as they were.
func TestExampleIsKept(t *testing.T) {
	m := newMoodyProject(t)
	m.must(os.MkdirAll(m.at(".lpipe"), 0o777))
	data, err := os.ReadFile("../pipeline.hcl")
	m.must(err)
	m.write("pipeline.hcl", string(data))
	m.decode.Kinds = stages.Kinds()
	m.keepDecoded()
	read, holds := runner.ReadDecoded(m.circumstances())
	p, _ := runner.Decode(m.circumstances().Decode)
	if !holds || !runner.SamePipeline(p, read) {
		t.Errorf("%v: %+v", holds, read)
	}
	kinds := map[string]bool{}
	for _, step := range p.Steps {
		kinds[step.Kind.Name] = true
	}
	if len(kinds) < 6 {
		t.Errorf("the example has only %v", kinds)
	}
}
