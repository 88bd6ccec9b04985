package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// readLine tells what the arguments after the program's name are. It is needed because flags may stand anywhere on an lpipe command
// line, while urfave/cli stops looking for flags at the first word that is none: it gets the line that assemble makes.
func readLine(app *cli.App, args []string) (commandLine, error) {
	a := arranger{app: app, any: map[string]bool{}, value: true}
	a.collect(app.Flags)
	a.collectCommands(app.Commands)
	line, err := a.sort(args)
	if err != nil || line.command == nil {
		// A flag before the command that takes a value in one command and none in another: the other reading.
		a.value = false
		if second, err2 := a.sort(args); err2 == nil && second.command != nil {
			line, err = second, nil
		}
	}
	return line, err
}

// An arranger knows which flags there are; a table's value says whether a flag takes a value.
type arranger struct {
	app    *cli.App
	any    map[string]bool // of all commands; where they differ, what `value` says
	differ map[string]bool
	value  bool
}

// commandLine is a sorted command line.
type commandLine struct {
	path    []string
	command *cli.Command // the last of path; nil: none was named
	flags   []flagUse
	targets []string
}

type flagUse struct {
	name string // without dashes
	text []string
}

// sort tells flags, with their values, from the command's words and from targets. What follows "--" is a target
// whatever it looks like. From the command's word on its own flags are known exactly.
func (a arranger) sort(args []string) (line commandLine, err error) {
	local := map[string]bool{}
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			line.targets = append(line.targets, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if c := line.next(a.app, arg); c != nil {
				line.path, line.command, local = append(line.path, arg), c, flagTable(c.Flags)
			} else {
				line.targets = append(line.targets, arg)
			}
			continue
		}
		use, value, err := a.flag(arg, local)
		if err != nil {
			return line, err
		}
		if value {
			if i+1 == len(args) {
				line.flags = append(line.flags, use)
				return line, fmt.Errorf("flag %s needs a value", arg)
			}
			i++
			use.text = append(use.text, args[i])
		}
		line.flags = append(line.flags, use)
	}
	return line, nil
}

// tooMany is the error of a line with targets for a command that takes none, as its lack of an ArgsUsage says.
func (l *commandLine) tooMany() error {
	c := l.command
	if c == nil || c.ArgsUsage != "" || c.SkipFlagParsing || len(l.targets) == 0 {
		return nil
	}
	name := strings.Join(l.path, " ")
	return usagef("%s takes no arguments, and %q is one; lpipe help %s lists its flags", name, l.targets[0], name)
}

// strange is the error of a line with a flag that its command does not have.
func (l *commandLine) strange(global []cli.Flag) error {
	c := l.command
	if c == nil || c.SkipFlagParsing {
		return nil
	}
	table := flagTable(slices.Concat(c.Flags, global))
	name := strings.Join(l.path, " ")
	for _, f := range l.flags {
		if !has(table, f.name) {
			return usagef("%s has no flag %s%s; lpipe help %s lists its flags", name, f.text[0], didYouMean("--"+f.name, longNames(table)), name)
		}
	}
	return nil
}

// next is the command that a word names where no target stands yet, or nil.
func (l *commandLine) next(app *cli.App, word string) *cli.Command {
	switch {
	case len(l.targets) > 0:
		return nil
	case l.command == nil:
		return findCommand(app.Commands, word)
	}
	return findCommand(l.command.Subcommands, word)
}

// flag reads one flag; value says that the next argument is its value.
func (a arranger) flag(arg string, local map[string]bool) (use flagUse, value bool, err error) {
	name, _, joined := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	value, known := local[name]
	if !known {
		value, known = a.any[name]
		if a.differ[name] {
			value = a.value
		}
	}
	if !known && !strings.HasPrefix(arg, "--") && len(name) > 1 && !joined && a.any[name[:1]] { // -j4
		return flagUse{name[:1], []string{"-" + name[:1], name[1:]}}, false, nil
	}
	if !known {
		return use, false, fmt.Errorf("unknown flag %s%s", arg, didYouMean("--"+name, longNames(a.any)))
	}
	return flagUse{name, []string{arg}}, value && !joined, nil
}

// longNames lists the flags of a table as they are typed.
func longNames(table map[string]bool) []string {
	var all []string
	for name := range table {
		if len(name) > 1 {
			all = append(all, "--"+name)
		}
	}
	slices.Sort(all)
	return all
}

func (a *arranger) collect(flags []cli.Flag) {
	for name, value := range flagTable(flags) {
		if before, ok := a.any[name]; ok && before != value {
			if a.differ == nil {
				a.differ = map[string]bool{}
			}
			a.differ[name] = true
		}
		a.any[name] = value
	}
}

func (a *arranger) collectCommands(commands []*cli.Command) {
	for _, c := range commands {
		a.collect(c.Flags)
		a.collectCommands(c.Subcommands)
	}
}

// assemble writes the line anew. A flag that the command has goes to the command, else to the program.
func (l commandLine) assemble(program string, global map[string]bool) []string {
	local := map[string]bool{}
	if l.command != nil {
		local = flagTable(l.command.Flags)
	}
	out := []string{program}
	for _, f := range l.flags {
		if !has(local, f.name) && has(global, f.name) {
			out = append(out, f.text...)
		}
	}
	out = append(out, l.path...)
	for _, f := range l.flags {
		if has(local, f.name) || !has(global, f.name) {
			out = append(out, f.text...)
		}
	}
	if len(l.targets) > 0 && len(l.path) > 0 {
		out = append(out, "--")
	}
	return append(out, l.targets...)
}

func has(table map[string]bool, name string) bool { _, ok := table[name]; return ok }

// flagTable returns every name of the flags, and whether it takes a value. Every command has --help.
func flagTable(flags []cli.Flag) map[string]bool {
	table := map[string]bool{"help": false, "h": false}
	for _, f := range flags {
		value := true
		if d, ok := f.(cli.DocGenerationFlag); ok {
			value = d.TakesValue()
		}
		for _, name := range f.Names() {
			table[name] = value
		}
	}
	return table
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
