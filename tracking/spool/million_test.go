package spool_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"lpipe/tracking"
	"lpipe/tracking/spool"
	"lpipe/tracking/trackingtest"
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
	b.sendKilling(info.Size, func() {
		if kill == "" {
			b.proxy.Set(trackingtest.Down)
			time.AfterFunc(20*time.Millisecond, func() { b.proxy.Set(nil) })
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

// sendKilling sends, and calls kill when a fifth, a half and four fifths are through.
func (b *bench) sendKilling(size int64, kill func()) {
	b.Helper()
	done := make(chan struct{})
	killed := make(chan int)
	go func() {
		count := 0
		defer func() { killed <- count }()
		for _, share := range []float64{0.2, 0.5, 0.8} {
			for float64(spool.ReadSent(b.dir).At) < share*float64(size) {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
			}
			kill()
			count++
		}
	}()
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
	close(done)
	if n := <-killed; n != 3 {
		b.Errorf("the server was killed %d times, want 3", n)
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
