package stages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/runner"
)

// A line that needs no shell does the same without one: the same output, the same variables, the same end.
func TestDirectIsWhatTheShellDoes(t *testing.T) {
	for _, test := range []struct {
		line   string
		direct bool
	}{
		{"cat in.txt in.txt", true},
		{"  cat\tin.txt \n", true},
		{"cat -- in.txt missing.txt", true},
		{"env", true},
		{"./script in.txt", true},
		{"./unmarked in.txt", true}, // no first line: the kernel refuses it, the shell reads it
		{"no-such-program in.txt", true},
		{"./missing", true},
		{"./plain.txt", true}, // not executable
		{"cat in.txt > out.txt", false},
		{"cat 'in.txt'", false},
		{"cat *.txt", false},
		{"cat ~", false},
		{"cat $HOME", false},
		{"X=1 env", false},
		{"echo -e a", false},
		{"cat in.txt\ncat in.txt", false},
		{"cat in.txt # twice", false},
		{"exit 3", false},
	} {
		t.Run(test.line, func(t *testing.T) {
			words := Shell().New().(*shell)
			words.Command.line = test.line
			if got := words.direct(&runner.Env{}) != nil; got != test.direct {
				t.Errorf("direct: %v", got)
			}
			fast, slow := runBeside(t, test.line, standardShell()), runBeside(t, test.line, []string{"/bin/sh", "-ec"})
			if fast != slow {
				t.Errorf("without a shell:\n%s\nwith one:\n%s", fast, slow)
			}
		})
	}
	exported := &runner.Env{Environ: []string{"BASH_FUNC_cat%%=() { echo mine; }"}}
	confined := &runner.Env{Confine: func(*exec.Cmd) (func(), error) { return func() {}, nil }}
	here := &runner.Env{Environ: []string{"PATH=tools:/usr/bin:/bin"}}
	s := &shell{Command: command{line: "cat in.txt"}, Shell: standardShell()}
	if s.direct(exported) != nil || s.direct(confined) != nil || s.direct(here) != nil {
		t.Error("exported functions, sandboxes and folders relative to where it runs need the shell")
	}
}

// runBeside runs a line in a folder of its own and tells all that can be seen of it.
func runBeside(t *testing.T, line string, sh []string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w")
	os.Mkdir(dir, 0o777)
	for name, text := range map[string]string{"in.txt": "in\n", "plain.txt": "", "script": "#!/bin/sh\necho script $1\n", "unmarked": "echo unmarked $1\n"} {
		mode := os.FileMode(0o755)
		if strings.HasSuffix(name, ".txt") {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	env := &runner.Env{
		Dir: dir, Log: log, Environ: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "A=b c"}, Spawned: func(int) func() { return func() {} },
		Out: map[string]string{"o": filepath.Join(dir, "out.txt")},
	}
	s := &shell{Command: command{line: line}, Shell: sh}
	ended := s.Run(t.Context(), env)
	text, _ := os.ReadFile(log.Name())
	lines := strings.Split(strings.ReplaceAll(string(text), dir, "DIR"), "\n")
	slices.Sort(lines)
	return fmt.Sprint(strings.Join(lines, "\n"), "\n", ended)
}
