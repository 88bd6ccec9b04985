package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lpipe/runner"
)

// Shell runs a command. It is the one kind that writes at its outputs' own paths, since only the command knows how it
// names them.
func Shell() *runner.Kind {
	return &runner.Kind{
		Name:    "shell",
		Doc:     "runs a command of your own",
		Version: 1,
		InPlace: true,
		New:     func() runner.Stage { return &shell{Shell: standardShell()} },
	}
}

type shell struct {
	Command command  `hcl:"command" doc:"a line for the shell, or a list that runs without one"`
	Shell   []string `hcl:"shell,optional" doc:"the program that gets the line as its last argument"`
	Dir     string   `hcl:"dir,optional" doc:"the folder to run in; references are relative to it"`
}

// command is a line for the shell or, as a list, a program and its arguments.
type command struct {
	line string
	args []string // nil: line counts
}

// UnmarshalJSON takes a string or a list of strings.
func (c *command) UnmarshalJSON(text []byte) error {
	*c = command{}
	if json.Unmarshal(text, &c.line) == nil {
		return nil
	}
	if json.Unmarshal(text, &c.args) == nil && c.args != nil {
		return nil
	}
	return errors.New("a command is a string, or a list of strings")
}

// MarshalJSON gives what UnmarshalJSON takes.
func (c command) MarshalJSON() ([]byte, error) {
	if c.args != nil {
		return json.Marshal(c.args)
	}
	return json.Marshal(c.line)
}

// Check wants something to run.
func (s *shell) Check() error {
	switch {
	case s.Command.args == nil && strings.TrimSpace(s.Command.line) == "":
		return errors.New("command: it is empty; write what to run")
	case s.Command.args != nil && (len(s.Command.args) == 0 || s.Command.args[0] == ""):
		return errors.New("command: the list must begin with a program")
	case s.Command.args == nil && (len(s.Shell) == 0 || s.Shell[0] == ""):
		return errors.New(`shell: the list must begin with a program, like ["bash", "-e", "-c"]`)
	}
	return nil
}

// argv is what runs, shown what a person would type.
func (s *shell) argv() (argv []string, shown string) {
	if s.Command.args != nil {
		words := make([]string, len(s.Command.args))
		for i, word := range s.Command.args {
			words[i] = quoteWord(word)
		}
		return s.Command.args, strings.Join(words, " ")
	}
	return append(append([]string{}, s.Shell...), s.Command.line), s.Command.line
}

