package runner_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"lpipe/runner"
)

// plan builds a pipeline by hand: each stage is "name: inputs > outputs", a "+" before an input means depends_on.
func plan(t *testing.T, opts runner.PlanOptions, stages ...string) (*runner.Plan, string) {
	t.Helper()
	kind := &runner.Kind{Name: "shell", Version: 1, InPlace: true}
	p := &runner.Pipeline{Dir: t.TempDir(), Files: []string{"pipeline.hcl"}}
	for i, text := range stages {
		name, rest, _ := strings.Cut(text, ":")
		ins, outs, _ := strings.Cut(rest, ">")
		step := &runner.Step{Name: name, Block: name, Kind: kind}
		step.Range.Filename, step.Range.Start.Line = "pipeline.hcl", 10*(i+1)
		for _, in := range strings.Fields(ins) {
			if after, ok := strings.CutPrefix(in, "+"); ok {
				step.DependsOn = append(step.DependsOn, after)
				continue
			}
			step.In = append(step.In, runner.StepInput{Name: in, Path: in, Range: step.Range})
		}
		for n, out := range strings.Fields(outs) {
			at := step.Range
			at.Start.Line += n + 1
			step.Out = append(step.Out, runner.StepOutput{Name: fmt.Sprint("o", n), Path: out, Range: at})
		}
		p.Steps = append(p.Steps, step)
	}
	made, diags := runner.NewPlan(p, opts)
	var text strings.Builder
	for _, d := range diags {
		fmt.Fprintf(&text, "line %d: %s: %s\n", d.Subject.Start.Line, d.Summary, d.Detail)
	}
	return made, text.String()
}

func everything(string) bool { return true }

func TestEdgesFollowPaths(t *testing.T) {
	for _, test := range []struct {
		name   string
		stages []string
		want   string // what stage z needs
	}{
		{"equal", []string{"a: > x", "z: x > y"}, "a"},
		{"under", []string{"a: > d", "z: d/e/f > y"}, "a"},
		{"containing", []string{"a: > d/1", "b: > d/2/3", "c: > dd/1", "z: d > y"}, "a b"},
		{"each once", []string{"a: > x w", "z: x w > y"}, "a"},
		{"order only", []string{"a: > x", "z: +a > y"}, "a"},
		{"a longer name is not below", []string{"a: > data.txt", "z: data > y"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, diags := plan(t, runner.PlanOptions{Known: everything}, test.stages...)
			equal(t, "mistakes", diags, "")
			var needs []string
			for _, n := range p.Nodes[len(p.Nodes)-1].Needs {
				needs = append(needs, n.Step.Name)
			}
			equal(t, "needs", strings.Join(needs, " "), test.want)
		})
	}
}

func TestPlanReportsEveryMistake(t *testing.T) {
	for _, test := range []struct {
		name   string
		stages []string
		want   []string
	}{
		{"two owners", []string{"a: > x", "b: > x"}, []string{"line 21: Two stages write the same path: Stage a already writes x (pipeline.hcl line 11). Give one of them another path."}},
		{"owner inside owner", []string{"a: > d/e/f", "b: > d"}, []string{"line 11: An output inside another output", "d/e/f, which lies inside d, an output of stage b (pipeline.hcl line 21)"}},
		{"cycle", []string{"a: c.out > a.out", "b: a.out > b.out", "c: b.out/x > c.out", "z: c.out > z"}, []string{
			"Stages in a cycle", "a (pipeline.hcl line 10) reads c.out, which c makes.", "c (pipeline.hcl line 30) reads b.out/x, and b makes b.out.", "b (pipeline.hcl line 20) reads a.out, which a makes."}},
		{"itself", []string{"a: d > d/x"}, []string{"A stage that reads its own output", "Stage a reads d, and a makes d/x."}},
		{"no such input", []string{"a: > data/train.jsonl", "b: data/trian.jsonl > y"}, []string{"An input that does not exist", `Did you mean data/train.jsonl?`}},
		{"outside", []string{"a: > ../x"}, []string{"lies outside the workspace"}},
		{"ours", []string{"a: > .lpipe/x"}, []string{"lpipe's own"}},
		{"pipeline file", []string{"a: > pipeline.hcl"}, []string{"is a pipeline file"}},
		{"workspace as input", []string{"a: . > x"}, []string{"contains .lpipe"}},
		{"all at once", []string{"a: gone > x", "b: > x", "c: +nobody > z"}, []string{"An input that does not exist", "Two stages write", "depends_on names no stage"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, diags := plan(t, runner.PlanOptions{}, test.stages...)
			if p != nil {
				t.Error("there is a plan")
			}
			contains(t, "mistakes", diags, test.want...)
		})
	}
}

