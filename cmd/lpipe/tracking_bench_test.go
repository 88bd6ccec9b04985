package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking/recorder"
	"lpipe/tracking/spool"
	"lpipe/tracking/trackingtest"
)

// BenchmarkTrackedTraining is what tracking costs a training. The demo's adapter is trained again and again, in turns without a
// tracking block and with one, whose server is a real MLflow; each step tells a hundred numbers. What a step takes is measured by the
// clock, and as processor time of this whole process until all is sent, so that the sender counts. As that differs by more than
// tracking takes from one training to the next, the same events are also recorded and sent with no training beside them.
// tools/bench/tracking.sh runs it.
func BenchmarkTrackedTraining(b *testing.B) {
	block := &runner.TrackingBlock{Type: "mlflow", Experiment: "cost", URI: trackingtest.Server(b, os.Getenv)}
	dir := filepath.Join(b.TempDir(), "demo")
	mustRun(b, "init", "--demo", dir)
	path := filepath.Join(dir, "pipeline.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	short := strings.Replace(string(text), "steps           = 280", fmt.Sprintf("steps = %d\n  eval_every = 0", benchSteps), 1)
	if err := os.WriteFile(path, []byte(short), 0o666); err != nil {
		b.Fatal(err)
	}
	mustRun(b, "-C", dir, "repro", "lora")
	var without, with, alone, empty []stepCost
	for b.Loop() {
		without = append(without, costOf(b, dir, nil, benchSteps, trainOnce))
		with = append(with, costOf(b, dir, block, benchSteps, trainOnce))
		alone = append(alone, costOf(b, dir, block, 1, eventsAlone(benchAlone)))
		empty = append(empty, costOf(b, dir, block, 1, eventsAlone(0)))
	}
	b.ReportMetric(0, "ns/op")
	wall, cpu := func(c stepCost) time.Duration { return c.wall }, func(c stepCost) time.Duration { return c.cpu }
	server := func(c stepCost) time.Duration { return c.server }
	fmt.Printf("| %d trainings of %d steps; ms a step, medians | without tracking | with |\n|---|---|---|\n", len(with), benchSteps)
	fmt.Printf("| by the clock | %.2f | %.2f |\n", median(without, wall), median(with, wall))
	fmt.Printf("| processor time of lpipe | %.2f | %.2f |\n", median(without, cpu), median(with, cpu))
	once := median(empty, cpu)
	each := (median(alone, cpu) - once) / benchAlone
	fmt.Printf("| of that for tracking, by the same events without the training | | %.2f = %.1f %%, and %.0f once a run |\n", each, 100*each/median(without, cpu), once)
	fmt.Printf("| processor time of the server | | %.2f |\n", median(with, server))
}

// Steps of a training, and of events alone.
const (
	benchSteps = 60
	benchAlone = 120
)

// stepCost is what one step took: by the clock, of this process, of the server.
type stepCost struct{ wall, cpu, server time.Duration }

// median is in milliseconds.
func median(costs []stepCost, of func(stepCost) time.Duration) float64 {
	var all []float64
	for _, c := range costs {
		all = append(all, of(c).Seconds()*1000)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

// costOf measures work of so many steps, together with what is recorded and sent of what it reports. Without a block nothing is.
func costOf(b *testing.B, dir string, block *runner.TrackingBlock, steps time.Duration, work func(*testing.B, *project)) stepCost {
	b.Helper()
	p := &program{
		stdin: strings.NewReader(""), stdout: io.Discard, stderr: os.Stderr,
		lookupEnv: func(string) (string, bool) { return "", false }, environ: os.Environ, globals: globals{dir: dir, quiet: true},
	}
	ctx := context.Background()
	pipeline, err := p.decode()
	if err != nil {
		b.Fatal(err)
	}
	pipeline.Tracking = block
	var track *tracked
	var wall time.Duration
	pr, err := p.openPipeline(ctx, pipeline, projectOptions{report: func(e runner.RunEvent) {
		widen(e)
		track.event(e)
		if e.Event == "stage" {
			wall = time.Duration(e.Seconds * float64(time.Second))
		}
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer pr.close(p)
	served, before := serverTime(b), processorTime()
	track = p.track(ctx, pr, "repro", []recorder.Unit{{Dir: dir, Pipeline: pipeline}})
	work(b, pr)
	track.close(ctx, nil)
	cost := stepCost{wall: wall / steps, cpu: (processorTime() - before) / steps}
	cost.server = (serverTime(b) - served) / steps
	if track != nil {
		if info, err := spool.Read(track.spool.Dir()); err != nil || info.Left > 0 {
			b.Errorf("%d bytes were not sent in the time that a command waits: %v", info.Left, err)
		}
	}
	return cost
}

// trainOnce is `lpipe repro --force --only lora`.
func trainOnce(b *testing.B, pr *project) {
	b.Helper()
	if _, err := pr.runner.Repro(context.Background(), runner.ReproOptions{Targets: []string{"lora"}, Only: true, Force: true}); err != nil {
		b.Fatal(err)
	}
}

// eventsAlone reports what a training of so many steps does, at once.
func eventsAlone(steps int) func(*testing.B, *project) {
	return func(_ *testing.B, pr *project) {
		report, key := pr.settings.report, cache.SumKey(time.Now().String())
		report(runner.RunEvent{Event: "start", Stage: "lora", Key: key})
		for step := range steps {
			report(runner.RunEvent{Event: "progress", Stage: "lora", Time: time.Now(),
				Progress: &runner.Event{Done: float64(step + 1), Unit: "steps", Metrics: map[string]float64{"train/loss": 1 / float64(step+1)}}})
		}
		report(runner.RunEvent{Event: "stage", Stage: "lora", How: runner.HowRan, Key: key})
	}
}

// widen adds numbers to those that a step tells, up to a hundred.
func widen(e runner.RunEvent) {
	if e.Event != "progress" || e.Progress == nil || len(e.Progress.Metrics) == 0 {
		return
	}
	for i := len(e.Progress.Metrics); i < 100; i++ {
		e.Progress.Metrics[fmt.Sprintf("train/layers/%d/grad_norm", i)] = e.Progress.Done / float64(i+1)
	}
}

// processorTime is what this process and its ended children took so far.
func processorTime() time.Duration {
	var all time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			all += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return all
}

// serverTime is what the processes of the server's group took so far, which LPIPE_BENCH_SERVER is the number of; 0 without one.
func serverTime(b *testing.B) time.Duration {
	group := os.Getenv("LPIPE_BENCH_SERVER")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	const tick = time.Second / 100
	var all time.Duration
	for _, path := range stats {
		text, _ := os.ReadFile(path) // or it ended since
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		if len(fields) < 13 || fields[2] != group {
			continue
		}
		for _, field := range fields[11:13] {
			n, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			all += time.Duration(n) * tick
		}
	}
	return all
}
