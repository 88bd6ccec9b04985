package spool_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/tracking"
	"lpipe/tracking/spool"
	"lpipe/tracking/trackingtest"
)

// bench is a spool and a server behind a proxy.
type bench struct {
	*testing.T
	proxy    *trackingtest.Proxy
	client   *tracking.Client // straight to the server
	sender   *spool.Sender
	dir      string
	name     string // of the experiment
	mu       sync.Mutex
	warnings []string
	down     atomic.Bool // of TestMillionPoints: the proxy drops what comes
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server := trackingtest.Server(t, os.Getenv)
	b := &bench{T: t, proxy: trackingtest.NewProxy(t, server), name: trackingtest.Name(t)}
	b.dir = filepath.Join(t.TempDir(), "20260102-030405.000-abcdef")
	b.client = b.connect(server)
	b.sender = b.newSender()
	return b
}

func (b *bench) connect(uri string) *tracking.Client {
	b.Helper()
	client, err := tracking.New(tracking.Options{URI: uri, Tries: 3, Pause: 5 * time.Millisecond})
	b.must(err)
	return client
}

func (b *bench) newSender() *spool.Sender {
	return &spool.Sender{Client: b.connect(b.proxy.URL), Pause: 10 * time.Millisecond,
		Content: func(_ context.Context, f spool.File) (string, func(), error) {
			at := filepath.Join(filepath.Dir(b.dir), f.At)
			if _, err := os.Stat(at); err != nil {
				return "", nil, cache.ErrNotFound
			}
			return at, func() {}, nil
		},
		Warn: func(message string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.warnings = append(b.warnings, message)
		}}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// create begins a spool with a run and a stage's below it.
func (b *bench) create() *spool.Writer {
	b.Helper()
	w, err := spool.Create(b.Context(), b.dir, spool.Head{ID: filepath.Base(b.dir), Experiment: b.name}, time.Now)
	b.must(err)
	w.Append(spool.Record{Start: &spool.Start{Name: "repro"}})
	w.Append(spool.Record{Run: "lora", Start: &spool.Start{Name: "lora", Key: "k"}})
	return w
}

func (b *bench) close(w *spool.Writer) {
	b.Helper()
	w.Append(spool.Record{Run: "lora", End: "FINISHED"})
	w.Append(spool.Record{End: "FINISHED"})
	b.must(w.Close())
}

// write makes a spool with so many steps of two metrics.
func (b *bench) write(steps int) {
	b.Helper()
	w := b.create()
	metrics(w, 1, steps)
	b.close(w)
}

func metrics(w *spool.Writer, from, to int) {
	for step := from; step <= to; step++ {
		w.Append(spool.Record{Run: "lora", Step: int64(step), Metrics: map[string]spool.Number{"train/loss": spool.Number(1 / float64(step)), "train/lr": 0.5}})
	}
}

// run reads a run back, through no proxy. There must be exactly one of its name.
func (b *bench) run(name string) *tracking.Run {
	b.Helper()
	experiment, err := b.client.Experiment(b.Context(), b.name)
	b.must(err)
	runs, err := b.client.SearchRuns(b.Context(), experiment.ID, "attributes.run_name = '"+name+"'", 10)
	b.must(err)
	if len(runs) != 1 {
		b.Fatalf("there are %d runs named %s, want one", len(runs), name)
	}
	return &runs[0]
}

// complete checks that each of so many steps arrived, once.
func (b *bench) complete(steps int) {
	b.Helper()
	run := b.run("lora")
	for _, metric := range []string{"train/loss", "train/lr"} {
		rows, err := b.client.History(b.Context(), run.Info.ID, metric)
		b.must(err)
		seen := map[int64]float64{}
		for _, row := range rows {
			seen[row.Step] = row.Value
		}
		if len(rows) != steps || len(seen) != steps {
			b.Fatalf("%s has %d rows of %d steps, want %d of each", metric, len(rows), len(seen), steps)
		}
		if metric == "train/loss" && seen[int64(steps)] != 1/float64(steps) {
			b.Fatalf("the last %s is %v", metric, seen[int64(steps)])
		}
	}
	if run.Info.Status != "FINISHED" {
		b.Fatalf("the run is %s", run.Info.Status)
	}
	if parent := b.run("repro"); run.Tag("mlflow.parentRunId") != parent.Info.ID || parent.Info.Status != "FINISHED" {
		b.Fatalf("the stage's run is below %q, that above is %s and %s", run.Tag("mlflow.parentRunId"), parent.Info.ID, parent.Info.Status)
	}
	if info, err := spool.Read(b.dir); err != nil || !info.Sent.Done || info.Left != 0 {
		b.Fatalf("the spool is not done: %+v %v", info, err)
	}
}

func (b *bench) send() {
	b.Helper()
	b.must(b.sender.Send(b.Context(), b.dir))
}

// refuse sends and wants an error that holds these texts; what was recorded must stay.
func (b *bench) refuse(texts ...string) {
	b.Helper()
	err := b.sender.Send(b.Context(), b.dir)
	if err == nil {
		b.Fatal("sending worked")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			b.Errorf("the error does not say %q: %v", text, err)
		}
	}
	if info, err := spool.Read(b.dir); err != nil || info.Left == 0 || info.Sent.Error == "" {
		b.Errorf("the spool does not say what is left, and why: %+v %v", info, err)
	}
}

