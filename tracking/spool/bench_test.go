package spool

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lpipe/tracking"
)

// stepsSpooled is a spool with so many steps of a hundred metrics, and a server that takes all and does nothing; asked counts its
// batches.
func stepsSpooled(t testing.TB, steps int) (dir string, client *tracking.Client, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/log-batch") {
			asked.Add(1)
		}
		fmt.Fprint(w, `{"run":{"info":{"run_id":"r"}},"experiment":{"experiment_id":"1"}}`)
	}))
	t.Cleanup(server.Close)
	dir = filepath.Join(t.TempDir(), "20260102-030405.000-abcdef")
	w, err := Create(t.Context(), dir, Head{ID: "20260102-030405.000-abcdef", Experiment: "x"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.Append(Record{Start: &Start{Name: "repro"}})
	w.Append(Record{Run: "lora", Start: &Start{Name: "lora"}})
	for step := range steps {
		metrics := make(map[string]Number, 100)
		for i := range 100 {
			metrics[fmt.Sprintf("train/layers/%d/grad_norm", i)] = Number(step) / Number(i+7)
		}
		w.Append(Record{Run: "lora", Step: int64(step), Metrics: metrics})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if client, err = tracking.New(tracking.Options{URI: server.URL}); err != nil {
		t.Fatal(err)
	}
	return dir, client, asked
}

// Each request has as many rows as the server takes, the tenth as the first.
func TestBatchesAreFull(t *testing.T) {
	dir, client, asked := stepsSpooled(t, 120)
	if err := (&Sender{Client: client}).Send(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n != 12 {
		t.Errorf("%d requests for 12,000 rows, want 12", n)
	}
}

// BenchmarkSend is what a step of a hundred metrics takes of a sender. The server's half of the connection is in it.
func BenchmarkSend(b *testing.B) {
	dir, client, _ := stepsSpooled(b, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	if err := (&Sender{Client: client}).Send(b.Context(), dir); err != nil {
		b.Fatal(err)
	}
}
