package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// UsageError is a command that asks for what the pipeline does not have: an unknown target, say.
type UsageError struct{ Message string }

func (e *UsageError) Error() string { return e.Message }

func usage(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// CommandError is what a stage returns when a command that it ran failed.
type CommandError struct {
	Command string // as a person would type it
	Err     error  // "exit status 3"
}

func (e *CommandError) Error() string { return e.Err.Error() }
func (e *CommandError) Unwrap() error { return e.Err }

// timeoutError is an attempt that its stage's timeout ended.
type timeoutError struct {
	limit time.Duration
	err   error
}

func (e *timeoutError) Error() string { return fmt.Sprintf("timed out after %s", e.limit) }
func (e *timeoutError) Unwrap() error { return e.err }

// StageFailure is a stage that did not succeed, with all that a person needs to find out why.
type StageFailure struct {
	Stage   string
	Err     error
	Command string    // of shell stages
	Log     string    // the file that holds the whole log, relative to the workspace; "" if the stage never started
	Tail    []string  // the log's last lines
	Moved   string    // where the outputs it left lie now, relative to the workspace; "" if it left none
	Sandbox string    // of a confined stage: what it may read and write
	Range   hcl.Range // the block
}

func (e *StageFailure) Error() string { return fmt.Sprintf("stage %s: %v", e.Stage, e.Err) }
func (e *StageFailure) Unwrap() error { return e.Err }

// FailedError says which stages of a run failed. Its failures were reported as events before.
type FailedError struct {
	Failures []*StageFailure
	Blocked  int // stages that were not tried: they need one of these, or nothing was started any more
}

func (e *FailedError) Error() string {
	names := make([]string, len(e.Failures))
	for i, f := range e.Failures {
		names[i] = f.Stage
	}
	text := fmt.Sprintf("%s failed: %s", plural(len(names), "stage"), strings.Join(names, ", "))
	if e.Blocked > 0 {
		text += fmt.Sprintf("; %s not tried", plural(e.Blocked, "stage"))
	}
	return text
}

// Unwrap gives the failures, so that errors.Is finds a damaged object behind one of them.
func (e *FailedError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f
	}
	return errs
}

// plural is "1 stage", "2 stages".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// writeError explains a failure to write into the workspace once, for all places that may meet it.
func writeError(dir string, err error) error {
	switch {
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the workspace %s cannot be written to (lpipe keeps its state in .lpipe there, and outputs at their paths): %w", dir, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("the disk that holds %s is full; free some space (lpipe gc shows what can go) and run again: %w", dir, err)
	}
	return err
}
