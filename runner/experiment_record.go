package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lpipe/cache"
)

const experimentSchema = 2

// States of an instance.
const (
	ExperimentDone       = "done"
	ExperimentFailed     = "failed"
	ExperimentUnfinished = "unfinished"      // not run yet, running, or interrupted
	ExperimentStopped    = "stopped at rung" // and its number: halving let it go no further
)

// Experiment is what experiment.json says of one experiment: how it was started last, and all its instances.
type Experiment struct {
	Schema    int                                   `json:"schema"`
	Name      string                                `json:"name"`
	Desc      string                                `json:"desc,omitempty"`
	Profile   string                                `json:"profile,omitempty"`
	Targets   []string                              `json:"targets,omitempty"`
	Metric    string                                `json:"metric,omitempty"`
	Goal      string                                `json:"goal,omitempty"`
	Halving   *Halving                              `json:"halving,omitempty"`
	Block     bool                                  `json:"block,omitempty"` // of an experiment block; else of --set alone
	Instances map[string]map[string]json.RawMessage `json:"instances"`       // name -> the variables that set it apart
}

// ExperimentRecord is how an instance ended. Vars are all variables of the pipeline that may be shown.
type ExperimentRecord struct {
	Schema     int                        `json:"schema"`
	Experiment string                     `json:"experiment"`
	Instance   string                     `json:"instance"`
	State      string                     `json:"state"`
	Point      map[string]json.RawMessage `json:"point"`
	Set        []string                   `json:"set"` // the variables that the experiment gave a value
	Vars       map[string]json.RawMessage `json:"vars"`
	Metrics    map[string]*float64        `json:"metrics"` // "<stage>.<name>"; null: not a finite number
	Seconds    float64                    `json:"seconds"` // that its stages took, wherever they ran
	Started    time.Time                  `json:"started"`
	Finished   time.Time                  `json:"finished"`
	Ran        int                        `json:"ran"`
	Reused     int                        `json:"reused"`
	Failures   []ExperimentFailure        `json:"failures,omitempty"`
	Rung       int                        `json:"rung,omitempty"`  // at which it was stopped, from 1
	Rungs      []RungValue                `json:"rungs,omitempty"` // what it showed at each
	Git        *GitState                  `json:"git,omitempty"`
	Version    string                     `json:"version,omitempty"`
	User       string                     `json:"user,omitempty"`
	Host       string                     `json:"host,omitempty"`
}

// ExperimentFailure is why an instance failed.
type ExperimentFailure struct {
	Stage string `json:"stage"`
	Error string `json:"error"`
	Log   string `json:"log,omitempty"` // relative to the project
}

// GitState is what Git says of the project's folder.
type GitState struct {
	Commit string `json:"commit"`
	Dirty  bool   `json:"dirty"`
}

// Stopped tells whether halving ended the instance early.
func (r *ExperimentRecord) Stopped() bool { return r.Rung > 0 }

// FullName is what commands call the instance: "ranks/lr=0.0001,rank=8".
func (r *ExperimentRecord) FullName() string { return r.Experiment + "/" + r.Instance }

// Dir is the instance's workspace in a project.
func (r *ExperimentRecord) Dir(project string) string {
	return filepath.Join(experimentsDir(project), r.Experiment, r.Instance)
}

// ReadExperiments reads every experiment of a project, by name.
func ReadExperiments(project string) ([]*Experiment, error) {
	entries, err := os.ReadDir(experimentsDir(project))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read experiments: %w", err)
	}
	var all []*Experiment
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		one, err := readExperiment(project, entry.Name())
		if err != nil {
			return nil, err
		}
		if one != nil {
			all = append(all, one)
		}
	}
	return all, nil
}

// HasExperiment tells whether something is recorded under the name of an experiment or of an instance's.
func HasExperiment(project, name string) bool {
	exp, _, _ := strings.Cut(name, "/")
	return blockName().MatchString(exp) && standsAt(filepath.Join(experimentsDir(project), exp, "experiment.json"))
}

// readExperiment is nil for a name that nothing is recorded of.
func readExperiment(project, name string) (*Experiment, error) {
	var e Experiment
	err := readVersioned(filepath.Join(experimentsDir(project), name, "experiment.json"), &e, func() int { return e.Schema })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read experiment %s: %w; lpipe exp rm %s removes it", name, err, name)
	}
	e.Name = name // a folder that was renamed counts by its name
	return &e, nil
}

// Records reads the records of an experiment's instances, by name; those without one are unfinished.
func (e *Experiment) Records(project string) ([]*ExperimentRecord, error) {
	names := sortedKeys(e.Instances)
	records, errs := make([]*ExperimentRecord, len(names)), make([]error, len(names))
	var wait sync.WaitGroup
	workers := min(len(names), runtime.NumCPU()*2)
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(names); i += workers {
				records[i], errs[i] = e.record(project, names[i])
			}
		})
	}
	wait.Wait()
	return records, errors.Join(errs...)
}

