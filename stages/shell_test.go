package stages

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lpipe/runner"
)

// runShell runs a command as the runner would and returns its log.
func runShell(t *testing.T, ctx context.Context, settings string, change func(*runner.Env)) (string, error) {
	t.Helper()
	s := Shell().New().(*shell)
	if err := json.Unmarshal([]byte(settings), &s.Command); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	env := &runner.Env{Dir: dir, Log: log, Environ: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Spawned: func(int) func() { return func() {} }}
	if change != nil {
		change(env)
	}
	err = s.Run(ctx, env)
	data, _ := os.ReadFile(log.Name())
	return string(data), err
}

func TestShellRuns(t *testing.T) {
	for _, test := range []struct{ name, command, log, err, shown string }{
		{"a line", `"echo one; echo two >&2"`, "one\ntwo\n", "", ""},
		{"a list, without a shell", `["printf", "%s|", "a b", "$HOME", "*"]`, "a b|$HOME|*|", "", ""},
		{"the first failure ends it", `"false; echo not reached"`, "", "exit status 1", "false; echo not reached"},
		{"status", `["sh", "-c", "exit 7"]`, "", "exit status 7", "sh -c 'exit 7'"},
		{"signal", `"kill -SEGV $$"`, "", "killed by signal 11", ""},
		{"killed", `"kill -KILL $$"`, "", "out of memory", ""},
		{"no such program", `["no-such-program"]`, "", "no-such-program: not found in PATH", ""},
		{"no input", `"cat; echo end"`, "end\n", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			log, err := runShell(t, t.Context(), test.command, nil)
			if log != test.log {
				t.Errorf("log %q", log)
			}
			if test.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var command *runner.CommandError
			if !errors.As(err, &command) || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v", err)
			}
			if test.shown != "" && command.Command != test.shown {
				t.Errorf("shown as %q", command.Command)
			}
		})
	}
}

func TestShellEndsWhenAsked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	began := time.Now()
	askWhenReady := func(env *runner.Env) {
		go func() {
			for ; time.Since(began) < 30*time.Second; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(filepath.Join(env.Dir, "ready")); err == nil {
					break
				}
			}
			cancel()
		}()
	}
	log, err := runShell(t, ctx, `"trap 'echo asked; exit 0' TERM; sleep 60 & : >ready; wait"`, askWhenReady)
	if !errors.Is(err, context.Canceled) || log != "asked\n" || time.Since(began) > 30*time.Second {
		t.Errorf("%v after %s, log %q", err, time.Since(began), log)
	}
}

func TestShellCommandForms(t *testing.T) {
	for _, text := range []string{`"echo"`, `["echo","a"]`} {
		var c command
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if again, _ := json.Marshal(c); string(again) != text {
			t.Errorf("%s comes back as %s", text, again)
		}
	}
	for _, text := range []string{`1`, `{}`, `[1]`, `null`} {
		var s shell
		err := json.Unmarshal([]byte(text), &s.Command)
		if err == nil {
			err = s.Check()
		}
		if err == nil {
			t.Errorf("%s is taken for a command", text)
		}
	}
	for _, bad := range []*shell{{Command: command{args: []string{}}}, {Command: command{args: []string{""}}}, {Command: command{line: " "}}, {Command: command{line: "x"}}} {
		if bad.Check() == nil {
			t.Errorf("%+v passes the check", bad)
		}
	}
}

// slowLog takes what it is given only after a while.
type slowLog struct {
	strings.Builder
	after time.Duration
}

func (l *slowLog) Write(p []byte) (int, error) {
	time.Sleep(l.after)
	return l.Builder.Write(p)
}

// However late a busy machine comes to read it, all that a command said before its end is in its log; what a process that
// outlives it holds open is not waited for.
func TestLogIsWholeHoweverLate(t *testing.T) {
	log := &slowLog{after: 20 * time.Millisecond}
	file, drain, err := logFile(log, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(kept)
	want := strings.Repeat("what it said\n", 4000) // more than one read, less than a pipe holds
	if _, err := file.WriteString(want); err != nil {
		t.Fatal(err)
	}
	drain()
	if got := log.String(); got != want {
		t.Errorf("%d bytes of %d are in the log", len(got), len(want))
	}
}
