package recorder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
)

func pipeline() *runner.Pipeline {
	kind := &runner.Kind{Name: "train"}
	return &runner.Pipeline{
		Variables: []runner.Variable{{Name: "rank", Value: "8"}, {Name: "token", Value: "", Sensitive: true}, {Name: "name", Value: `"a b"`}},
		Steps: []*runner.Step{
			{Name: "lora@8", Block: "lora", Kind: kind, Settings: []runner.Setting{{Name: "rank", Value: "8"}, {Name: "key", Value: `"hush"`, Sensitive: true}}},
			{Name: "eval", Block: "eval", Kind: kind},
		},
	}
}

func newRecorder(t testing.TB, root string) *Recorder {
	c, err := cache.Open(t.Context(), cache.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return New(Options{Root: root, Experiment: "x", Name: "repro", Tags: func() map[string]string { return map[string]string{"mlflow.user": "ann"} },
		Units: []Unit{{Dir: t.TempDir(), Pipeline: pipeline()}}, Cache: c, Now: func() time.Time { return time.UnixMilli(1767323045000) },
		Warn: func(message string) { t.Error(message) }})
}

// recorded are the JSON texts of the only spool, without times.
func recorded(t *testing.T, root string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "*", "spool"))
	if err != nil || len(files) != 1 {
		t.Fatalf("there are %d spools: %v", len(files), err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		if len(line) > 9 && line[8] == ' ' {
			lines = append(lines, strings.Replace(strings.TrimSpace(line[9:]), `"time":1767323045000,`, "", 1))
		}
	}
	return strings.Join(lines[1:], "\n")
}

func progress(stage string, step float64, metrics map[string]float64) runner.RunEvent {
	return runner.RunEvent{Event: "progress", Time: time.UnixMilli(1767323045000), Stage: stage, Progress: &runner.Event{Done: step, Metrics: metrics}}
}

// The events of a run become records: what is told before a stage's start, too, and nothing before the first stage runs.
func TestEventsBecomeRecords(t *testing.T) {
	root := t.TempDir()
	r := newRecorder(t, root)
	key := cache.SumKey("k")
	r.Event(runner.RunEvent{Event: "plan", Total: 2})
	r.Event(runner.RunEvent{Event: "stage", Stage: "eval", How: runner.HowCache, Key: key})
	if made, _ := filepath.Glob(filepath.Join(root, "*")); len(made) > 0 {
		t.Errorf("recorded before anything runs: %v", made)
	}
	r.Event(progress("lora@8", 1, map[string]float64{"train/loss": 2}))
	r.Event(runner.RunEvent{Event: "start", Stage: "lora@8", Key: key})
	r.Event(progress("lora@8", 2, map[string]float64{"train/loss": 1.5}))
	r.Event(runner.RunEvent{Event: "stage", Stage: "lora@8", How: runner.HowFailed, Error: "no memory"})
	if err := r.Close("FAILED"); err != nil {
		t.Fatal(err)
	}
	k := key.String()
	want := strings.Join([]string{
		`{"start":{"name":"repro"}}`,
		`{"tags":{"mlflow.user":"ann"}}`,
		`{"params":{"name":"a b","rank":"8"}}`,
		`{"tags":{"lpipe.stage.eval":"cache"}}`,
		`{"run":"lora@8","start":{"name":"lora@8","key":"` + k + `"}}`,
		`{"run":"lora@8","tags":{"lpipe.key":"` + k + `","lpipe.kind":"train","lpipe.stage":"lora","lpipe.stage_instance":"8","mlflow.user":"ann"}}`,
		`{"run":"lora@8","params":{"lora.rank":"8"}}`,
		`{"run":"lora@8","step":1,"metrics":{"train/loss":2}}`,
		`{"run":"lora@8","step":2,"metrics":{"train/loss":1.5}}`,
		`{"run":"lora@8","tags":{"lpipe.error":"no memory"}}`,
		`{"run":"lora@8","end":"FAILED"}`,
		`{"end":"FAILED"}`,
	}, "\n")
	got := strings.ReplaceAll(recorded(t, root), `"time":1767323045000,`, "")
	if got != want {
		t.Errorf("recorded\n%s\nwant\n%s", got, want)
	}
}

// A stage with the same key goes on in the run that failed; with another one it has another.
func TestLaterAttempts(t *testing.T) {
	root := t.TempDir()
	for i, key := range []string{"a", "a", "b"} {
		r := newRecorder(t, root)
		r.Event(runner.RunEvent{Event: "start", Stage: "lora@8", Key: cache.SumKey(key)})
		r.Event(progress("lora@8", 1, map[string]float64{"train/loss": 2}))
		if i != 1 { // the second is killed: it says nothing more
			r.Event(runner.RunEvent{Event: "stage", Stage: "lora@8", How: runner.HowFailed, Error: "e"})
			if err := r.Close("FAILED"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := r.w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	text := recorded(t, root)
	if strings.Count(text, `"name":"repro"`) != 3 || strings.Count(text, `{"run":"lora@8","start"`) != 2 || strings.Count(text, `{"run":"lora@8#2","start"`) != 1 {
		t.Errorf("recorded\n%s", text)
	}
	if strings.Count(text, `"metrics"`) != 2 || !strings.HasSuffix(text, `{"end":"FAILED"}`) {
		t.Errorf("the same step stands %d times for two runs:\n%s", strings.Count(text, `"metrics"`), text)
	}
}

// BenchmarkStep is all that a training step of 100 metrics waits for: event, record, write.
func BenchmarkStep(b *testing.B) {
	r := newRecorder(b, b.TempDir())
	r.Event(runner.RunEvent{Event: "start", Stage: "lora@8", Key: cache.SumKey("k")})
	metrics := map[string]float64{}
	for i := range 100 {
		metrics[fmt.Sprintf("train/metric_%d", i)] = float64(i) / 7
	}
	step := 0.0
	for b.Loop() {
		step++
		r.Event(progress("lora@8", step, metrics))
	}
	if err := r.Close("FINISHED"); err != nil {
		b.Fatal(err)
	}
}
