package recorder

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"lpipe/cache"
	"lpipe/plot"
	"lpipe/runner"
	"lpipe/tracking/spool"
)

// ended records how a stage came out: in its own run if it ran, and its numbers in the run above, whether it ran or was
// known.
func (r *Recorder) ended(u *unit, step *runner.Step, e runner.RunEvent) {
	run, ran := r.running[e.Stage]
	delete(r.running, e.Stage)
	if !ran && e.How != runner.HowFailed {
		run, ran = r.left(e) // it was done when a kill came
	}
	switch e.How {
	case runner.HowFailed:
		if ran {
			r.w.Append(spool.Record{Run: run, Tags: map[string]string{"lpipe.error": e.Error}})
			r.w.Append(spool.Record{Run: run, End: "FAILED"})
			r.sync()
		}
		u.broken = true
		return
	case runner.HowSkipped:
		return
	case runner.HowPaused: // its run goes on from the rung, or ends with the sweep
		if ran {
			r.curves(u, step, run)
		}
		return
	}
	r.begin(u)
	values := r.values(u, step)
	r.above(u, step, e, values)
	if !ran {
		return
	}
	r.curves(u, step, run)
	if len(values) > 0 {
		r.w.Append(spool.Record{Run: run, Metrics: named(values, step.Block)})
	}
	r.contents(u, step, run, e.Key)
	r.w.Append(spool.Record{Run: run, End: "FINISHED"})
	r.sync()
}

// left is the run of a stage that the spool knows as begun, with this key.
func (r *Recorder) left(e runner.RunEvent) (string, bool) {
	run := r.runOf(e)
	was, known := r.w.Run(run)
	return run, known && was.End == "" && !e.Key.IsZero()
}

// sync makes durable what a stage left; an error is told once, at the end.
func (r *Recorder) sync() { _ = r.w.Sync() }

// mostParams bounds the parameters of the run at the top: a pipeline of thousands of stages has them in the stages' runs.
const mostParams = 1000

// above records settings and metrics of a stage in the run above it, by names that are the same in each instance of a
// sweep, so that a server's table compares them.
func (r *Recorder) above(u *unit, step *runner.Step, e runner.RunEvent, values []runner.Metric) {
	params := settings(step, u.names[step.Name])
	if u.params += len(params); u.params <= mostParams && len(params) > 0 {
		r.w.Append(spool.Record{Run: u.Name, Params: params})
	}
	if len(values) > 0 {
		r.w.Append(spool.Record{Run: u.Name, Step: r.attempts(e.Stage), Metrics: named(values, u.names[step.Name])})
	}
	r.w.Append(spool.Record{Run: u.Name, Tags: map[string]string{"lpipe.stage." + u.names[step.Name]: e.How}})
}

// attempts is how often a stage began anew in this spool after its first run: numbers of a later run are later steps.
func (r *Recorder) attempts(stage string) int64 {
	for n := int64(0); ; n++ {
		if _, known := r.w.Run(runName(stage, n+2)); !known {
			return n
		}
	}
}

func named(values []runner.Metric, prefix string) map[string]spool.Number {
	metrics := map[string]spool.Number{}
	for _, m := range values {
		number := spool.Number(math.NaN())
		if m.Value != nil {
			number = spool.Number(*m.Value)
		}
		metrics[prefix+"."+m.Name] = number
	}
	return metrics
}

// values are the numbers in a step's metrics files.
func (r *Recorder) values(u *unit, step *runner.Step) []runner.Metric {
	var all []runner.Metric
	for _, out := range step.MetricOutputs() {
		numbers, err := runner.ReadMetrics(u.at(out.Path))
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // of a stage whose outputs only the cache has
				r.warn("the metrics in %s are not recorded: %v", out.Path, err)
			}
			continue
		}
		all = append(all, numbers...)
	}
	return all
}

func (u *unit) at(p string) string {
	if path.IsAbs(p) {
		return filepath.FromSlash(p)
	}
	return filepath.Join(u.Dir, filepath.FromSlash(p))
}

// curves records what the files of curves have; of what was told while the stage ran, nothing is recorded twice.
func (r *Recorder) curves(u *unit, step *runner.Step, run string) {
	for _, out := range step.PlotOutputs() {
		f, err := os.Open(u.at(out.Path))
		if err != nil {
			continue
		}
		lines, err := plot.Read(f, filepath.Ext(out.Path), "")
		f.Close()
		if err != nil {
			r.warn("the curves in %s are not recorded: %v", out.Path, err)
			continue
		}
		for _, one := range rowsOf(lines) {
			r.w.Append(spool.Record{Run: run, Step: one.step, Metrics: one.values})
		}
	}
}

type row struct {
	step   int64
	values map[string]spool.Number
}

// rowsOf turns curves into rows by step. A gap is no row; what is no whole number is rounded: steps are whole.
func rowsOf(curves []plot.Curve) []row {
	var rows []row
	index := map[int64]int{}
	for _, c := range curves {
		for i, x := range c.X {
			if math.IsNaN(c.Y[i]) || math.IsNaN(x) {
				continue
			}
			step := int64(math.Round(x))
			at, known := index[step]
			if !known {
				at = len(rows)
				index[step] = at
				rows = append(rows, row{step, map[string]spool.Number{}})
			}
			rows[at].values[c.Name] = spool.Number(c.Y[i])
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return int(a.step - b.step) })
	return rows
}

