package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Verdict is what becomes of a call.
type Verdict struct {
	Errno syscall.Errno // not 0: the call fails with it and is not run
	Kill  bool          // SIGKILL for the program alone; its children live on as long as they may
	Cut   bool          // power: the program and all its children end at once
}

// Watch says what Run looks at.
type Watch struct {
	Root  string                       // calls that change something below it count
	Reads bool                         // opening files for reading counts, too
	Disk  *Disk                        // told of syncs; nil: nobody is. No call syncs in truth
	Act   func(n int, c *Call) Verdict // called for each call, n counts from 1; nil lets all pass
}

// Ended is how a program ended.
type Ended struct {
	Code           int // -1: by a signal
	Stdout, Stderr string
	Calls          []string // all that counted, in order
	Disturbed      bool     // Act killed, cut or let fail
}

// Run runs a program under watch until it and all that it started have ended.
func Run(ctx context.Context, cmd *exec.Cmd, w Watch) (Ended, error) {
	var out, errOut bytes.Buffer
	stdout, err := outputFile()
	if err != nil {
		return Ended{}, err
	}
	defer stdout.Close()
	stderr, err := outputFile()
	if err != nil {
		return Ended{}, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr // files: a pipe would wait for children that live on
	l, err := startFiltered(cmd, w.Reads)
	if err != nil {
		return Ended{}, fmt.Errorf("start %s under a seccomp filter: %w", cmd.Args[0], err)
	}
	defer unix.Close(int(l))
	waited := make(chan struct{})
	go func() { defer close(waited); cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { endAll(cmd.Process.Pid) })
	defer stop()
	s := supervisor{Watch: w, l: l, main: cmd.Process.Pid, forms: forms()}
	err = s.loop()
	if err != nil {
		endAll(cmd.Process.Pid)
	}
	<-waited
	for file, b := range map[*os.File]*bytes.Buffer{stdout: &out, stderr: &errOut} {
		if _, wrong := file.Seek(0, 0); wrong == nil {
			b.ReadFrom(file)
		}
	}
	ended := Ended{cmd.ProcessState.ExitCode(), out.String(), errOut.String(), s.calls, s.disturbed}
	return ended, errors.Join(err, ctx.Err())
}

// outputFile is a file without a name.
func outputFile() (*os.File, error) {
	f, err := os.CreateTemp("", "crash-output-*")
	if err == nil {
		os.Remove(f.Name())
	}
	return f, err
}

type supervisor struct {
	Watch
	l         listener
	main      int
	forms     map[int]form
	calls     []string
	disturbed bool
	dark      bool // the power is off: nothing is answered any more
}

// loop answers one call after the other, until nobody is left who could make one.
func (s *supervisor) loop() error {
	for {
		var n notification
		more, err := s.l.next(&n)
		if err != nil || !more {
			return err
		}
		if s.dark {
			continue
		}
		if err := s.one(&n); err != nil {
			return err
		}
	}
}

func (s *supervisor) one(n *notification) error {
	f := s.forms[int(n.number)]
	call, err := f.read(int(n.pid), n.args)
	if err != nil || !s.inside(call) {
		s.l.answer(n.id, true, 0) // not ours; or killed, or a bad pointer: the kernel says so
		return nil
	}
	_, err = os.Stat(fmt.Sprintf("/proc/%d/task/%d", s.main, n.pid))
	call.Main = err == nil
	s.calls = append(s.calls, call.String())
	var v Verdict
	if s.Act != nil {
		v = s.Act(len(s.calls), call)
	}
	switch {
	case v.Cut:
		s.disturbed, s.dark = true, true
		endAll(s.main)
	case v.Kill:
		s.disturbed = true
		syscall.Kill(s.main, syscall.SIGKILL)
	case v.Errno != 0:
		s.disturbed = true
		s.l.answer(n.id, false, v.Errno)
	case call.effect&(syncs|syncsAll) != 0:
		if s.Disk != nil {
			err = s.Disk.sync(call)
		}
		s.l.answer(n.id, false, 0)
		return err
	default:
		s.l.answer(n.id, true, 0)
	}
	return nil
}

// inside tells whether a call changes something below the root.
func (s *supervisor) inside(c *Call) bool {
	for _, path := range c.Paths {
		if path == s.Root || strings.HasPrefix(path, s.Root+"/") {
			return true
		}
	}
	return false
}

// endAll kills a process and all its descendants: stopped first, it starts no more of them.
func endAll(pid int) {
	syscall.Kill(pid, syscall.SIGSTOP)
	for _, child := range children(pid) {
		endAll(child)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func children(pid int) (list []int) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if id, err := strconv.Atoi(field); err == nil {
				list = append(list, id)
			}
		}
	}
	return list
}
