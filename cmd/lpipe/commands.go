package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The groups that help lists commands under.
const (
	categoryStart  = "Start"
	categoryWork   = "Bring outputs up to date"
	categoryLook   = "Look"
	categoryData   = "Files and cache"
	categoryRemote = "Share"
	categoryEngine = "Tokenizer and engine"
	categoryHelp   = "Help"
)

// commands lists every subcommand; each has a file of its own.
func (p *program) commands() []*cli.Command {
	return finish([]*cli.Command{
		p.initCommand(),
		p.validateCommand(), p.fmtCommand(),
		p.reproCommand(), p.watchCommand(), p.commitCommand(),
		p.statusCommand(), p.whyCommand(), p.diffCommand(), p.graphCommand(), p.kindsCommand(), p.lsCommand(), p.duCommand(), p.showCommand(), p.metricsCommand(), p.logsCommand(), p.runsCommand(),
		p.addCommand(), p.updateCommand(), p.checkoutCommand(), p.unlinkCommand(), p.cleanCommand(), p.gcCommand(), p.fsckCommand(),
		p.pushCommand(), p.pullCommand(), p.fetchCommand(),
		p.tokenizeCommand(), p.tokenizerCommand(), p.generateCommand(), p.quantizeCommand(), p.engineCommand(),
		p.doctorCommand(), p.helpCommand(), p.versionCommand(), p.completionCommand(), p.completeCommand(),
	})
}

// finish gives every command what the library lacks: a missing flag is one line instead of a page of help, and a
// group of commands names those that it has.
func finish(commands []*cli.Command) []*cli.Command {
	for _, c := range commands {
		finish(c.Subcommands)
		plainDefaults(c.Flags)
		if c.Action == nil && len(c.Subcommands) > 0 {
			c.Action = groupAction(c)
		}
		if needed := takeRequired(c.Flags); len(needed) > 0 {
			action := c.Action
			c.Action = func(ctx *cli.Context) error {
				for _, name := range needed {
					if !ctx.IsSet(name) {
						return usagef("%s needs --%s; %s --help tells more", ctx.Command.HelpName, name, ctx.Command.HelpName)
					}
				}
				return action(ctx)
			}
		}
	}
	return commands
}

// plainDefaults leaves "(default: false)" out of help texts.
func plainDefaults(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
	return flags
}

// helpTemplate is the page of `lpipe help`: the commands by what one wants to do, in the order of a day's work.
func helpTemplate(commands []*cli.Command) string {
	var b strings.Builder
	b.WriteString("{{.Name}}: {{.Usage}}\n\nUsage: {{.UsageText}}\n")
	for _, category := range []string{categoryStart, categoryWork, categoryLook, categoryData, categoryRemote, categoryEngine, categoryHelp} {
		fmt.Fprintf(&b, "\n%s\n", category)
		for _, c := range commands {
			if c.Category == category && !c.Hidden {
				fmt.Fprintf(&b, "   %s\t%s\n", strings.Join(c.Names(), ", "), c.Usage)
			}
		}
	}
	b.WriteString("\nGlobal flags\n{{range .VisibleFlags}}   {{.}}\n{{end}}\n")
	b.WriteString("lpipe help COMMAND tells more; lpipe kinds lists the built-in stages.\n")
	return b.String()
}

func groupAction(group *cli.Command) cli.ActionFunc {
	names := commandNames(group.Subcommands)
	return func(c *cli.Context) error {
		if c.Args().Len() == 0 {
			return cli.ShowSubcommandHelp(c)
		}
		return usagef("%s has no command %q; it has %s%s", group.Name, c.Args().First(), joinNames(names), didYouMean(c.Args().First(), names))
	}
}

// takeRequired returns the names of the required flags and makes them optional for the library.
func takeRequired(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Required {
				f.Required = false
				names = append(names, f.Name)
			}
		case *cli.IntFlag:
			if f.Required {
				f.Required = false
				names = append(names, f.Name)
			}
		}
	}
	return names
}

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Category: categoryHelp, Usage: "what lpipe, or one command, does", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return cli.ShowAppHelp(c.Lineage()[1])
			}
			line, commands := []string{"lpipe"}, p.commands()
			for _, name := range c.Args().Slice() {
				command := findCommand(commands, name)
				if command == nil {
					return usagef("unknown command %q%s", name, didYouMean(name, commandNames(commands)))
				}
				line, commands = append(line, name), command.Subcommands
			}
			return p.app().RunContext(c.Context, append(line, "--help"))
		},
	}
}
