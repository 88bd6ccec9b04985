package main

import (
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
		p.initCommand(), p.importCommand(),
		p.validateCommand(), p.fmtCommand(),
		p.reproCommand(), p.watchCommand(), p.commitCommand(), p.expCommand(),
		p.statusCommand(), p.whyCommand(), p.diffCommand(), p.graphCommand(), p.kindsCommand(), p.lsCommand(), p.duCommand(), p.showCommand(), p.metricsCommand(), p.plotsCommand(), p.logsCommand(), p.runsCommand(),
		p.addCommand(), p.updateCommand(), p.checkoutCommand(), p.unlinkCommand(), p.cleanCommand(), p.gcCommand(), p.fsckCommand(),
		p.pushCommand(), p.pullCommand(), p.fetchCommand(), p.keysCommand(), p.trackingCommand(), p.modelsCommand(),
		p.tokenizeCommand(), p.tokenizerCommand(), p.generateCommand(), p.quantizeCommand(), p.ggufCommand(), p.engineCommand(),
		p.doctorCommand(), p.helpCommand(), p.versionCommand(), p.completionCommand(), p.completeCommand(),
	})
}

// finish gives every command what the library lacks: a missing or wrong flag is one line instead of a page of help.
func finish(commands []*cli.Command) []*cli.Command {
	for _, c := range commands {
		finish(c.Subcommands)
		c.OnUsageError = onUsageError
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

// takeRequired returns the names of the required flags and makes them optional for the library.
func takeRequired(flags []cli.Flag) (names []string) {
	for _, f := range flags {
		switch f := f.(type) {
		case *cli.StringFlag:
			if f.Required {
				f.Required, f.Usage = false, f.Usage+" (needed)"
				names = append(names, f.Name)
			}
		case *cli.IntFlag:
			if f.Required {
				f.Required, f.Usage = false, f.Usage+" (needed)"
				names = append(names, f.Name)
			}
		}
	}
	return names
}