// contents records what a stage read and made: data sets as inputs, outputs by hash, files worth a look as artifacts.
func (r *Recorder) contents(u *unit, step *runner.Step, run string, key cache.Key) {
	result, err := r.o.Cache.Result(key)
	if err != nil {
		return // it was not put on record, because an input changed meanwhile
	}
	for _, in := range datasets(u, step, result.Description) {
		r.w.Append(spool.Record{Run: run, Input: &in})
	}
	tags := map[string]string{}
	for _, out := range step.Out {
		content, known := result.Outputs[out.Name]
		if !known {
			continue
		}
		tags["lpipe.output."+out.Name] = out.Path + " " + content.ID.String()
		if kept, model := worth(step, out); kept {
			name := out.Name
			if !content.Dir {
				name += filepath.Ext(out.Path)
			}
			r.w.Append(spool.Record{Run: run, File: &spool.File{Path: name, At: out.Path, Model: model, Content: content}})
		}
	}
	if result.Record.Device != "" {
		tags["lpipe.device"] = result.Record.Device
	}
	if len(tags) > 0 {
		r.w.Append(spool.Record{Run: run, Tags: tags})
	}
}

// worth tells whether an output goes to the server: metrics, curves, samples and reports, and adapters as models. Data
// sets and whole models are large, and in the remote: their hashes are tags.
func worth(step *runner.Step, out runner.StepOutput) (kept bool, model string) {
	same := func(o runner.StepOutput) bool { return o.Name == out.Name }
	if slices.ContainsFunc(step.MetricOutputs(), same) || slices.ContainsFunc(step.PlotOutputs(), same) {
		return true, ""
	}
	if step.Kind.InPlace {
		return false, ""
	}
	switch out.Name {
	case "adapter":
		return true, "peft"
	case "samples", "report", "html":
		return true, ""
	}
	return false, ""
}

// datasets are the inputs of a stage that are data, by what its description says of their content.
func datasets(u *unit, step *runner.Step, description string) []spool.Input {
	digests := map[string]string{}
	for line := range strings.Lines(description) {
		var name string
		words := strings.TrimPrefix(line, "in ")
		if words == line || json.NewDecoder(strings.NewReader(words)).Decode(&name) != nil {
			continue
		}
		rest := strings.Fields(words[len(quote(name)):])
		if len(rest) >= 2 {
			digests[name] = rest[1]
		}
	}
	var inputs []spool.Input
	for _, in := range step.In {
		as := contextOf(in.Port)
		digest := digests[in.Name]
		if as == "" || digest == "" {
			continue
		}
		source, kind := sourceOf(u.Pipeline, in.Path)
		inputs = append(inputs, spool.Input{Name: in.Path, Digest: digest[:min(len(digest), 32)], Type: kind, Source: source, As: as})
	}
	return inputs
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// contextOf says what data is for, by the port that takes it; "" for what is no data.
func contextOf(port string) string {
	switch port {
	case "train":
		return "training"
	case "validation":
		return "validation"
	case "model", "adapter", "tokenizer", "template", "checkpoint", "from", "":
		return ""
	case "data", "raw", "tokens":
		return "input"
	}
	return port
}

// sourceOf says where data comes from, in MLflow's words.
func sourceOf(p *runner.Pipeline, at string) (source, kind string) {
	uri, kind := at, "local"
	for _, s := range p.Sources {
		if s.Path == at {
			switch s.Download {
			case "hf":
				uri, kind = "https://huggingface.co/"+s.HF, "hugging_face"
			case "url":
				uri, kind = s.URL, "http"
			case "s3":
				uri, kind = s.S3, "s3"
			}
		}
	}
	text, _ := json.Marshal(map[string]string{"uri": uri})
	return string(text), kind
}

// Outcome records how an instance of a sweep came out, in the words of `exp show`, with numbers that no file of metrics has. One that
// was stopped early counts as killed.
func (r *Recorder) Outcome(instance, state string, stopped bool, numbers map[string]float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.units[instance]
	if r.w == nil || u == nil || !u.begun {
		return
	}
	u.stopped = stopped
	r.w.Append(spool.Record{Run: instance, Tags: map[string]string{"lpipe.state": state}})
	metrics := map[string]spool.Number{}
	for name, value := range numbers {
		metrics[name] = spool.Number(value)
	}
	if len(metrics) > 0 {
		r.w.Append(spool.Record{Run: instance, Metrics: metrics})
	}
}

// instanceEnd says how an instance of a sweep ended.
func (r *Recorder) instanceEnd(name, how string) string {
	if r.units[name].stopped {
		return "KILLED"
	}
	if how != "KILLED" && r.units[name].broken {
		return "FAILED"
	}
	if how == "FAILED" {
		return "FINISHED" // another instance failed
	}
	return how
}

// state is a digest of what must be the same for a later command to go on with an unfinished run: name, variables, and
// the settings of all stages.
func (r *Recorder) state() string {
	var text strings.Builder
	text.WriteString(r.o.Name + "\n")
	for _, one := range r.o.Units {
		text.WriteString(one.Name + "\n")
		for _, v := range one.Pipeline.Variables {
			text.WriteString(v.Name + "=" + v.Value + "\n")
		}
		for _, step := range one.Pipeline.Steps {
			text.WriteString(step.Name + " " + step.Kind.Name + "\n")
			for _, s := range step.Settings {
				text.WriteString(s.Name + "=" + s.Value + "\n")
			}
		}
	}
	sum := cache.Sum([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// newID names a spool by the time of its start, so that names sort by age.
func newID(now time.Time) string {
	var random [3]byte
	rand.Read(random[:])
	return now.UTC().Format("20060102-150405.000") + "-" + hex.EncodeToString(random[:])
}
