package main

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"lpipe/cache"
	"lpipe/download"
	"lpipe/remote"
	"lpipe/runner"
	"lpipe/tracking"
)

// Exit codes, as the contract with users has them.
const (
	exitDone      = 0
	exitFailed    = 1 // a stage or an operation
	exitUsage     = 2 // wrong usage, invalid pipeline file
	exitFoundWork = 3 // --check
	exitDamaged   = 4
	exitLocked    = 5
	exitRemote    = 6 // remote, network, credentials
)

// usageError is a mistake on the command line.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// shown is an error that has been printed already; only its code is left to say.
type shown struct{ code int }

func (s shown) Error() string { return fmt.Sprintf("exit code %d", s.code) }

// diagnosed carries the mistakes of pipeline files up to explain, which prints them.
type diagnosed struct {
	diags hcl.Diagnostics
	files map[string]*hcl.File
}

func (d diagnosed) Error() string { return d.diags.Error() }

// explain prints what went wrong, once, and returns the exit code.
func (p *program) explain(err error) int {
	var s shown
	var i interrupted
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &s):
		return s.code
	case errors.As(err, &i):
		fmt.Fprintln(p.stderr, i.Error()+"; finished stages are kept, `"+cmp.Or(p.goOn, "lpipe repro")+"` goes on from here")
		return 128 + int(i.signal)
	}
	return p.explainError(err)
}

// errDamaged is cache.ErrDamaged: content that is not what its name says.
var errDamaged = cache.ErrDamaged

// explainError prints an error and chooses its code: the kinds of errors that the contract tells apart.
func (p *program) explainError(err error) int {
	var d diagnosed
	if errors.As(err, &d) {
		if printed := runner.FormatDiagnostics(p.stderr, d.diags, d.files, p.color); printed != nil {
			return exitFailed
		}
		return exitUsage
	}
	var (
		usage   usageError
		ours    *runner.UsageError
		sharing *remote.Error
		fetched *download.Error
		tracked *tracking.Error
	)
	code := exitFailed
	switch {
	case errors.As(err, &usage), errors.As(err, &ours):
		code = exitUsage
	case errors.Is(err, cache.ErrLocked):
		code = exitLocked
	case errors.As(err, &sharing) && sharing.Kind != remote.Damaged, errors.As(err, &fetched) && fetched.Kind != download.Damaged, errors.As(err, &tracked):
		code = exitRemote
	case errors.Is(err, errDamaged), fetched != nil:
		code = exitDamaged
	}
	fmt.Fprintf(p.stderr, "%s %v\n", p.paint(red, "error:"), err)
	return code
}
