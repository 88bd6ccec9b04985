package spool_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lpipe/tracking"
	"lpipe/tracking/spool"
)

// A hundred metrics a step through a server that is killed three times: tools/tracking-million.sh, which says how many
// points and how to kill. Without it, a few through the tests' server, and the proxy fails instead.
func TestMillionPoints(t *testing.T) {
	b := newBench(t)
	points, _ := strconv.Atoi(os.Getenv("LPIPE_MILLION"))
	kill := os.Getenv("LPIPE_MILLION_KILL")
	if points == 0 {
		points = 6000
	}
	const metrics = 100
	steps := points / metrics
	w := b.create()
	began := time.Now()
	for step := range steps {
		values := make(map[string]spool.Number, metrics)
		for i := range metrics {
			values["train/m"+strconv.Itoa(i)] = spool.Number(float64(step) + float64(i)/metrics)
		}
		w.Append(spool.Record{Run: "lora", Step: int64(step), Metrics: values})
	}
	b.close(w)
	info, err := spool.Read(b.dir)
	b.must(err)
	t.Logf("%d points recorded in %.2f s, %d bytes", points, time.Since(began).Seconds(), info.Size)
	began = time.Now()
	b.sendKilling(points/tracking.MaxBatchSize, func() {
		if kill == "" {
			b.down.Store(true)
			time.Sleep(20 * time.Millisecond)
			b.down.Store(false)
			return
		}
		if text, err := exec.Command("bash", "-c", kill).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, text)
		}
		t.Logf("killed and restarted after %.0f s", time.Since(began).Seconds())
	})
	t.Logf("sent in %.1f s: %.0f points/s", time.Since(began).Seconds(), float64(points)/time.Since(began).Seconds())
	b.allArrived(steps, metrics)
}

// sendKilling sends so many batches, and has the server killed beside the first of them behind a fifth, a half and four fifths.
func (b *bench) sendKilling(batches int, kill func()) {
	b.Helper()
	at := []int{batches / 5, batches / 2, batches * 4 / 5}
	var mu sync.Mutex
	seen, killed := 0, 0
	var killing sync.WaitGroup
	b.proxy.Set(func(_ http.ResponseWriter, r *http.Request, _ int, _ http.Handler) bool {
		if b.down.Load() {
			panic(http.ErrAbortHandler)
		}
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/log-batch") {
			if seen++; killed < len(at) && seen > at[killed] {
				killed++
				killing.Go(kill)
			}
		}
		return false
	})
	failures := 0
	for {
		err := b.sender.Send(b.Context(), b.dir)
		var e *tracking.Error
		if err == nil {
			break
		}
		if failures++; !errors.As(err, &e) || !e.Passing() || failures > 10000 {
			b.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	killing.Wait()
	b.proxy.Set(nil)
	if killed != len(at) {
		b.Errorf("the server was killed %d times, want %d", killed, len(at))
	}
	b.Logf("sending broke off %d times", failures)
}

func (b *bench) allArrived(steps, metrics int) {
	b.Helper()
	run := b.run("lora")
	for i := range metrics {
		name := fmt.Sprintf("train/m%d", i)
		rows, err := b.client.History(b.Context(), run.Info.ID, name)
		b.must(err)
		seen := make([]bool, steps)
		for _, row := range rows {
			if row.Step < 0 || row.Step >= int64(steps) || seen[row.Step] || row.Value != float64(row.Step)+float64(i)/float64(metrics) {
				b.Fatalf("%s has %v of step %d, or has it twice", name, row.Value, row.Step)
			}
			seen[row.Step] = true
		}
		if len(rows) != steps {
			b.Fatalf("%s has %d rows, want %d", name, len(rows), steps)
		}
	}
}
