package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/engine"
	"lpipe/runner"
	"lpipe/stages"
)

func (p *program) doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Category: categoryHelp, Usage: "what works on this machine and what does not: workspace, cache, remotes, device",
		Description: "Tries links between cache and workspace, and stores, reads and removes a probe in each remote (not with --offline).\n" +
			"Exit code 1 if something fails. Without a pipeline, what needs none is reported.",
		Action: p.doctor,
	}
}

// The states of a check.
const (
	works = "ok"
	warns = "warning"
	fails = "fails"
)

// check is one line of the report.
type check struct {
	Area   string `json:"area"`
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
}

// doctor collects the checks; each of its methods adds those of one area.
type doctor struct {
	p        *program
	checks   []check
	pipeline *runner.Pipeline // with an empty one where there is none, or a broken one
	found    bool             // there is a pipeline, and it is valid
}

func (d *doctor) add(area, name, state, detail, remedy string) {
	d.checks = append(d.checks, check{area, name, state, detail, remedy})
}

func (p *program) doctor(c *cli.Context) error {
	d := &doctor{p: p}
	d.program()
	d.readPipeline()
	d.workspace(c.Context)
	d.cache(c.Context)
	d.remotes(c.Context)
	d.machine()
	d.device()
	if err := c.Context.Err(); err != nil {
		return err
	}
	return d.report()
}

// report prints the table, and with --json the checks as they are.
func (d *doctor) report() error {
	failed := 0
	for _, one := range d.checks {
		if one.State == fails {
			failed++
		}
	}
	if d.p.json {
		if err := d.p.printJSON(map[string]any{"schema": 1, "ok": failed == 0, "checks": d.checks}); err != nil {
			return err
		}
	} else {
		d.print()
	}
	if failed > 0 {
		return shown{exitFailed}
	}
	return nil
}

func (d *doctor) print() {
	colors := map[string]string{works: green, warns: yellow, fails: red}
	rows, area := [][]string{}, ""
	for _, one := range d.checks {
		first := ""
		if one.Area != area {
			area, first = one.Area, one.Area
		}
		rows = append(rows, []string{d.p.paintResult(bold, first), one.Name, d.p.paintResult(colors[one.State], one.State), one.Detail})
		if one.Remedy != "" {
			rows = append(rows, []string{"", "", "", "→ " + one.Remedy})
		}
	}
	table(d.p.stdout, rows)
}

func (d *doctor) program() {
	v := buildInfo()
	d.add("lpipe", "version", works, v.text(), "")
	if path, err := os.Executable(); err == nil {
		d.add("lpipe", "program", works, path, "")
	}
}

// readPipeline decodes the pipeline. Doctor goes on without one: to say what else is wrong is what it is for.
func (d *doctor) readPipeline() {
	p := d.p
	pipeline, diags := runner.Decode(runner.DecodeOptions{
		Dir: p.dir, Files: p.files, Profile: p.profile, Vars: p.vars, VarFiles: p.varFiles,
		Getenv: p.lookupEnv, Environ: p.environ(), Version: release, Kinds: stages.Kinds(),
	})
	switch {
	case !diags.HasErrors():
		d.pipeline, d.found = pipeline, true
		d.add("workspace", "pipeline", works, fmt.Sprintf("%s, %s, %s", countText(len(pipeline.Steps), "stage"),
			countText(len(pipeline.Sources), "source"), countText(len(pipeline.Remotes), "remote")), "")
		return
	case len(p.files) == 0 && !hasPipeline(p.dir):
		d.add("workspace", "pipeline", warns, "none in "+absolute(p.dir), "lpipe init makes one; -C names another folder")
	default:
		d.add("workspace", "pipeline", fails, countText(len(diags.Errs()), "mistake"), "lpipe validate shows them")
	}
	d.pipeline = &runner.Pipeline{Dir: absolute(p.dir)}
}

func hasPipeline(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "*pipeline.hcl"))
	return err == nil && len(found) > 0
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

