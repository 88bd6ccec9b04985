package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
)

// Small kinds that have each form of port and setting.

type fakeShell struct {
	Command fakeCommand `hcl:"command" doc:"what to run"`
	Shell   []string    `hcl:"shell,optional" doc:"the shell"`
	Dir     string      `hcl:"dir,optional" doc:"where to run"`
}

func (*fakeShell) Run(context.Context, *Env) error { return nil }

func (f *fakeShell) Check() error {
	if len(f.Command.Words) == 0 {
		return errors.New("command: it is empty; write what to run")
	}
	return nil
}

// fakeCommand is a line or a list of words.
type fakeCommand struct{ Words []string }

func (c *fakeCommand) UnmarshalJSON(text []byte) error {
	var line string
	if unmarshal(text, &line) == nil {
		c.Words = []string{"sh", "-c", line}
		return nil
	}
	if unmarshal(text, &c.Words) != nil {
		return errors.New("a command is a string or a list of strings")
	}
	return nil
}

type fakeTrain struct {
	Method    string             `hcl:"method,optional"`
	Rank      int                `hcl:"rank,optional" doc:"rank of the update"`
	LR        float64            `hcl:"lr,optional"`
	Epochs    *float64           `hcl:"epochs,optional"`
	Targets   []string           `hcl:"targets,optional"`
	RSLoRA    bool               `hcl:"rslora,optional"`
	Generate  fakeGenerate       `hcl:"generate,optional"`
	EarlyStop *fakeStop          `hcl:"early_stop,optional"`
	Every     fakeEvery          `hcl:"checkpoint_every,optional" key:"-" unit:"time"`
	Weights   map[string]float64 `hcl:"weights,optional"`
}

type fakeGenerate struct {
	Greedy bool `hcl:"greedy,optional"`
	Max    int  `hcl:"max_tokens,optional" unit:"tokens"`
}

type fakeStop struct {
	Metric   string `hcl:"metric"`
	Patience int    `hcl:"patience,optional"`
}

type fakeEvery string

func (e *fakeEvery) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("it is empty")
	}
	*e = fakeEvery(text)
	return nil
}

func (*fakeTrain) Run(context.Context, *Env) error { return nil }

func (f *fakeTrain) Check() error {
	var errs []error
	if f.Rank < 1 {
		errs = append(errs, errors.New("rank: must be at least 1"))
	}
	if f.Generate.Max < 1 {
		errs = append(errs, errors.New("generate.max_tokens: must be at least 1"))
	}
	return errors.Join(errs...)
}

type fakeConvert struct {
	Format string `hcl:"format,optional"`
	Limit  int    `hcl:"limit,optional"`
}

func (*fakeConvert) Run(context.Context, *Env) error { return nil }

func fakeKinds() []*Kind {
	return []*Kind{
		{Name: "shell", Version: 1, InPlace: true, New: func() Stage {
			return &fakeShell{Shell: []string{"/bin/sh", "-e", "-c"}}
		}},
		{Name: "convert", Version: 1, In: []Port{{Name: "raw", List: true, Doc: "rows"}},
			Out: []Port{{Name: "data", Ext: ".jsonl"}, {Name: "report", Ext: ".json", Optional: true, Metrics: true}},
			New: func() Stage { return &fakeConvert{Format: "columns"} }},
		{Name: "train", Version: 1,
			In: []Port{{Name: "model", Doc: "model folder"}, {Name: "train", Doc: "tokens"}, {Name: "validation", Optional: true, Map: true}},
			Out: []Port{{Name: "adapter", Folder: true}, {Name: "model", Folder: true}, {Name: "metrics", Ext: ".json", Metrics: true},
				{Name: "curve", Ext: ".jsonl", Optional: true, Plots: true}},
			Ports: func(s Stage, given map[string]bool) (ins, outs []Port) {
				kind := fakeKinds()[2]
				skip := "model"
				if s.(*fakeTrain).Method == "full" {
					skip = "adapter"
				}
				for _, port := range kind.Out {
					if port.Name != skip {
						outs = append(outs, port)
					}
				}
				return kind.In, outs
			},
			Resources: func(Stage) Resources { return Resources{CPU: 2, GPU: 1} },
			New: func() Stage {
				return &fakeTrain{Method: "lora", Rank: 16, LR: 2e-4, Every: "15m", Generate: fakeGenerate{Greedy: true, Max: 8}}
			}},
	}
}

