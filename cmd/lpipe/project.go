package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// project is an opened workspace: its pipeline, its cache, and a runner over both.
type project struct {
	pipeline *runner.Pipeline
	cache    *cache.Cache
	state    *cache.State
	runner   *runner.Runner
	settings projectOptions
}

// projectOptions say what a command needs of a project.
type projectOptions struct {
	jobs         int
	allowMissing bool
	remote       bool // look results up in the default remote
	repair       bool // mend the cache as it is opened
	report       func(runner.RunEvent)
	record       *runner.Record // read beside the pipeline; nil: to be read
}

// decode reads the pipeline files; what is wrong with them comes back as diagnosed, warnings are printed.
// What was decoded before is taken as it was, as long as nothing of what it was made from differs.
func (p *program) decode() (*runner.Pipeline, error) {
	c := runner.Circumstances{Decode: p.decodeOptions(), Program: ownProgram()}
	if pipeline, known := runner.ReadDecoded(c); known {
		return pipeline, nil
	}
	pipeline, err := p.decodeWith(c.Decode)
	if err == nil && !p.warned {
		_ = pipeline.KeepDecoded(c) // it saves time, nothing depends on it
	}
	return pipeline, err
}

func (p *program) decodeOptions() runner.DecodeOptions {
	return runner.DecodeOptions{
		Dir: p.dir, Files: p.files, Profile: p.profile, Vars: p.vars, VarFiles: p.varFiles,
		Getenv: p.lookupEnv, Environ: p.envNames(), Version: release, Kinds: stages.Kinds(),
	}
}

func (p *program) decodeWith(options runner.DecodeOptions) (*runner.Pipeline, error) {
	defer p.collector.seldom()()
	pipeline, diags := runner.Decode(options)
	var files map[string]*hcl.File
	if pipeline != nil {
		files = pipeline.HCL
	}
	if err := p.diagnose(diags, files); err != nil {
		return nil, err
	}
	return pipeline, nil
}

// diagnose returns the errors among diags as one error and prints the warnings.
func (p *program) diagnose(diags hcl.Diagnostics, files map[string]*hcl.File) error {
	if diags.HasErrors() {
		return diagnosed{diags, files}
	}
	p.warned = p.warned || len(diags) > 0
	if len(diags) > 0 && !p.quiet {
		return runner.FormatDiagnostics(p.stderr, diags, files, p.color)
	}
	return nil
}

// diagnosePlan is diagnose for what is found when a pipeline is planned.
func (p *program) diagnosePlan(diags hcl.Diagnostics, pipeline *runner.Pipeline) error {
	if len(diags) == 0 {
		return nil
	}
	return p.diagnose(diags, pipeline.Parsed())
}

// open decodes the pipeline and opens cache, state and runner. The caller closes it.
func (p *program) open(ctx context.Context, o projectOptions) (*project, error) {
	var reading sync.WaitGroup
	reading.Go(func() { o.record = runner.ReadRecord(runner.Circumstances{Decode: p.decodeOptions()}) })
	pipeline, err := p.decode()
	reading.Wait()
	if err != nil {
		return nil, err
	}
	return p.openPipeline(ctx, pipeline, o)
}

// openPart opens an excerpt of the project; nil stands for all of it. What is wrong with an excerpt is found and told where all
// is read.
func (p *program) openPart(ctx context.Context, part *runner.Excerpt, o projectOptions) (*project, error) {
	if part == nil {
		return p.open(ctx, o)
	}
	o.record = part.Record
	pr, err := p.openPipeline(ctx, part.Pipeline, o)
	if err != nil && ctx.Err() == nil {
		err = runner.ErrExcerpt
	}
	return pr, err
}

