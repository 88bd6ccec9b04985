package spool

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"lpipe/tracking"
)

// BenchmarkSend is what a step of a hundred metrics takes of a sender, beside a server that takes all and does nothing. Its half of
// the connection is in it.
func BenchmarkSend(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"run":{"info":{"run_id":"r"}},"experiment":{"experiment_id":"1"}}`)
	}))
	defer server.Close()
	dir := filepath.Join(b.TempDir(), "20260102-030405.000-abcdef")
	w, err := Create(b.Context(), dir, Head{ID: "20260102-030405.000-abcdef", Experiment: "x"}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	w.Append(Record{Start: &Start{Name: "repro"}})
	w.Append(Record{Run: "lora", Start: &Start{Name: "lora"}})
	for step := range b.N {
		metrics := make(map[string]Number, 100)
		for i := range 100 {
			metrics[fmt.Sprintf("train/layers/%d/grad_norm", i)] = Number(step) / Number(i+7)
		}
		w.Append(Record{Run: "lora", Step: int64(step), Metrics: metrics})
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	client, err := tracking.New(tracking.Options{URI: server.URL})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := (&Sender{Client: client}).Send(b.Context(), dir); err != nil {
		b.Fatal(err)
	}
}
