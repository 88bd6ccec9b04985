package crash

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const many = `
stage "shell" "same" {
  in      = { text = "same.txt" }
  out     = { text = "build/same.txt" }
  command = "cat same.txt same.txt > build/same.txt"
}
stage "shell" "own" {
  in      = { text = "own.txt" }
  out     = { all = "build/own/" }
  command = "mkdir -p build/own; sleep 0.02; cat ${stage.same.text} own.txt > build/own/x; cp own.txt build/own/y"
}
stage "shell" "last" {
  out     = { text = "build/last.txt" }
  command = "cat ${stage.own.all}/x ${stage.own.all}/y > build/last.txt"
}
`

// TestManyProjects lets ten projects share one cache, all at work at once, again and again, while a gc that knows no
// mercy (no grace period, no size left) goes over it: what is on record for one of them is in the cache afterwards.
func TestManyProjects(t *testing.T) {
	p := newPlace(t, buildProgram(t))
	p.env = []string{"LPIPE_CACHE=" + filepath.Join(p.root, "cache")}
	const projects, rounds = 10, 3
	for i := range projects {
		folder := fmt.Sprintf("p%d", i)
		for name, text := range map[string]string{"pipeline.hcl": many, "same.txt": "same\n", "own.txt": fmt.Sprintln("own", i/2)} {
			if err := p.write(folder+"/"+name, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	done := make(chan struct{})
	var workers, collector sync.WaitGroup
	collections := 0
	collector.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if s, err := p.run("p0", "gc", "--delete", "--max-size", "1B", "--lock-timeout", "1m"); err != nil || s.code != 0 {
				t.Errorf("gc: %v %s", err, s)
			}
			collections++
			time.Sleep(5 * time.Millisecond)
		}
	})
	for i := range projects {
		workers.Go(func() {
			folder := fmt.Sprintf("p%d", i)
			for round := range rounds {
				if s, err := p.run(folder, "repro", "--lock-timeout", "1m"); err != nil || s.code != 0 {
					t.Errorf("%s: %v %s", folder, err, s)
				}
				if round < rounds-1 {
					if err := p.write(folder+"/own.txt", fmt.Sprintln("own", i/2, round%2)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	workers.Wait()
	close(done)
	collector.Wait()
	t.Logf("%d collections", collections)
	for i := range projects {
		folder := fmt.Sprintf("p%d", i)
		if err := os.RemoveAll(filepath.Join(p.root, folder, "build")); err != nil {
			t.Fatal(err)
		}
		out, err := p.must(folder, "repro", "--json")
		if err != nil || !strings.Contains(out, `"ran":0,"reused":3`) || strings.Contains(out, "warning") {
			t.Errorf("%s: not everything on record was in the cache: %v\n%s", folder, err, out)
		}
	}
	if _, err := p.must("p0", "fsck", "--full"); err != nil {
		t.Error(err)
	}
}

// TestTwoAtOnce: the second of two repro in one project waits, says for whom, and then finds everything done. The lock
// of one that was killed is free at once.
func TestTwoAtOnce(t *testing.T) {
	p := newPlace(t, buildProgram(t))
	text := "stage \"shell\" \"slow\" {\n  out     = { a = \"build/a\" }\n  command = \"touch started; until [ -e go ]; do sleep 0.01; done; echo a > build/a\"\n}\n"
	if err := p.write("project/pipeline.hcl", text); err != nil {
		t.Fatal(err)
	}
	for _, kill := range []bool{true, false} {
		os.Remove(filepath.Join(p.root, "project/started"))
		first := p.command("project", "repro")
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if _, err := os.Stat(filepath.Join(p.root, "project/started")); err == nil {
				break
			}
		}
		if kill {
			first.Process.Kill()
			first.Wait()
			if out, err := p.must("project", "status"); err != nil {
				t.Errorf("after kill -9: %v\n%s", err, out)
			}
			continue
		}
		second, err := p.runUntil("waiting for", func() error { return p.write("project/go", "") }, "project", "repro", "--json")
		if err != nil || second.code != 0 || !strings.Contains(second.stdout, `"ran":0,"reused":1`) ||
			!strings.Contains(second.stderr, fmt.Sprintf("waiting for process %d", first.Process.Pid)) {
			t.Errorf("the second: %v %s", err, second)
		}
		if err := errors.Join(p.write("project/go", ""), first.Wait()); err != nil {
			t.Error(err)
		}
	}
}