func (b *bench) warned(texts ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range texts {
		if !strings.Contains(strings.Join(b.warnings, "\n"), text) {
			b.Errorf("nobody was told %q: %q", text, b.warnings)
		}
	}
}

func TestAllSortsOfRecordsArrive(t *testing.T) {
	b := newBench(t)
	b.must(os.MkdirAll(filepath.Join(filepath.Dir(b.dir), "out", "sub"), 0o777))
	b.must(os.WriteFile(filepath.Join(filepath.Dir(b.dir), "out", "sub", "ü 100%+.txt"), []byte("deep"), 0o666))
	b.must(os.WriteFile(filepath.Join(filepath.Dir(b.dir), "out", "empty"), nil, 0o666))
	w := b.create()
	w.Append(spool.Record{Run: "lora", Params: map[string]string{"lora.rank": "16", "lora.empty": ""}})
	w.Append(spool.Record{Run: "lora", Tags: map[string]string{"lpipe.kind": "train", "mlflow.user": "ann"}})
	w.Append(spool.Record{Run: "lora", Step: -3, Metrics: map[string]spool.Number{"a": 1e-300, "nan": spool.Number(math.NaN()), "inf": spool.Number(math.Inf(1)), "ninf": spool.Number(math.Inf(-1))}})
	w.Append(spool.Record{Run: "lora", Input: &spool.Input{Name: "rows", Digest: strings.Repeat("f", 64), Type: "local", Source: `{"uri":"rows"}`, As: "training"}})
	w.Append(spool.Record{Run: "lora", File: &spool.File{Path: "out", At: "out", Content: cache.Content{Dir: true}}})
	w.Append(spool.Record{Run: "lora", File: &spool.File{Path: "gone", At: "gone"}})
	b.close(w)
	b.send()
	run := b.run("lora")
	params := map[string]string{}
	for _, p := range run.Data.Params {
		params[p.Key] = p.Value
	}
	if params["lora.rank"] != "16" || len(params) != 2 || run.Tag("lpipe.kind") != "train" || run.Tag(spool.TagRun) != filepath.Base(b.dir)+"/lora" {
		t.Errorf("parameters %v, tags %v", params, run.Data.Tags)
	}
	values := map[string]float64{}
	for _, m := range run.Data.Metrics {
		values[m.Key] = m.Value
		if m.Step != -3 {
			t.Errorf("%s has step %d", m.Key, m.Step)
		}
	}
	if values["a"] != 1e-300 || !math.IsNaN(values["nan"]) || values["inf"] < 1e308 || values["ninf"] > -1e308 {
		t.Errorf("metrics %v", values)
	}
	files, err := b.client.Artifacts(t.Context(), run.Info.ArtifactURI)
	if err != nil || len(files) != 2 || files[1].Path != "out/sub/ü 100%+.txt" || files[1].Size != 4 {
		t.Errorf("artifacts %v %v", files, err)
	}
	b.warned("gone is not sent: its content is not here any more")
	if len(b.warnings) != 1 {
		t.Errorf("warnings: %q", b.warnings)
	}
}

func TestLostAnswersMakeNothingTwice(t *testing.T) {
	b := newBench(t)
	b.write(400)
	b.proxy.Set(trackingtest.Lose(2))
	b.send()
	b.proxy.Set(nil)
	b.complete(400)
}

// Every request may be the last one before a kill: whoever sends then goes on.
func TestSendingGoesOnAfterEachRequest(t *testing.T) {
	b := newBench(t)
	b.write(60)
	for n := 1; ; n++ {
		if n > 60 {
			t.Fatal("sending never comes to its end")
		}
		ctx, kill := context.WithCancel(t.Context())
		b.proxy.Set(func(w http.ResponseWriter, r *http.Request, at int, on http.Handler) bool {
			if at == n {
				kill()
				on.ServeHTTP(w, r) // the server does it, and nobody is there to hear
				return true
			}
			return false
		})
		if err := b.newSender().Send(ctx, b.dir); err == nil {
			break
		}
		if n%2 == 0 {
			os.Remove(filepath.Join(b.dir, "sent.json")) // its loss changes nothing
		}
	}
	b.proxy.Set(nil)
	b.complete(60)
}

