package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/runner/sandbox"
)

// TestMain makes the test binary its own helper.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		fmt.Fprintln(os.Stderr, sandbox.Main(os.Args[2:], os.Environ()))
		os.Exit(126)
	}
	os.Exit(m.Run())
}

func TestOnlyWhatTheRulesGrant(t *testing.T) {
	if err := sandbox.Supported(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"in/a", "other/b", "out/old", "make/old"} {
		at := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o777), os.WriteFile(at, []byte("text\n"), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "other", "b"), filepath.Join(dir, "in", "link")); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	rules := sandbox.Rules{
		Read: []string{"/usr", "/bin", "/lib", "/lib64", "/etc", in("in"), in("no such file")},
		List: []string{dir}, Write: []string{in("out"), "/dev/null"}, Make: []string{in("make")},
	}
	for _, test := range []struct {
		command string
		allowed bool
	}{
		{"cat in/a", true},
		{"cat other/b", false},
		{"cat in/link", false}, // what a link leads to counts
		{"ls . other", true},
		{"echo x > in/a", false},
		{"echo x > in/new", false},
		{"rm in/a", false},
		{"mv in/a out/a", false},
		{"echo x > other/b", false},
		{"cat out/old && echo x >> out/old && mkdir out/d && mv out/old out/d/new && cat out/d/new", true},
		{"echo x > make/new && mv make/new make/newer", true},
		{"cat make/old", false},
		{"sh -c 'cat other/b'", false}, // children, too
		{"cat /dev/null > /dev/null", true},
	} {
		cmd := exec.Command("/bin/sh", "-c", test.command)
		cmd.Dir = dir
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		done, err := sandbox.Wrap(cmd, self, rules)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		done()
		if (err == nil) != test.allowed {
			t.Errorf("%s: %v\n%s", test.command, err, out)
		}
		if err != nil && !test.allowed && !strings.Contains(string(out), "ermission denied") {
			t.Errorf("%s: refused with %q, want permission denied", test.command, out)
		}
	}
}

func TestProgramThatMayNotBeExecuted(t *testing.T) {
	if err := sandbox.Supported(); err != nil {
		t.Skip(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho ran\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script)
	done, err := sandbox.Wrap(cmd, self, sandbox.Rules{Read: []string{"/usr", "/bin", "/lib", "/lib64"}})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "execute "+script+": permission denied") {
		t.Errorf("got %v, %s", err, out)
	}
}
