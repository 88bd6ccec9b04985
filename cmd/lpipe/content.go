package main

import (
	"github.com/urfave/cli/v2"

	"lpipe/cache"
)

// The commands that move content between workspace and cache: add, checkout, unlink, commit, clean.

func (p *program) addCommand() *cli.Command {
	return &cli.Command{
		Name: "add", Category: categoryData, Usage: "hash and store sources, record them", ArgsUsage: "[PATH|SOURCE...]",
		Description: "Without arguments all sources of the pipeline, but none that is downloaded: name it. Added sources can be pushed, and checked out again.",
		Action: func(c *cli.Context) error {
			pr, err := p.open(c.Context, projectOptions{})
			if err != nil {
				return err
			}
			defer pr.close(p)
			defer p.collector.thrifty()()
			added, err := pr.runner.Add(c.Context, c.Args().Slice())
			if err != nil {
				return err
			}
			if p.json {
				return p.printJSON(map[string]any{"schema": 1, "added": added})
			}
			if !p.quiet {
				rows := [][]string{}
				for _, a := range added {
					rows = append(rows, []string{a.Path, contentText(a.Content), shortID(a.Content.ID)})
				}
				table(p.stdout, rows)
			}
			return nil
		},
	}
}

func (p *program) checkoutCommand() *cli.Command {
	return &cli.Command{
		Name: "checkout", Category: categoryData, Usage: "put back what the lock names, added sources too", ArgsUsage: "[TARGET...]",
		Action: func(c *cli.Context) error {
			pr, err := p.open(c.Context, projectOptions{allowMissing: true})
			if err != nil {
				return err
			}
			defer pr.close(p)
			defer p.collector.thrifty()()
			done, err := pr.runner.Checkout(c.Context, c.Args().Slice())
			if p.json && err == nil {
				return p.printJSON(map[string]any{"schema": 1, "checked_out": done})
			}
			if !p.quiet && !p.json {
				rows := [][]string{}
				for _, one := range done {
					rows = append(rows, []string{one.Path, contentText(one.Content)})
				}
				table(p.stdout, rows)
			}
			return err
		},
	}
}

func (p *program) unlinkCommand() *cli.Command {
	return &cli.Command{
		Name: "unlink", Category: categoryData, Usage: "make a placed file or folder writable and its own", ArgsUsage: "PATH...",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return usagef("unlink needs the path of an output or source")
			}
			pr, err := p.open(c.Context, projectOptions{allowMissing: true})
			if err != nil {
				return err
			}
			defer pr.close(p)
			for _, path := range c.Args().Slice() {
				if err := pr.runner.Unlink(c.Context, path); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *program) commitCommand() *cli.Command {
	return &cli.Command{
		Name: "commit", Category: categoryWork, Usage: "accept outputs made by hand as a stage's result", ArgsUsage: "TARGET...",
		Action: func(c *cli.Context) error {
			if c.Args().Len() == 0 {
				return usagef("commit needs the stage whose outputs are to be accepted")
			}
			pr, err := p.open(c.Context, projectOptions{})
			if err != nil {
				return err
			}
			defer pr.close(p)
			for _, target := range c.Args().Slice() {
				stages, err := pr.runner.Commit(c.Context, target)
				if err != nil {
					return err
				}
				for _, s := range stages {
					for _, out := range s.Outputs {
						p.say("%s: %s is accepted as %s", s.Name, out.Path, out.Name)
					}
				}
			}
			return nil
		},
	}
}

func (p *program) cleanCommand() *cli.Command {
	return &cli.Command{
		Name: "clean", Category: categoryData, Usage: "remove outputs from the workspace; the cache keeps them", ArgsUsage: "[TARGET...]",
		Action: func(c *cli.Context) error {
			pr, err := p.open(c.Context, projectOptions{allowMissing: true})
			if err != nil {
				return err
			}
			defer pr.close(p)
			removed, err := pr.runner.Clean(c.Context, c.Args().Slice())
			if p.json && err == nil {
				return p.printJSON(map[string]any{"schema": 1, "removed": removed})
			}
			if !p.quiet && !p.json {
				for _, path := range removed {
					p.result("%s", path)
				}
			}
			return err
		},
	}
}

// contentText is "12.3 MB" of a file, "700 files, 12.3 MB" of a folder.
func contentText(c cache.Content) string {
	if c.Dir {
		return countText(int(c.Files), "file") + ", " + bytesText(c.Size)
	}
	return bytesText(c.Size)
}

// shortID is enough of an ID for a person to compare.
func shortID(id cache.ID) string { return id.String()[:16] }