func (d *doctor) workspace(ctx context.Context) {
	dir := d.pipeline.Dir
	if err := writable(dir); err != nil {
		d.add("workspace", "folder", fails, err.Error(), "outputs, lock and .lpipe are written here: "+writeRemedy(err))
	} else {
		d.add("workspace", "folder", works, dir+" can be written", "")
	}
	d.fileSystem("workspace", dir)
	if !d.found {
		return
	}
	d.lockFile()
	d.lock(ctx, "workspace", filepath.Join(dir, ".lpipe", "lock"))
	if _, err := os.Stat(filepath.Join(dir, ".lpipe", "journal")); err == nil {
		d.add("workspace", "journal", works, "an interrupted run left one; the next lpipe repro goes on from it", "")
	}
}

// lockFile tells whether the record of the last runs can be read.
func (d *doctor) lockFile() {
	path := runner.LockPath(d.pipeline.Dir, d.pipeline.Profile)
	name := filepath.Base(path)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		d.add("workspace", "lock file", works, "no "+name+" yet; lpipe repro writes it", "")
		return
	}
	lock, err := runner.ReadLock(path)
	if err != nil {
		d.add("workspace", "lock file", fails, err.Error(), "take it from Git, or remove it: lpipe repro writes it again from results")
		return
	}
	d.add("workspace", "lock file", works, fmt.Sprintf("%s names %s, %s", name, countText(len(lock.Stages), "stage"), countText(len(lock.Sources), "source")), "")
}

// fileSystem says on what a folder lies, how much is free, and warns of what keeps no promises.
func (d *doctor) fileSystem(area, dir string) {
	free, total, err := diskSpace(dir)
	if err != nil {
		d.add(area, "file system", fails, err.Error(), "")
		return
	}
	kind := fileSystemType(dir)
	text := fmt.Sprintf("%s, %s of %s free", kind, bytesText(free), bytesText(total))
	switch {
	case free < 1<<30:
		d.add(area, "file system", warns, text, "free some space: lpipe gc shows what the cache need not keep")
	case strings.HasPrefix(kind, "nfs"), strings.HasPrefix(kind, "cifs"), strings.HasPrefix(kind, "smb"), strings.HasPrefix(kind, "fuse"):
		d.add(area, "file system", warns, text, "locks and times of network file systems differ: use a local one where you can")
	default:
		d.add(area, "file system", works, text, "")
	}
}

// cache looks at the cache's folder, and tries how its content can be placed in the workspace.
func (d *doctor) cache(ctx context.Context) {
	dir, err := d.p.cacheDir(d.pipeline)
	if err != nil {
		d.add("cache", "folder", fails, err.Error(), "")
		return
	}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		d.add("cache", "folder", works, dir+" is made by the first command that needs it", "")
		d.links(existing(dir))
		return
	}
	c, err := cache.Open(ctx, cache.Options{Dir: dir, Link: d.pipeline.Settings.Link})
	if err == nil {
		defer c.Close()
		err = writable(filepath.Join(dir, "tmp"))
	}
	if err != nil {
		d.add("cache", "folder", fails, err.Error(), writeRemedy(err)+", or name another with lpipe { cache } or LPIPE_CACHE")
		return
	}
	files, bytes := folderSize(dir)
	d.add("cache", "folder", works, fmt.Sprintf("%s can be written: %s, %s", dir, countText(files, "file"), bytesText(bytes)), "")
	d.fileSystem("cache", dir)
	d.links(filepath.Join(dir, "tmp"))
	d.lock(ctx, "cache", filepath.Join(dir, "lock"))
	if projects, err := c.Projects(); err == nil && len(projects) > 1 {
		d.add("cache", "projects", works, fmt.Sprintf("shared by %d", len(projects)), "")
	}
}

