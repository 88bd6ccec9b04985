package main

import "github.com/urfave/cli/v2"

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
	return []*cli.Command{
		p.initCommand(),
		p.validateCommand(), p.fmtCommand(),
		p.reproCommand(), p.watchCommand(), p.commitCommand(),
		p.statusCommand(), p.whyCommand(), p.diffCommand(), p.graphCommand(), p.kindsCommand(), p.lsCommand(), p.duCommand(), p.showCommand(), p.metricsCommand(), p.logsCommand(), p.runsCommand(),
		p.addCommand(), p.checkoutCommand(), p.unlinkCommand(), p.cleanCommand(), p.gcCommand(), p.fsckCommand(),
		p.pushCommand(), p.pullCommand(), p.fetchCommand(),
		p.tokenizeCommand(), p.tokenizerCommand(), p.generateCommand(), p.quantizeCommand(), p.engineCommand(),
		p.doctorCommand(), p.helpCommand(), p.versionCommand(), p.completionCommand(), p.completeCommand(),
	}
}

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Category: categoryHelp, Usage: "what lpipe, or one command, does", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return cli.ShowAppHelp(c.Lineage()[len(c.Lineage())-2])
			}
			root := c.Lineage()[len(c.Lineage())-2]
			for i, name := range c.Args().Slice() {
				command := findCommand(p.commands(), name)
				if i > 0 || command == nil {
					return usagef("unknown command %q%s", name, didYouMean(name, commandNames(p.commands())))
				}
			}
			return cli.ShowCommandHelp(root, c.Args().First())
		},
	}
}