func (p *program) openPipeline(ctx context.Context, pipeline *runner.Pipeline, o projectOptions) (_ *project, err error) {
	pr := &project{pipeline: pipeline, settings: o}
	pr.settings.record = nil // it is of now
	ignore, err := runner.Ignored(pipeline.Dir)
	if err != nil {
		return nil, err
	}
	dir, err := p.cacheDir(pipeline)
	if err != nil {
		return nil, err
	}
	pr.cache, err = cache.Open(ctx, cache.Options{
		Dir: dir, Link: pipeline.Settings.Link, Ignore: ignore, Repair: o.repair,
		Wait: func(holder string) { p.say("waiting for %s, which works on the cache", holder) },
	})
	if err != nil {
		return nil, fmt.Errorf("open the cache %s (lpipe { cache } or LPIPE_CACHE names another): %w", dir, err)
	}
	defer func() {
		if err != nil {
			pr.cache.Close()
		}
	}()
	if pr.state, err = cache.OpenState(filepath.Join(pipeline.Dir, ".lpipe", "state")); err != nil {
		return nil, err
	}
	if err := pr.cache.Register(pipeline.Dir); err != nil {
		return nil, err
	}
	keepOutOfGit(pipeline.Dir)
	options, err := p.runnerOptions(ctx, pr, o)
	if err != nil {
		return nil, err
	}
	r, diags, err := runner.New(options)
	if err != nil {
		return nil, err
	}
	if err := p.diagnosePlan(diags, pipeline); err != nil {
		return nil, err
	}
	pr.runner = r
	return pr, nil
}

func (p *program) runnerOptions(ctx context.Context, pr *project, o projectOptions) (runner.Options, error) {
	device := p.device
	if device == "" {
		device = pr.pipeline.Settings.Device
	}
	if err := checkDevice(device); err != nil {
		return runner.Options{}, err
	}
	report := o.report
	if report == nil {
		report = p.reportPlainly
	}
	options := runner.Options{
		Pipeline: pr.pipeline, Record: o.record, Cache: pr.cache, State: pr.state,
		Jobs: o.jobs, RAM: physicalMemory(), Device: device, Environ: p.environ(),
		Version: release, User: userName(), Host: hostName(),
		LockTimeout: p.lockTimeout, AllowMissing: o.allowMissing, Report: report,
		Downloader: downloader{p, pr, pr.pipeline.Remotes}, SandboxHelper: ownProgram(),
		Elsewhere: p.elsewhere(ctx, pr),
	}
	if o.remote && !p.offline {
		if fetcher := p.fetcher(ctx, pr); fetcher != nil {
			options.Fetcher = fetcher
		}
		if checkpoints := p.checkpoints(ctx, pr); checkpoints != nil {
			options.Checkpoints = checkpoints
		}
	}
	return options, nil
}

// close saves the stat cache and releases the cache. A state that cannot be written costs time, nothing else.
func (pr *project) close(p *program) {
	if err := pr.state.Save(); err != nil && p.verbose {
		p.warn("the stat cache could not be saved: %v", err)
	}
	if err := pr.cache.Close(); err != nil {
		p.warn("close the cache: %v", err)
	}
	keepOutOfGit(pr.pipeline.Dir)
}

// cacheDir is where the cache lies: LPIPE_CACHE, else what the pipeline says, else .lpipe/cache in the workspace.
func (p *program) cacheDir(pipeline *runner.Pipeline) (string, error) {
	dir := p.getenv("LPIPE_CACHE")
	if dir == "" {
		dir = pipeline.Settings.Cache
	}
	if dir == "" {
		dir = filepath.Join(".lpipe", "cache")
	}
	if rest, ok := strings.CutPrefix(dir, "~/"); ok {
		home := p.getenv("HOME")
		if home == "" {
			return "", errors.New("the cache's folder begins with ~, and HOME is not set")
		}
		dir = filepath.Join(home, rest)
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(pipeline.Dir, dir)
	}
	return dir, nil
}

// envNames lists the names in the environment.
func (p *program) envNames() []string {
	var names []string
	for _, entry := range p.environ() {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	return names
}

// targetNames are what may stand as a target: for completion, so mistakes in the pipeline are not told.
func (p *program) targetNames() []string {
	if p.dir == "" {
		p.dir = "."
	}
	pipeline, diags := runner.Decode(runner.DecodeOptions{
		Dir: p.dir, Files: p.files, Profile: p.profile, Vars: p.vars, VarFiles: p.varFiles, Getenv: p.lookupEnv, Kinds: stages.Kinds(),
	})
	if diags.HasErrors() || pipeline == nil {
		return nil
	}
	var names []string
	for _, step := range pipeline.Steps {
		names = append(names, step.Name)
		for _, out := range step.Out {
			names = append(names, out.Path)
		}
	}
	for _, source := range pipeline.Sources {
		names = append(names, source.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

// ownProgram is the file that this process runs, by which it starts itself anew; "" where the system does not say.
func ownProgram() string {
	const linux = "/proc/self/exe" // right even where the file was replaced since
	if _, err := os.Stat(linux); err == nil {
		return linux
	}
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	return path
}