func (e *Experiment) record(project, name string) (*ExperimentRecord, error) {
	r := &ExperimentRecord{}
	err := readVersioned(recordPath(filepath.Join(experimentsDir(project), e.Name, name)), r, func() int { return r.Schema })
	if errors.Is(err, fs.ErrNotExist) {
		point := e.Instances[name]
		r, err = &ExperimentRecord{State: ExperimentUnfinished, Point: point, Vars: point, Metrics: map[string]*float64{}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read record of %s/%s: %w; lpipe exp run %s/%s makes it again", e.Name, name, err, e.Name, name)
	}
	r.Experiment, r.Instance = e.Name, name
	return r, nil
}

func recordPath(workspace string) string { return filepath.Join(workspace, ".lpipe", "record.json") }

// readVersioned reads a JSON file with a schema.
func readVersioned(path string, into any, schema func() int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, damage := uncheckJSON(path, data)
	if damage != nil {
		text = data // which check a newer lpipe makes is not known here
	}
	err = json.Unmarshal(text, into)
	if n := schema(); err == nil && (n < 1 || n > experimentSchema) {
		return fmt.Errorf("%s has schema %d, this lpipe reads %d; a newer lpipe wrote it, or lpipe fsck finds it damaged", path, n, experimentSchema)
	}
	if damage == nil && err != nil {
		damage = fmt.Errorf("%s is no JSON of lpipe's (%w): %w", path, err, cache.ErrDamaged)
	}
	return damage
}

// jsonCheck begins a checked file; the digits of its check and `",` follow.
const jsonCheck = `{"check":"`

// writeJSON writes a JSON file by rename, its first field being a check of the rest.
func writeJSON(path string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	text := b.Bytes()
	if err := writeFile(path, path+".new", slices.Concat([]byte(jsonCheck), []byte(lineSum(text)), []byte(`",`), text[1:])); err != nil {
		return err
	}
	return syncUp(filepath.Dir(path))
}

// uncheckJSON takes the check from a file and compares it with the rest. Files of schema 1 have none.
func uncheckJSON(path string, data []byte) ([]byte, error) {
	rest, checked := bytes.CutPrefix(data, []byte(jsonCheck))
	if !checked && bytes.HasPrefix(data, []byte(`{"schema":1,`)) {
		return data, nil
	}
	if len(rest) > 18 && string(rest[16:18]) == `",` {
		text := append([]byte("{"), rest[18:]...)
		if lineSum(text) == string(rest[:16]) {
			return text, nil
		}
	}
	return nil, fmt.Errorf("%s is not what its check says: %w; lpipe fsck --repair mends it", path, cache.ErrDamaged)
}

// rawPoint makes JSON fields of canonical JSON texts.
func rawPoint(vars map[string]string) map[string]json.RawMessage {
	raw := map[string]json.RawMessage{}
	for name, value := range vars {
		raw[name] = json.RawMessage(value)
	}
	return raw
}

// FindExperiments returns the records that a name means: an experiment's, or one instance's.
func FindExperiments(project, name string) (*Experiment, []*ExperimentRecord, error) {
	exp, instance, single := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if !blockName().MatchString(exp) || single && !instanceName().MatchString(instance) {
		return nil, nil, unknownExperiment(project, name)
	}
	e, err := readExperiment(project, exp)
	if err != nil {
		return nil, nil, err
	}
	if e == nil {
		return nil, nil, unknownExperiment(project, exp)
	}
	if !single {
		records, err := e.Records(project)
		return e, records, err
	}
	if _, known := e.Instances[instance]; !known {
		names := sortedKeys(e.Instances)
		return nil, nil, usage("experiment %s has no instance %q. %s", exp, instance, suggest(instance, names, "instances"))
	}
	r, err := e.record(project, instance)
	return e, []*ExperimentRecord{r}, err
}

func unknownExperiment(project, name string) error {
	var known []string
	entries, _ := os.ReadDir(experimentsDir(project))
	for _, entry := range entries {
		if entry.IsDir() {
			known = append(known, entry.Name())
		}
	}
	if len(known) == 0 {
		return usage("there is no experiment %q, and none was run here yet; lpipe exp run starts one", name)
	}
	return usage("there is no experiment %q. %s", name, suggest(name, known, "experiments"))
}

// RemoveExperiment removes an experiment or one instance; gc may then remove what only it needed. The caller holds the
// experiments' lock.
func RemoveExperiment(project, name string) error {
	e, records, err := FindExperiments(project, name)
	exp, _, single := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	if errors.Is(err, cache.ErrDamaged) && blockName().MatchString(exp) && !single {
		return removeAll(filepath.Join(experimentsDir(project), exp))
	}
	if err != nil {
		return err
	}
	if !single {
		return removeAll(filepath.Join(experimentsDir(project), exp))
	}
	if err := removeAll(records[0].Dir(project)); err != nil {
		return err
	}
	delete(e.Instances, records[0].Instance)
	if len(e.Instances) == 0 {
		return removeAll(filepath.Join(experimentsDir(project), exp))
	}
	return writeJSON(filepath.Join(experimentsDir(project), exp, "experiment.json"), e)
}

// Best is the finished record with the best value of a metric; nil if none has it.
func Best(records []*ExperimentRecord, metric, goal string) *ExperimentRecord {
	var best *ExperimentRecord
	for _, r := range records {
		value := r.Metrics[metric]
		if r.State != ExperimentDone || value == nil {
			continue
		}
		if best == nil || goal == "min" && *value < *best.Metrics[metric] || goal != "min" && *value > *best.Metrics[metric] {
			best = r
		}
	}
	return best
}

// VaryingVars are the variables whose values differ among records, by name.
func VaryingVars(records []*ExperimentRecord) []string {
	first, varies := map[string]string{}, map[string]bool{}
	for _, r := range records {
		for name, value := range r.Vars {
			was, seen := first[name]
			if !seen {
				first[name] = string(value)
			} else if was != string(value) {
				varies[name] = true
			}
		}
	}
	return slices.DeleteFunc(sortedKeys(first), func(name string) bool { return !varies[name] })
}