func TestOutageWhileTheRunGoesOn(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(trackingtest.Down)
	w := b.create()
	done := make(chan error, 1)
	go func() { done <- b.sender.Follow(t.Context(), w) }()
	metrics(w, 1, 100)
	for !b.sender.Trouble() {
		time.Sleep(5 * time.Millisecond)
	}
	b.proxy.Set(nil)
	metrics(w, 101, 200)
	b.close(w)
	b.must(<-done)
	b.complete(200)
}

func TestServerIsDownUntilTheEnd(t *testing.T) {
	b := newBench(t)
	b.proxy.Set(trackingtest.Down)
	w := b.create()
	done := make(chan error, 1)
	go func() { done <- b.sender.Follow(t.Context(), w) }()
	metrics(w, 1, 10)
	b.close(w)
	if err := <-done; !tracking.IsKind(err, tracking.Network) {
		t.Fatalf("sending ended with %v", err)
	}
	b.refuse("GET /version at " + b.proxy.URL)
	b.proxy.Set(nil)
	b.send()
	b.complete(10)
}

func TestWrongCredentials(t *testing.T) {
	b := newBench(t)
	b.write(5)
	b.proxy.Set(trackingtest.Answer(http.StatusUnauthorized, "text/html", "<html>You are not authenticated</html>"))
	b.refuse("401 Unauthorized", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN")
	b.proxy.Set(trackingtest.Answer(http.StatusForbidden, "application/json", `{"error_code":"PERMISSION_DENIED","message":"Permission denied"}`))
	b.refuse("Permission denied")
	b.proxy.Set(trackingtest.Answer(http.StatusForbidden, "text/plain", "Invalid Host header - possible DNS rebinding attack detected"))
	b.refuse("--allowed-hosts 127.0.0.1,127.0.0.1:*")
	if len(b.proxy.Requests()) > 1 {
		t.Error("a refusal for good was tried again")
	}
	b.proxy.Set(nil)
	b.send()
	b.complete(5)
}

func TestServerIsTooOldOrNone(t *testing.T) {
	b := newBench(t)
	b.write(5)
	b.proxy.Set(func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) bool {
		return r.URL.Path == "/version" && trackingtest.Answer(200, "text/plain", "1.30.1")(w, r, 0, nil)
	})
	b.refuse("MLflow 1.30.1", "2.0 or later", "lpipe tracking sync")
	b.proxy.Set(trackingtest.Answer(http.StatusNotFound, "text/html", "<html>Not Found</html>"))
	b.refuse("404 Not Found")
	b.proxy.Set(trackingtest.Answer(http.StatusOK, "text/html", "<html>Welcome</html>"))
	b.refuse("not MLflow's", "<html>Welcome")
	b.proxy.Set(nil)
	b.send()
	b.complete(5)
}

func TestExperimentIsDeletedAtTheServer(t *testing.T) {
	b := newBench(t)
	experiment, err := b.client.Experiment(t.Context(), b.name)
	b.must(err)
	b.must(b.client.DeleteExperiment(t.Context(), experiment.ID))
	b.write(5)
	b.refuse("use experiment "+`"`+b.name+`"`, "was deleted", "mlflow experiments restore --experiment-id "+experiment.ID)
	b.must(b.client.RestoreExperiment(t.Context(), experiment.ID))
	b.send()
	b.complete(5)
}

func TestExperimentOrRunIsDeletedWhileTheRunGoesOn(t *testing.T) {
	b := newBench(t)
	w := b.create()
	metrics(w, 1, 5)
	b.must(w.Sync())
	b.send()
	run := b.run("lora").Info
	b.must(b.client.DeleteRun(t.Context(), run.ID))
	metrics(w, 6, 8)
	b.refuse("run "+run.ID, "was deleted at the server", "mlflow runs restore --run-id "+run.ID, "lpipe tracking drop")
	b.must(b.client.RestoreRun(t.Context(), run.ID))
	b.send()
	b.must(b.client.DeleteExperiment(t.Context(), run.Experiment))
	metrics(w, 9, 10)
	b.refuse("was deleted")
	b.must(b.client.RestoreExperiment(t.Context(), run.Experiment))
	b.close(w)
	b.send()
	b.complete(10)
}