// links tries every way to place content, from the cache (or the folder where it will be) into the workspace.
func (d *doctor) links(from string) {
	tries, err := cache.TryLinks(from, d.pipeline.Dir)
	if err != nil {
		d.add("cache", "links", fails, err.Error(), writeRemedy(err))
		return
	}
	allowed := d.pipeline.Settings.Link
	if len(allowed) == 0 {
		allowed = []string{"reflink", "hardlink", "symlink", "copy"}
	}
	failed := map[string]error{}
	var text []string
	for _, one := range tries {
		failed[one.How] = one.Err
		if one.Err == nil {
			text = append(text, one.How)
		} else {
			text = append(text, fmt.Sprintf("no %s (%v)", one.How, cause(one.Err)))
		}
	}
	used := "copy"
	for _, how := range allowed {
		if failed[how] == nil {
			used = how
			break
		}
	}
	detail := strings.Join(text, ", ") + "; used: " + used
	if used == "copy" {
		d.add("cache", "links", warns, detail, "each output takes its space twice: put cache and workspace on one file system, or allow more in lpipe { link }")
		return
	}
	d.add("cache", "links", works, detail, "")
}

// lock tells whether another lpipe works here now.
func (d *doctor) lock(ctx context.Context, area, path string) {
	if _, err := os.Stat(path); err != nil {
		return
	}
	once, cancel := context.WithCancel(ctx)
	cancel() // one try, no waiting
	holder := ""
	held, err := cache.LockFile(once, path, false, func(who string) { holder = who })
	switch {
	case err == nil:
		held.Release()
		d.add(area, "lock", works, "free", "")
	case holder != "":
		d.add(area, "lock", works, "held by "+holder+": commands that write wait for it", "")
	default:
		d.add(area, "lock", fails, err.Error(), "")
	}
}

// machine is what the scheduler counts with.
func (d *doctor) machine() {
	d.add("machine", "processors", works, fmt.Sprintf("%d, %d used", runtime.NumCPU(), runtime.GOMAXPROCS(0)), "")
	if total := physicalMemory(); total > 0 {
		d.add("machine", "memory", works, bytesText(total), "")
	} else {
		d.add("machine", "memory", warns, "not known", `stages that ask for ram are run as if there were enough; say how much there is: lpipe { pools = { ram = "16GiB" } }`)
	}
	if _, err := os.Stat("/bin/sh"); err != nil {
		d.add("machine", "shell", fails, err.Error(), "shell stages run /bin/sh: install one, or name another in each stage (shell = [...])")
	}
}

func (d *doctor) device() {
	name := d.p.device
	if name == "" {
		name = d.pipeline.Settings.Device
	}
	named := *d.p
	named.device = name
	dev, err := named.openDevice(0)
	if err != nil {
		d.add("device", "compute", fails, err.Error(), "choose another with --device, LPIPE_DEVICE or lpipe { device }")
	} else {
		d.add("device", "compute", works, deviceText(dev.Info()), "")
		dev.Close()
	}
	d.cuda()
}

// cuda says whether there is an NVIDIA driver, and whether this program can use it.
func (d *doctor) cuda() {
	gpu := findCUDA()
	built, missing := engine.HasCUDA()
	if built && missing == nil && len(gpu) == 0 {
		gpu = []string{"an NVIDIA driver"}
	}
	switch {
	case built && missing == nil:
		d.add("device", "cuda", works, "this machine has "+joinNames(gpu)+"; --device cuda computes on it", "")
	case built && len(gpu) == 0:
		d.add("device", "cuda", works, missing.Error()+"; none is needed to compute on the CPU", "")
	case built:
		d.add("device", "cuda", warns, "this machine has "+joinNames(gpu)+", but "+missing.Error(), "install a driver that fits the GPU: 580 or newer")
	case len(gpu) == 0:
		d.add("device", "cuda", works, "no NVIDIA driver found; none is needed", "")
	default:
		d.add("device", "cuda", warns, "this machine has "+joinNames(gpu)+"; this lpipe is built without CUDA and computes on the CPU", "make cuda builds bin/lpipe-cuda")
	}
}
