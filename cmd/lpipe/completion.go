package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Category: categoryHelp, Usage: "print a completion script for bash, zsh or fish",
		ArgsUsage:   "bash|zsh|fish",
		Description: "Load it with: source <(lpipe completion bash), or: lpipe completion fish | source",
		Action: func(c *cli.Context) error {
			script, ok := completionScripts()[c.Args().First()]
			if !ok || c.Args().Len() != 1 {
				return usagef("completion takes one of bash, zsh, fish")
			}
			fmt.Fprint(p.stdout, script)
			return nil
		},
	}
}

// completeCommand prints, a line each, what may follow the words given: the scripts call it.
func (p *program) completeCommand() *cli.Command {
	return &cli.Command{
		Name: "__complete", Hidden: true, SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) > 0 && words[0] == "--" {
				words = words[1:]
			}
			for _, candidate := range p.candidates(words) {
				fmt.Fprintln(p.stdout, candidate)
			}
			return nil
		},
	}
}

// candidates completes the last of words: commands, then flags, then targets of the pipeline.
func (p *program) candidates(words []string) []string {
	last := ""
	if len(words) > 0 {
		last, words = words[len(words)-1], words[:len(words)-1]
	}
	commands, flags, found := p.commands(), globalFlags(), false
	for _, word := range words {
		if c := findCommand(commands, word); c != nil && !strings.HasPrefix(word, "-") {
			commands, flags, found = c.Subcommands, append(flags, c.Flags...), true
		}
	}
	var all []string
	switch {
	case strings.HasPrefix(last, "-"):
		for name := range flagTable(flags) {
			if len(name) > 1 {
				all = append(all, "--"+name)
			}
		}
	case !found || len(commands) > 0:
		for _, c := range commands {
			if !c.Hidden {
				all = append(all, c.Name)
			}
		}
	case len(words) > 0 && slices.Contains(words, "exp"):
		all = p.experimentNames()
	default:
		all = p.targetNames()
	}
	all = slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, last) })
	slices.Sort(all)
	return all
}

func completionScripts() map[string]string {
	return map[string]string{
		"bash": `_lpipe() {
  local IFS=$'\n'
  COMPREPLY=($(lpipe __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _lpipe lpipe
`,
		"zsh": `#compdef lpipe
_lpipe() {
  local -a candidates
  candidates=(${(f)"$(lpipe __complete -- ${words[2,CURRENT]} 2>/dev/null)"})
  if (( ${#candidates} )); then compadd -a candidates; else _files; fi
}
compdef _lpipe lpipe
`,
		"fish": `complete -c lpipe -a '(lpipe __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
	}
}