func TestTwoCyclesAreReportedOnceEach(t *testing.T) {
	_, diags := plan(t, runner.PlanOptions{}, "a: b1 > a1", "b: a1 > b1", "c: d1 a1 > c1", "d: c1 > d1", "e: d1 > e1")
	if n := strings.Count(diags, "Stages in a cycle"); n != 2 {
		t.Errorf("%d cycles:\n%s", n, diags)
	}
}

func TestSelect(t *testing.T) {
	p, diags := plan(t, runner.PlanOptions{Known: everything}, "raw: > r", "clean: r > build/c", "lora@8: build/c > l/8", "lora@16: build/c > l/16", "other: > o")
	equal(t, "mistakes", diags, "")
	for i := range p.Nodes {
		if name, _, ok := strings.Cut(p.Nodes[i].Step.Name, "@"); ok {
			p.Nodes[i].Step.Block = name
		}
	}
	for _, test := range []struct {
		s    runner.Selection
		want string
	}{
		{runner.Selection{}, "raw clean lora@8 lora@16 other"},
		{runner.Selection{Targets: []string{"clean"}}, "raw clean"},
		{runner.Selection{Targets: []string{"clean"}, Only: true}, "clean"},
		{runner.Selection{Targets: []string{"clean"}, Downstream: true}, "clean lora@8 lora@16"},
		{runner.Selection{Targets: []string{"lora@*"}, Only: true}, "lora@8 lora@16"},
		{runner.Selection{Targets: []string{"build/c"}, Only: true}, "clean"},
		{runner.Selection{Targets: []string{"./build/"}, Only: true}, "clean"},
		{runner.Selection{Targets: []string{"l/8/adapter.json"}, Only: true}, "lora@8"},
		{runner.Selection{Targets: []string{"l/*"}, Only: true}, "lora@8 lora@16"},
	} {
		nodes, err := p.Select(test.s)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, n := range nodes {
			names[n.Step.Name] = true
		}
		for _, name := range strings.Fields(test.want) {
			if !names[name] || len(names) != len(strings.Fields(test.want)) {
				t.Errorf("%v: %v, want %s", test.s, names, test.want)
				break
			}
		}
	}
	_, err := p.Select(runner.Selection{Targets: []string{"claen"}})
	contains(t, "error", fmt.Sprint(err), `"claen"`, `"clean"`)
}

// Twenty times the stages may take about twenty times the time, not four hundred times.
func TestPlanIsLinear(t *testing.T) {
	stages := make([]string, 20000)
	for i := range stages {
		stages[i] = fmt.Sprintf("s%d: in/%d out/%d/x > out/%d/x out/%d/y", i, i, i/2, i+1, i+1)
	}
	began := time.Now()
	p, diags := plan(t, runner.PlanOptions{Known: func(string) bool { return true }, Exists: everything}, stages...)
	if diags != "" || len(p.Nodes) != len(stages) {
		t.Fatal(diags)
	}
	if took := time.Since(began); took > 10*time.Second { // 0.1 s on an idle machine
		t.Errorf("20,000 stages take %s", took)
	}
}

func TestCodeReachesOutputsButNotItsOwn(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "gen" {
  out     = { lib = "src/gen.py" }
  command = "echo gen > src/gen.py"
}
stage "shell" "use" {
  out     = { own = "src/own.py" }
  code    = ["src"]
  command = "cat src/a.py src/gen.py > src/own.py"
}
`, "src/a.py", "a\n", "src/__pycache__/a.pyc", "1")
	equal(t, "first", w.repro(), "gen:ran use:ran")
	equal(t, "second", w.repro(), "gen:workspace use:workspace")
	w.write("src/__pycache__/a.pyc", "2")
	equal(t, "ignored files", w.repro(), "gen:workspace use:workspace")
	w.write("src/sub/b.py", "b\n")
	equal(t, "a new file", w.repro(), "gen:workspace use:ran")
	report, err := w.open().Status(t.Context(), nil)
	if err != nil || report.Work() {
		t.Fatal(report, err)
	}
	os.Remove(w.dir + "/src/sub/b.py")
	why, err := w.open().Why(t.Context(), "use")
	if err != nil {
		t.Fatal(err)
	}
	if len(why[0].Reasons) != 1 || why[0].Reasons[0].What != "code" || why[0].Reasons[0].Name != "src/sub/b.py" || why[0].Would != "restore" {
		t.Errorf("why: %+v", why)
	}
}
