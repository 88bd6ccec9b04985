package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watched is an `lpipe watch` that runs in process.
type watched struct {
	t    *testing.T
	dir  string
	end  context.CancelCauseFunc
	code chan int

	mu  sync.Mutex
	out bytes.Buffer
}

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

func startWatch(t *testing.T, pipeline string, files map[string]string) *watched {
	t.Helper()
	w := &watched{t: t, dir: t.TempDir(), code: make(chan int, 1)}
	w.write("pipeline.hcl", pipeline)
	for name, text := range files {
		w.write(name, text)
	}
	var ctx context.Context
	ctx, w.end = context.WithCancelCause(t.Context())
	p := &program{stdin: strings.NewReader(""), stdout: w, stderr: w,
		lookupEnv: func(name string) (string, bool) { return "", false },
		environ:   func() []string { return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir} }}
	go func() { w.code <- p.run(ctx, []string{"lpipe", "-C", w.dir, "watch", "--interval", "20ms"}) }()
	return w
}

func (w *watched) write(name, text string) {
	w.t.Helper()
	at := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(at+".new", []byte(text), 0o666); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(at+".new", at); err != nil {
		w.t.Fatal(err)
	}
}

// until waits for text that was not there when the last until returned, and gives what came up to it.
func (w *watched) until(text string) string {
	w.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		w.mu.Lock()
		all := w.out.String()
		if i := strings.Index(all, text); i >= 0 {
			w.out.Next(i + len(text))
			w.mu.Unlock()
			return all[:i+len(text)]
		}
		w.mu.Unlock()
	}
	w.t.Fatalf("%q did not come; there is:\n%s", text, w.out.String())
	return ""
}

func TestWatchRunsWhatChanged(t *testing.T) {
	const pipeline = `
stage "shell" "one" {
  in      = { data = "data" }
  code    = ["one.sh"]
  out     = { text = "build/one.txt" }
  command = "sh one.sh"
}
`
	w := startWatch(t, pipeline, map[string]string{"data/a": "1\n", "data/b": "2\n", "one.sh": "cat data/* > build/one.txt\n"})
	w.until("watching 2 paths")
	if now, err := os.ReadFile(filepath.Join(w.dir, "build", "one.txt")); err != nil || string(now) != "1\n2\n" {
		t.Fatalf("after the start: %q, %v", now, err)
	}
	w.write("data/a", "3\n")
	if text := w.until("watching"); !strings.Contains(text, "changed: data/a\n") || !strings.Contains(text, "ran    one") {
		t.Errorf("after a file within a folder changed:\n%s", text)
	}
	w.write("one.sh", "false\n")
	if text := w.until("watching"); !strings.Contains(text, "changed: one.sh\n") || !strings.Contains(text, "failed one") {
		t.Errorf("a failed stage does not end it:\n%s", text)
	}
	w.write("pipeline.hcl", "stage {")
	w.until("pipeline.hcl line 1")
	w.write("pipeline.hcl", strings.Replace(pipeline, "sh one.sh", "cp data/b build/one.txt", 1))
	if text := w.until("watching"); !strings.Contains(text, "changed: stage one\n") || !strings.Contains(text, "ran    one") {
		t.Errorf("after the pipeline changed:\n%s", text)
	}
	w.end(interrupted{syscall.SIGINT})
	if code := <-w.code; code != 0 {
		t.Errorf("ended while waiting: exit code %d, want 0", code)
	}
}

func TestWatchEndedWhileAStageRuns(t *testing.T) {
	w := startWatch(t, `
stage "shell" "long" {
  out     = { text = "long.txt" }
  command = "exec sleep 60"
}
`, nil)
	w.until("start  long")
	w.end(interrupted{syscall.SIGINT})
	if code := <-w.code; code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
}