// decodeTest writes files into a folder and decodes it with the fake kinds.
type decodeTest struct {
	files map[string]string
	opts  DecodeOptions
	env   map[string]string
}

func (dt decodeTest) run(t testing.TB) (*Pipeline, hcl.Diagnostics) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range dt.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opts := dt.opts
	opts.Dir = dir
	if opts.Kinds == nil {
		opts.Kinds = fakeKinds()
	}
	opts.Getenv = func(name string) (string, bool) {
		text, ok := dt.env[name]
		return text, ok
	}
	for name := range dt.env {
		opts.Environ = append(opts.Environ, name)
	}
	return Decode(opts)
}

// decodeOK decodes files of which none may be wrong.
func (dt decodeTest) ok(t testing.TB) *Pipeline {
	t.Helper()
	p, diags := dt.run(t)
	if diags.HasErrors() {
		t.Fatalf("unexpected mistakes:\n%s", printed(p, diags))
	}
	return p
}

func printed(p *Pipeline, diags hcl.Diagnostics) string {
	var b bytes.Buffer
	if err := FormatDiagnostics(&b, diags, p.HCL, false); err != nil {
		panic(err)
	}
	return strings.ReplaceAll(b.String(), p.Dir, "DIR")
}

func pipelineOf(text string) decodeTest {
	return decodeTest{files: map[string]string{"pipeline.hcl": text}}
}

func stepNamed(t testing.TB, p *Pipeline, name string) *Step {
	t.Helper()
	for _, step := range p.Steps {
		if step.Name == name {
			return step
		}
	}
	t.Fatalf("no step %q", name)
	return nil
}

// inputs and outputs render a step's ports: "raw[0]=data/raw.jsonl".
func inputs(step *Step) string {
	var list []string
	for _, in := range step.In {
		list = append(list, in.Name+"="+in.Path)
	}
	return strings.Join(list, " ")
}

func outputs(step *Step) string {
	var list []string
	for _, out := range step.Out {
		slash := ""
		if out.Folder {
			slash = "/"
		}
		list = append(list, out.Name+"="+out.Path+slash)
	}
	return strings.Join(list, " ")
}

func settings(step *Step) string {
	var list []string
	for _, s := range step.Settings {
		list = append(list, s.Name+"="+s.Value)
	}
	return strings.Join(list, " ")
}

func equal(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

// The sample of the contract, nearly as it stands there.
func TestDecodeContract(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.hcl")
	if err != nil {
		t.Fatal(err)
	}
	p := pipelineOf(string(text)).ok(t)
	var names []string
	for _, step := range p.Steps {
		names = append(names, step.Name)
	}
	equal(t, "steps", strings.Join(names, " "), "qa stats sets lora@16 lora@8 table")
	equal(t, "qa in", inputs(stepNamed(t, p, "qa")), "raw=data/r1-sample.parquet")
	equal(t, "qa out", outputs(stepNamed(t, p, "qa")), "data=build/qa.jsonl")
	stats := stepNamed(t, p, "stats")
	equal(t, "stats in", inputs(stats), "ref[0]=build/qa.jsonl")
	equal(t, "stats settings", settings(stats), `command={"words":["sh","-c","python3 stats.py build/qa.jsonl > build/stats.json"]} dir="" shell=["/bin/sh","-e","-c"]`)
	equal(t, "stats env", fmt.Sprint(stats.Env, stats.PassEnv, stats.SecretEnv), "map[SEED:1] [HTTPS_PROXY] map[HF_TOKEN:hush]")
	lora := stepNamed(t, p, "lora@8")
	equal(t, "lora in", inputs(lora), "model=.lpipe/sources/model train=build/sets/data.jsonl validation=build/sets/report.json")
	equal(t, "lora out", outputs(lora), "adapter=build/lora/8/adapter/ metrics=build/lora/8/metrics.json curve=build/lora/8/curve.jsonl")
	equal(t, "lora resources", fmt.Sprintf("%+v", *lora.Resources), "{CPU:2 GPU:1 RAM:42949672960 Pool:map[]}")
	equal(t, "table in", inputs(stepNamed(t, p, "table")), "all[0]=build/lora/16/metrics.json all[1]=build/lora/8/metrics.json")
	equal(t, "remote", p.Settings.Remote, "origin")
}

func unmarshal(text []byte, into any) error { return json.Unmarshal(text, into) }
