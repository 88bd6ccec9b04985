package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Category: categoryHelp, Usage: "what lpipe, or one command, does", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			line := commandLine{}
			for _, word := range c.Args().Slice() {
				command := line.next(c.App, word)
				if command == nil {
					return usagef("unknown command %q%s", word, didYouMean(word, commandNames(line.known(c.App))))
				}
				line.path, line.command = append(line.path, word), command
			}
			return p.help(c.App, line)
		},
	}
}

// known lists the commands that may come next.
func (l *commandLine) known(app *cli.App) []*cli.Command {
	if l.command == nil {
		return app.Commands
	}
	return l.command.Subcommands
}

// asksHelp tells whether a line asks for help: by a flag, or by leaving open which of a group's commands it means.
func (l *commandLine) asksHelp() bool {
	asked := slices.ContainsFunc(l.flags, func(f flagUse) bool { return f.name == "help" || f.name == "h" })
	return asked || l.command != nil && l.command.Action == nil
}

// help prints what the line's command does, or lpipe.
func (p *program) help(app *cli.App, line commandLine) error {
	if line.command == nil && len(line.targets) > 0 {
		return usagef("unknown command %q%s", line.targets[0], didYouMean(line.targets[0], commandNames(app.Commands)))
	}
	if line.command == nil {
		p.helpAll(app)
		return nil
	}
	if line.command.Action == nil && len(line.targets) > 0 {
		word := line.targets[0]
		names := commandNames(line.command.Subcommands)
		return usagef("%s has no command %q; it has %s%s", line.command.Name, word, joinNames(names), didYouMean(word, names))
	}
	p.helpOne(line.path, line.command)
	return nil
}

// helpAll lists the commands, by group, and the flags that all of them take.
func (p *program) helpAll(app *cli.App) {
	p.result("lpipe: %s\n\n  lpipe [FLAGS] COMMAND [FLAGS] [TARGET...]      flags may stand anywhere, -- ends them", app.Usage)
	rows := [][]string{}
	for _, group := range categories() {
		rows = append(rows, []string{""}, []string{p.paintResult(bold, group)})
		for _, c := range app.Commands {
			if c.Category == group && !c.Hidden {
				rows = append(rows, []string{"  " + strings.Join(c.Names(), ", "), c.Usage})
			}
		}
	}
	p.columns(append(rows, []string{""}, []string{p.paintResult(bold, "Flags of every command")}))
	p.columns(flagRows(app.Flags))
	p.result("\nlpipe help COMMAND says more; lpipe kinds lists what a stage can be.")
}

func categories() []string {
	return []string{categoryStart, categoryWork, categoryLook, categoryData, categoryRemote, categoryEngine, categoryHelp}
}

// helpOne prints one command: how it is written, what it does, its flags or the commands below it.
func (p *program) helpOne(path []string, c *cli.Command) {
	names := strings.Join(append(slices.Clone(path[:len(path)-1]), c.Name), " ")
	p.result("lpipe %s: %s", names, c.Usage)
	line := "  lpipe " + names
	if len(c.Subcommands) > 0 && c.Action == nil {
		line += " COMMAND"
	}
	line += " [FLAGS]"
	if c.ArgsUsage != "" {
		line += " " + c.ArgsUsage
	}
	if len(c.Aliases) > 0 {
		line += "      also: lpipe " + strings.Join(c.Aliases, ", lpipe ")
	}
	p.result("\n%s", line)
	if c.Description != "" {
		p.result("\n%s", c.Description)
	}
	rows := [][]string{}
	for _, sub := range c.Subcommands {
		rows = append(rows, []string{"  " + sub.Name, sub.Usage})
	}
	if len(rows) > 0 {
		p.result("")
		p.columns(rows)
	}
	if len(c.Flags) > 0 {
		p.result("\n%s", p.paintResult(bold, "Flags"))
		p.columns(flagRows(c.Flags))
	}
	p.result("\nFlags of every command: lpipe help")
}

// columns prints rows of one or two cells; the first column is as wide as the cells that have a second beside them.
func (p *program) columns(rows [][]string) {
	width := 0
	for _, row := range rows {
		if len(row) > 1 {
			width = max(width, visibleWidth(row[0]))
		}
	}
	for _, row := range rows {
		if len(row) < 2 {
			p.result("%s", row[0])
			continue
		}
		p.result("%s%s  %s", row[0], strings.Repeat(" ", width-visibleWidth(row[0])), row[1])
	}
}

// flagRows are the flags with what they take and do: "--jobs, -j N", "run N stages at once".
func flagRows(flags []cli.Flag) [][]string {
	var rows [][]string
	for _, f := range flags {
		d, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		usage, value := d.GetUsage(), ""
		if before, rest, found := strings.Cut(usage, "`"); found {
			name, after, _ := strings.Cut(rest, "`")
			usage, value = before+name+after, " "+name
		} else if d.TakesValue() {
			value = " " + strings.ToUpper(f.Names()[0])
		}
		var names []string
		for _, name := range f.Names() {
			dashes := "--"
			if len(name) == 1 {
				dashes = "-"
			}
			names = append(names, dashes+name)
		}
		rows = append(rows, []string{"  " + strings.Join(names, ", ") + value, strings.TrimSpace(usage + defaultOf(d))})
	}
	return rows
}

// defaultOf names a flag's default where it says something.
func defaultOf(d cli.DocGenerationFlag) string {
	text := d.GetDefaultText()
	if text == "" {
		text = d.GetValue()
	}
	if !d.TakesValue() || text == "" || text == "0" || text == "0s" || text == "[]" || text == `""` {
		return ""
	}
	return fmt.Sprintf(" (default: %s)", text)
}
