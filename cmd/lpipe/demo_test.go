package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"lpipe/cmd/lpipe/demo"
)

// run executes a command line in process and returns what it printed.
func run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, messages bytes.Buffer
	p := &program{
		stdin: strings.NewReader(""), stdout: &out, stderr: &messages,
		lookupEnv: func(name string) (string, bool) {
			if strings.HasPrefix(name, "LPIPE_") {
				return "", false
			}
			return os.LookupEnv(name)
		},
		environ: func() []string { return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()} },
	}
	code = p.run(context.Background(), append([]string{"lpipe"}, args...))
	return out.String(), messages.String(), code
}

// mustRun is run for commands that have to succeed.
func mustRun(t testing.TB, args ...string) string {
	t.Helper()
	stdout, stderr, code := run(t, args...)
	if code != 0 {
		t.Fatalf("lpipe %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// The demo shows something true: a base model that knows the sums but not the form of an answer, and an adapter
// that answers most of the held-out problems.
func TestDemoShowsSomethingTrue(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for half a minute")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	mustRun(t, "init", "--demo", dir)
	mustRun(t, "-C", dir, "repro")
	base, tuned := accuracy(t, dir, "base"), accuracy(t, dir, "tuned")
	t.Logf("accuracy: base %.3f, tuned %.3f", base, tuned)
	if base >= 0.1 {
		t.Errorf("the base model answers %.3f, want under 0.1", base)
	}
	if tuned <= 0.5 {
		t.Errorf("the adapter answers %.3f, want over 0.5", tuned)
	}
	checkNoLeak(t, dir)
	checkDirtFound(t, dir)
	if events := ran(t, dir); len(events) > 0 {
		t.Errorf("a second repro ran %v", events)
	}
}

// What the adapter learns, it learns from the answers: with the answers exchanged among the rows it gets few right.
func TestDemoLearnsNothingFromShuffledAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("trains for half a minute")
	}
	dir := filepath.Join(t.TempDir(), "demo")
	rows, _ := demo.Rows(demo.Seed, demo.Count)
	honest, _ := demo.Rows(demo.Seed, demo.Count)
	demo.Shuffle(rows, 1)
	if err := demo.WriteWith(dir, rows); err != nil {
		t.Fatal(err)
	}
	// The judge has the right answers.
	mustRun(t, "-C", dir, "repro", "lora")
	writeRows(t, filepath.Join(dir, "data", "honest.jsonl"), honest)
	appendFile(t, filepath.Join(dir, "pipeline.hcl"), `
source "honest" { path = "data/honest.jsonl" }
stage "convert" "honest_rows" {
  in     = { raw = source.honest.path }
  format = "r1-distill-sft"
  limit  = 300
}
stage "tokenize" "honest_tokens" {
  in          = { data = stage.honest_rows.data, tokenizer = source.model.path }
  system_mode = "none"
  max_tokens  = 128
}
stage "evaluate" "judged" {
  in       = { model = source.model.path, adapter = stage.lora.adapter, data = stage.honest_tokens.tokens }
  generate = { greedy = true, max_tokens = 48 }
  answer   = "boxed"
}
`)
	mustRun(t, "-C", dir, "repro", "judged")
	got := accuracy(t, dir, "judged")
	t.Logf("accuracy after training on shuffled answers: %.3f", got)
	if got >= 0.2 {
		t.Errorf("accuracy %.3f, want under 0.2", got)
	}
}

// Another rank runs what depends on it and nothing else; a comment runs nothing.
func TestDemoRunsOnlyWhatChanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	rows, _ := demo.Rows(demo.Seed, 300)
	if err := demo.WriteWith(dir, rows); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pipeline.hcl")
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	short := regexp.MustCompile(`steps( +)= \d+`).ReplaceAll(src, []byte("steps$1= 3"))
	if err := os.WriteFile(file, short, 0o666); err != nil {
		t.Fatal(err)
	}
	first := ran(t, dir)
	if want := []string{"base", "checked", "clean", "lora", "merged", "qa", "sets", "tokens", "tuned"}; !slices.Equal(first, want) {
		t.Fatalf("the first run ran %v", first)
	}
	appendFile(t, file, "\n# a comment\n")
	if again := ran(t, dir); len(again) > 0 {
		t.Errorf("a comment ran %v", again)
	}
	if again := ran(t, dir, "--var", "rank=4"); !slices.Equal(again, []string{"lora", "merged", "tuned"}) {
		t.Errorf("another rank ran %v", again)
	}
	if again := ran(t, dir); len(again) > 0 {
		t.Errorf("back to the first rank, which is known, it ran %v", again)
	}
}

// ran brings the project up to date and returns the stages that ran, sorted.
func ran(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(mustRun(t, append([]string{"-C", dir, "repro", "--json"}, args...)...)) {
		var e stageEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.How == "ran" {
			names = append(names, e.Stage)
		}
	}
	slices.Sort(names)
	return names
}

func accuracy(t *testing.T, dir, stage string) float64 {
	t.Helper()
	var report struct{ Metrics []metric }
	if err := json.Unmarshal([]byte(mustRun(t, "-C", dir, "metrics", "--json", stage)), &report); err != nil {
		t.Fatal(err)
	}
	for _, m := range report.Metrics {
		if m.Name == "accuracy" && m.Value != nil {
			return *m.Value
		}
	}
	t.Fatalf("%s reports no accuracy: %+v", stage, report.Metrics)
	return 0
}

// checkNoLeak looks for a problem that stands in two sets.
func checkNoLeak(t *testing.T, dir string) {
	t.Helper()
	where := map[string]string{}
	for _, set := range []string{"train", "validation", "test"} {
		data, err := os.ReadFile(filepath.Join(dir, "build", "sets", set, "rows.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			var row struct{ Prompt string }
			if err := json.Unmarshal(line, &row); err != nil {
				t.Fatal(err)
			}
			if other, ok := where[row.Prompt]; ok {
				t.Errorf("%q stands in %s and in %s", row.Prompt, other, set)
			}
			where[row.Prompt] = set
		}
	}
	if len(where) < 3000 {
		t.Errorf("only %d problems in all sets", len(where))
	}
}

// keptRows are the ids of the rows that passed all checks.
func keptRows(t *testing.T, dir string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "build", "checked", "data.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for line := range bytes.Lines(data) {
		var row struct{ ID string }
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatal(err)
		}
		ids[row.ID] = true
	}
	return ids
}

// checkDirtFound compares what the pipeline dropped with what was planted: all of it, and nothing else.
func checkDirtFound(t *testing.T, dir string) {
	t.Helper()
	rows, dirt := demo.Rows(demo.Seed, demo.Count)
	kept := keptRows(t, dir)
	for i, row := range rows {
		if want := dirt[i] == demo.Clean || dirt[i] == demo.Markup; kept[row.ID] != want {
			t.Errorf("row %s (%q: %s): kept %v, want %v", row.ID, dirt[i], row.Problem, kept[row.ID], want)
		}
	}
}

func writeRows(t *testing.T, path string, rows []demo.Row) {
	t.Helper()
	var b bytes.Buffer
	if err := demo.WriteRows(&b, rows); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}

func appendFile(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
