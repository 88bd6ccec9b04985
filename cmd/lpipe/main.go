// Command lpipe builds fine-tuning pipelines: it reads pipeline.hcl, skips what is known and runs the rest.
//
// Read app.go for the commands, args.go for how their flags are found, project.go for how a command gets
// at pipeline, cache and remote, exit.go for what an error becomes. Every subcommand has a file of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"lpipe/runner/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		fmt.Fprintln(os.Stderr, "lpipe sandbox:", sandbox.Main(os.Args[2:], os.Environ()))
		os.Exit(126) // as shells do for what cannot be executed
	}
	p := &program{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		lookupEnv: os.LookupEnv, environ: os.Environ,
		terminal: isTerminal(os.Stderr), resultTerminal: isTerminal(os.Stdout),
	}
	p.collector = collectLater()
	ctx, stop := interruptible(context.Background())
	code := p.run(ctx, os.Args)
	stop()
	os.Exit(code)
}

// interrupted is the cause of a context that a signal cancelled.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return "interrupted by " + unix.SignalName(i.signal) }

// interruptible returns a context that the first SIGINT, SIGTERM or SIGHUP cancels with the cause
// interrupted. Running stages then have their grace; a second signal ends the program at once (stages die
// with it, see runner).
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel(interrupted{s.(syscall.Signal)})
		case <-done:
			return
		}
		select {
		case s := <-signals:
			os.Exit(128 + int(s.(syscall.Signal)))
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(signals); close(done); cancel(nil) }
}