func TestNamesThatCollide(t *testing.T) {
	b := newBench(t)
	w := b.create()
	long := strings.Repeat("x", 300)
	w.Append(spool.Record{Run: "lora", Metrics: map[string]spool.Number{"a=b": 1, "a_b": 2, "a,b": 3, "../../up": 4, "/": 5, long + "1": 6, long + "2": 7}})
	w.Append(spool.Record{Run: "lora", Params: map[string]string{"p@1": "x", "p_1": "y"}})
	b.must(w.Sync())
	b.send()
	w.Append(spool.Record{Run: "lora", Step: 1, Metrics: map[string]spool.Number{"a,b": 30, "a=b": 10}}) // by a sender that starts anew
	b.close(w)
	b.send()
	run := b.run("lora")
	values := map[string]float64{}
	for _, m := range run.Data.Metrics {
		values[m.Key] = m.Value
		if len(m.Key) > tracking.MaxName {
			t.Errorf("a name has %d characters", len(m.Key))
		}
	}
	if len(values) != 7 || values["a_b"] != 30 || values["a_b_2"] != 10 || values["a_b_3"] != 2 || len(run.Data.Params) != 2 {
		t.Errorf("metrics %v, parameters %v", values, run.Data.Params)
	}
	b.warned(`metric "a=b" is called "a_b_2" at the server`, `parameter "p_1" is called "p_1_2"`)
}

func TestTwoProcessesOneRun(t *testing.T) {
	b := newBench(t)
	w := b.create()
	if _, err := spool.Reopen(t.Context(), b.dir, time.Now); !errors.Is(err, cache.ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	metrics(w, 1, 300)
	b.close(w)
	held := make(chan struct{})
	b.proxy.Set(func(_ http.ResponseWriter, _ *http.Request, n int, _ http.Handler) bool {
		if n == 1 {
			if err := b.newSender().Send(t.Context(), b.dir); !errors.Is(err, cache.ErrLocked) {
				t.Errorf("a second sender: %v", err)
			}
			close(held)
		}
		return false
	})
	b.send()
	<-held
	b.complete(300)
}

func TestParameterOf10MB(t *testing.T) {
	b := newBench(t)
	w := b.create()
	value := strings.Repeat("ü", 5<<20)
	w.Append(spool.Record{Run: "lora", Params: map[string]string{"lora.prompt": value}})
	w.Append(spool.Record{Run: "lora", Tags: map[string]string{"note": value[:20000]}})
	b.close(w)
	b.send()
	run := b.run("lora")
	if got := []rune(run.Data.Params[0].Value); len(got) != tracking.MaxParam || got[0] != 'ü' || got[len(got)-1] != '…' {
		t.Errorf("the parameter has %d characters and ends in %q", len(got), got[len(got)-3:])
	}
	files, err := b.client.Artifacts(t.Context(), run.Info.ArtifactURI)
	if err != nil || len(files) != 1 || files[0].Path != "params/lora.prompt.txt" || files[0].Size != 10<<20 {
		t.Errorf("artifacts: %v %v", files, err)
	}
	b.warned(`parameter "lora.prompt" has 10485760 bytes`, `tag "note" has 20000 bytes`)
}

// What a server does not take is told of, and all the rest of its batch arrives.
func TestRowsThatTheServerRefuses(t *testing.T) {
	b := newBench(t)
	w := b.create()
	w.Append(spool.Record{Run: "lora", Params: map[string]string{"a": "1"}})
	b.must(w.Sync())
	b.send()
	metrics(w, 1, 20)
	w.Append(spool.Record{Run: "lora", Params: map[string]string{"a": "2", "b": "3"}})
	b.close(w)
	b.send()
	b.warned(`the server does not take parameter "a"`, "Changing param values is not allowed")
	if run := b.run("lora"); len(run.Data.Params) != 2 || b.sentState().Refused != 1 {
		t.Errorf("parameters %v", run.Data.Params)
	}
	b.complete(20)
}

func (b *bench) sentState() *spool.Sent { return spool.ReadSent(b.dir) }

func TestAnotherServerGetsAll(t *testing.T) {
	b := newBench(t)
	b.write(5)
	b.send()
	other := trackingtest.NewProxy(t, trackingtest.Server(t, os.Getenv)) // another address is another server
	b.proxy, b.name = other, b.name+"-b"
	b.sender = b.newSender()
	if err := b.sender.Send(t.Context(), b.dir); err != nil {
		t.Fatal(err)
	}
	if len(other.Requests()) < 5 {
		t.Errorf("the other server got %q", other.Requests())
	}
}