var plainWord = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`) })

func quoteWord(word string) string {
	if plainWord().MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// grace is how long a command may take to end after it was asked to.
const grace = 10 * time.Second

// Run starts the command in a process group of its own and sees to it that nothing of the group is left when it
// returns.
func (s *shell) Run(ctx context.Context, env *runner.Env) error {
	argv, shown := s.argv()
	log, drain, err := logFile(env.Log, stragglers)
	if err != nil {
		return err
	}
	cmd, confined, err := s.start(env, argv, log)
	if err == nil {
		err = s.wait(ctx, env, cmd)
		confined()
	}
	drain()
	if err != nil {
		return &runner.CommandError{Command: shown, Err: err}
	}
	return nil
}

// start runs the line without a shell where that is the same. Whatever keeps it from starting so – no such program, a
// script that does not say who reads it – is left to the shell, which knows what to do or to say.
func (s *shell) start(env *runner.Env, argv []string, log *os.File) (cmd *exec.Cmd, confined func(), err error) {
	dir := s.Dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(env.Dir, dir)
	}
	environ := slices.Concat(env.Environ, names(dir, env))
	if words := s.direct(env); words != nil {
		cmd, confined, err := begin(env, words, dir, append(environ, "PWD="+dir), log) // PWD is what shells add
		if err == nil {
			return cmd, confined, nil
		}
	}
	return begin(env, argv, dir, environ, log)
}

// begin starts a command and returns what is to be called when it has ended.
func begin(env *runner.Env, argv []string, dir string, environ []string, log *os.File) (cmd *exec.Cmd, confined func(), err error) {
	program, err := findProgram(argv[0], dir, env.Environ)
	if err != nil {
		return nil, nil, err
	}
	cmd = &exec.Cmd{Path: program, Args: argv, Dir: dir, Env: environ, SysProcAttr: ownGroup(), Stdout: log, Stderr: log}
	confined = func() {}
	if env.Confine != nil {
		if confined, err = env.Confine(cmd); err != nil {
			return nil, nil, err
		}
	}
	if err := cmd.Start(); err != nil {
		confined()
		return nil, nil, err
	}
	return cmd, confined, nil
}

// wait waits for the command to end, or ends it when ctx does.
//
// The kernel kills the command when the thread that started it ends. Go ends a thread only when a goroutine ends that
// is locked to it, and there is none such in lpipe.
func (s *shell) wait(ctx context.Context, env *runner.Env, cmd *exec.Cmd) error {
	group := cmd.Process.Pid
	gone := env.Spawned(group)
	defer gone()
	defer syscall.Kill(-group, syscall.SIGKILL) // what it left in the background
	ended, asked := make(chan struct{}), make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(asked)
		syscall.Kill(-group, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(grace):
			syscall.Kill(-group, syscall.SIGKILL)
		}
	})
	err := cmd.Wait()
	close(ended)
	if !stop() {
		<-asked
		return context.Cause(ctx)
	}
	return describeExit(err)
}

func describeExit(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		text := fmt.Sprintf("it was killed by signal %d (%s)", status.Signal(), status.Signal())
		if status.Signal() == syscall.SIGKILL {
			text += "; if nobody did that, the machine may have run out of memory"
		}
		return errors.New(text)
	}
	return fmt.Errorf("exit status %d", exit.ExitCode())
}

// findProgram looks in the PATH that the command will have, not in ours.
func findProgram(name, dir string, environ []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if strings.Contains(name, "/") {
		return filepath.Join(dir, name), nil
	}
	for _, pair := range environ {
		path, is := strings.CutPrefix(pair, "PATH=")
		if !is {
			continue
		}
		for _, folder := range filepath.SplitList(path) {
			at := filepath.Join(folder, name)
			if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return at, nil
			}
		}
	}
	return "", fmt.Errorf("%s: not found in PATH", name)
}

// names tells the command its inputs' and outputs' paths, relative to where it runs.
func names(dir string, env *runner.Env) []string {
	var vars []string
	relative := func(at string) string {
		if rel, err := filepath.Rel(dir, at); err == nil {
			return rel
		}
		return at
	}
	for port, inputs := range env.In {
		if port == "" {
			continue // a bare reference has no name
		}
		name, paths := "LPIPE_IN_"+variable(port), make([]string, len(inputs))
		for i, in := range inputs {
			paths[i] = relative(in.Path)
			if in.Name != "" {
				vars = append(vars, name+"_"+variable(in.Name)+"="+paths[i])
			} else if len(inputs) > 1 {
				vars = append(vars, name+"_"+strconv.Itoa(i)+"="+paths[i])
			}
		}
		vars = append(vars, name+"="+strings.Join(paths, "\n"))
	}
	for name, at := range env.Out {
		vars = append(vars, "LPIPE_OUT_"+variable(name)+"="+relative(at))
	}
	return vars
}

var notInVariable = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[^A-Za-z0-9_]`) })

func variable(name string) string { return notInVariable().ReplaceAllString(name, "_") }

// stragglers is how long a process that left the group may go on to write into the log of a command that ended.
const stragglers = time.Second

// logFile is what the command writes to: the log itself where that is a file, else a pipe into it. drain waits until
// all that came through the pipe is in the log, and no longer than patience for a process that holds the pipe open.
func logFile(log io.Writer, patience time.Duration) (file *os.File, drain func(), err error) {
	if f, ok := log.(*os.File); ok {
		return f, func() {}, nil
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, err := io.Copy(log, reader) // an error of the log shows when the runner flushes it
		if errors.Is(err, os.ErrDeadlineExceeded) {
			copyRest(log, reader)
		}
	}()
	return writer, func() {
		writer.Close()
		reader.SetReadDeadline(time.Now().Add(patience))
		<-drained
		reader.Close()
	}, nil
}

// copyRest copies what is in a pipe by now: on a busy machine, patience may end before all of it was read.
func copyRest(log io.Writer, pipe *os.File) {
	pipe.SetReadDeadline(time.Time{})
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<20) // no pipe holds more
	n := 0
	raw.Read(func(fd uintptr) bool {
		for n < len(buf) {
			k, err := syscall.Read(int(fd), buf[n:])
			if err == syscall.EINTR {
				continue
			}
			if k <= 0 {
				break
			}
			n += k
		}
		return true
	})
	log.Write(buf[:n])
}
