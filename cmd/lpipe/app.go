package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/urfave/cli/v2"
)

// program is one run of lpipe: its streams, its environment, and the global flags.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookupEnv      func(string) (string, bool)
	environ        func() []string
	terminal       bool       // stderr is one
	resultTerminal bool       // stdout is one
	goOn           string     // the command that goes on after an interrupt; "": lpipe repro
	warned         bool       // a warning was printed
	toldMLflow     bool       // that of variables which are not followed
	collector      *collector // nil: memory is collected as Go does

	globals
}

// globals are the flags that every command takes.
type globals struct {
	dir         string
	files       []string
	profile     string
	vars        []string
	varFiles    []string
	device      string
	offline     bool
	lockTimeout time.Duration // 0: wait for ever
	json        bool
	quiet       bool
	verbose     bool
	color       bool // on stderr
	resultColor bool // on stdout
}

// run executes one command line and returns the exit code.
func (p *program) run(ctx context.Context, args []string) int {
	app := p.app()
	line, err := readLine(app, args[1:])
	if err == nil && line.asksHelp() {
		return p.explain(p.help(app, line))
	}
	if strange := line.strange(app.Flags); strange != nil {
		return p.explain(strange)
	}
	if err != nil {
		return p.explain(usageError{err})
	}
	if err := line.tooMany(); err != nil {
		return p.explain(err)
	}
	err = app.RunContext(ctx, line.assemble(args[0], flagTable(app.Flags)))
	if cause := context.Cause(ctx); err != nil && cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	return p.explain(err)
}

func (p *program) app() *cli.App {
	commands := p.commands()
	return &cli.App{
		Name:                      "lpipe",
		Usage:                     "pipelines for fine-tuning language models",
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		HideVersion:               true,
		HideHelp:                  true, // help.go prints it
		DisableSliceFlagSeparator: true,
		Flags:                     globalFlags(),
		Before:                    p.readGlobals,
		Commands:                  commands,
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              onUsageError,
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return p.version(c)
			}
			if c.Args().Len() > 0 {
				return usagef("unknown command %q%s", c.Args().First(), didYouMean(c.Args().First(), commandNames(p.commands())))
			}
			return p.help(c.App, commandLine{})
		},
	}
}

// onUsageError tells a mistake in one line, instead of the library's page of help, and writes the flag as it is typed.
func onUsageError(_ *cli.Context, err error, _ bool) error {
	text := strings.TrimSuffix(err.Error(), ": parse error")
	if before, flag, ok := strings.Cut(text, "for flag -"); ok && len(flag) > 1 && flag[1] != ':' {
		text = before + "for flag --" + flag
	}
	return usageError{errors.New(text)}
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "C", Usage: "run as if started in `DIR`"},
		&cli.StringSliceFlag{Name: "file", Usage: "read this pipeline `FILE` instead of pipeline.hcl and *.pipeline.hcl (again for more)"},
		&cli.StringFlag{Name: "profile", Usage: "use the values, lock and default outputs of profile `P` (or LPIPE_PROFILE)"},
		&cli.StringSliceFlag{Name: "var", Usage: "set a variable: `NAME=VALUE` (HCL for types other than string)"},
		&cli.StringSliceFlag{Name: "var-file", Usage: "read variables from `FILE`"},
		&cli.StringFlag{Name: "device", Usage: "compute on `D`: cpu, cpu:KERNEL (see engine check), cuda, cuda:1 (or LPIPE_DEVICE)"},
		&cli.BoolFlag{Name: "offline", Usage: "ask no remote, download nothing (for downloads also HF_HUB_OFFLINE=1)"},
		&cli.DurationFlag{Name: "lock-timeout", Usage: "give up after `D` when another lpipe works here", DefaultText: "wait"},
		&cli.BoolFlag{Name: "json", Usage: "print results as JSON"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print results and errors only"},
		&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "say more"},
		&cli.BoolFlag{Name: "no-color", Usage: "no colours (or NO_COLOR)"},
		&cli.BoolFlag{Name: "version", Usage: "print the version"},
	}
}

// readGlobals takes the global flags; it runs before every command.
func (p *program) readGlobals(c *cli.Context) error {
	g := &p.globals
	g.dir = c.String("C")
	if g.dir == "" {
		g.dir = "."
	}
	if info, err := os.Stat(g.dir); err != nil || !info.IsDir() {
		return usagef("-C %s: there is no such folder", g.dir)
	}
	g.files, g.vars, g.varFiles = c.StringSlice("file"), c.StringSlice("var"), c.StringSlice("var-file")
	g.profile = p.orEnv(c.String("profile"), "LPIPE_PROFILE")
	g.device = p.orEnv(c.String("device"), "LPIPE_DEVICE")
	g.offline, g.lockTimeout = c.Bool("offline"), c.Duration("lock-timeout")
	g.json, g.quiet, g.verbose = c.Bool("json"), c.Bool("quiet"), c.Bool("verbose")
	_, noColor := p.lookupEnv("NO_COLOR")
	allowed := !noColor && !c.Bool("no-color")
	g.color, g.resultColor = allowed && p.terminal, allowed && p.resultTerminal
	return nil
}

func (p *program) orEnv(value, name string) string {
	if value != "" {
		return value
	}
	value, _ = p.lookupEnv(name)
	return value
}

// getenv is LookupEnv for those who need the value alone.
func (p *program) getenv(name string) string { value, _ := p.lookupEnv(name); return value }

// didYouMean returns `; did you mean "x"?` for the nearest of names, or nothing where none is like the word.
func didYouMean(word string, names []string) string {
	best, distance := "", min(3, 1+len(strings.Trim(word, "-"))/2)
	for _, name := range names {
		if d := levenshtein.Distance(word, name, nil); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		names = append(names, c.Names()...)
	}
	slices.Sort(names)
	return names
}

// say prints a message for the person on stderr, unless quiet.
func (p *program) say(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.stderr, format+"\n", args...)
	}
}

// warn prints a warning on stderr, also when quiet.
func (p *program) warn(format string, args ...any) {
	p.warned = true
	fmt.Fprintln(p.stderr, p.paint(yellow, "warning:"), fmt.Sprintf(format, args...))
}

// result prints a line of the command's result on stdout.
func (p *program) result(format string, args ...any) { fmt.Fprintf(p.stdout, format+"\n", args...) }

// joinNames writes a, b and c.
func joinNames(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// sortedKeys returns a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
