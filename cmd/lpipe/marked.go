package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/stages"
)

// The outputs that hold metrics or curves, of the workspace and of anything that a lock tells: locks, profiles, experiments,
// Git revisions.

// A mark tells which outputs are meant: as the pipeline says now, else as the kind does.
type mark struct {
	outputs func(*runner.Step) []runner.StepOutput
	port    func(runner.Port) bool
}

func metricFiles() mark {
	return mark{(*runner.Step).MetricOutputs, func(port runner.Port) bool { return port.Metrics }}
}

func plotFiles() mark {
	return mark{(*runner.Step).PlotOutputs, func(port runner.Port) bool { return port.Plots }}
}

// names are the marked outputs of a stage.
func (m mark) names(pr *project, stage, kind string) []string {
	var names []string
	for _, step := range pr.pipeline.Steps {
		if step.Name == stage {
			for _, out := range m.outputs(step) {
				names = append(names, out.Name)
			}
			return names
		}
	}
	kind, _, _ = strings.Cut(kind, " ")
	for _, known := range stages.Kinds() {
		for _, port := range known.Out {
			if known.Name == kind && m.port(port) {
				names = append(names, port.Name)
			}
		}
	}
	return names
}

// markedFile is a marked output of a stage. It is read from the cache, by content; of the workspace, or where the cache
// lacks it, as it stands.
type markedFile struct {
	stage, path string
	at          string // where it stands; "": nowhere that is known
	growing     string // where a stage that runs writes it, a pattern; "": nowhere
	id          cache.ID
	cache       *cache.Cache // nil: only what stands there counts
}

// markedFiles are those that a side has of a stage. Folders have neither numbers nor curves.
func markedFiles(pr *project, side sided, stage string, m mark) []markedFile {
	recorded := side.Stages[stage]
	var files []markedFile
	for _, name := range m.names(pr, stage, recorded.Kind) {
		out, there := recorded.Out[name]
		if !there || out.Dir {
			continue
		}
		file := markedFile{stage: stage, path: out.Path, id: out.ID, cache: pr.cache}
		if side.dir != "" {
			file.at = filepath.Join(side.dir, filepath.FromSlash(out.Path))
		}
		if side.dir != "" {
			file.growing = growing(side.dir, stage, name, out.Path)
		}
		if side.workspace {
			file.at, file.cache = filepath.Join(pr.pipeline.Dir, filepath.FromSlash(out.Path)), nil
		}
		files = append(files, file)
	}
	return files
}

// growing is the pattern of the file that a running stage of a built-in kind writes.
func growing(dir, stage, output, path string) string {
	return filepath.Join(dir, ".lpipe", "tmp", stage+".*", output+filepath.Ext(path))
}

// newest is the file that a running stage writes now, if it is newer than what its last run left; else "".
func (f markedFile) newest() string {
	paths, _ := filepath.Glob(f.growing) // the names of stages hold nothing special
	best, since := "", time.Time{}
	if info, err := os.Stat(f.at); err == nil {
		since = info.ModTime()
	}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(since) {
			best, since = path, info.ModTime()
		}
	}
	return best
}

func (f markedFile) open() (io.ReadCloser, error) {
	if path := f.newest(); path != "" {
		if file, err := os.Open(path); err == nil {
			return file, nil
		}
	}
	if f.cache == nil {
		return os.Open(f.at)
	}
	object, err := f.cache.Open(f.id)
	if errors.Is(err, cache.ErrNotFound) && f.at != "" {
		if file, err := os.Open(f.at); err == nil {
			return file, nil
		}
	}
	return object, err
}

// missing tells whether an error of open says that the file is nowhere.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, cache.ErrNotFound)
}

func (f markedFile) metrics() ([]runner.Metric, error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return runner.ParseMetrics(data, filepath.Ext(f.path))
}

// workspaceSide is the workspace with the pipeline's paths, nothing hashed: enough to read what stands there.
func workspaceSide(pr *project) sided {
	s := sided{workspace: true, dir: pr.pipeline.Dir}
	s.Name, s.Variables, s.Stages = "the workspace", pr.pipeline.Variables, map[string]runner.SnapshotStage{}
	for _, step := range pr.pipeline.Steps {
		s.Stages[step.Name] = declared(step)
	}
	return s
}

// declared is a stage as the pipeline has it, with nothing known of what its outputs hold.
func declared(step *runner.Step) runner.SnapshotStage {
	stage := runner.SnapshotStage{}
	stage.Kind, stage.Out = step.Kind.Name, map[string]runner.LockOutput{}
	for _, out := range step.Out {
		stage.Out[out.Name] = runner.LockOutput{Path: out.Path}
	}
	return stage
}

// addRunning adds to a side the stages that run there now and have never been recorded, if the pipeline has them.
func (s *sided) addRunning(pr *project) {
	for _, step := range pr.pipeline.Steps {
		if _, there := s.Stages[step.Name]; there {
			continue
		}
		for _, out := range step.PlotOutputs() {
			if paths, _ := filepath.Glob(growing(s.dir, step.Name, out.Name, out.Path)); len(paths) > 0 {
				s.Stages[step.Name] = declared(step)
			}
		}
	}
}

// sides are what the names mean, one after the other: "workspace", an experiment with all its instances, or what diff
// takes.
func (p *program) sides(ctx context.Context, pr *project, names []string) ([]sided, error) {
	var all []sided
	for _, name := range names {
		if name == "workspace" {
			all = append(all, workspaceSide(pr))
			continue
		}
		if p.decodeProfile(pr.pipeline.Dir, name) == nil && runner.HasExperiment(pr.pipeline.Dir, name) {
			more, err := experimentSides(pr, name)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
			continue
		}
		one, err := p.diffSide(ctx, pr, name)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// experimentSides are the instances that the name of an experiment or of an instance means.
func experimentSides(pr *project, name string) ([]sided, error) {
	experiment, records, err := runner.FindExperiments(pr.pipeline.Dir, name)
	if err != nil {
		return nil, err
	}
	if err := runner.SortExperiments(records, ""); err != nil {
		return nil, err
	}
	var all []sided
	for _, record := range records {
		side, err := instanceSide(pr, experiment, record)
		if err != nil {
			return nil, err
		}
		side.addRunning(pr)
		all = append(all, side)
	}
	return all, nil
}

// stagesOf are the stages of a side, by name; with targets only those that they name.
func (p *program) stagesOf(pr *project, side sided, targets []string) ([]string, error) {
	names := sortedKeys(side.Stages)
	if len(targets) == 0 {
		return names, nil
	}
	steps, err := p.choose(pr.pipeline, targets)
	if err != nil {
		return nil, err
	}
	names = names[:0]
	for _, step := range steps {
		if _, there := side.Stages[step.Name]; there {
			names = append(names, step.Name)
		}
	}
	return names, nil
}
