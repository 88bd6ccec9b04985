package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) fmtCommand() *cli.Command {
	return &cli.Command{
		Name: "fmt", Category: categoryStart, Usage: "format pipeline files in place", ArgsUsage: "[FILE...]",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "change nothing; exit 3 if something would change"}},
		Action: p.format,
	}
}

// format rewrites each file by a temporary one and a rename; a file with a syntax error is left as it is.
func (p *program) format(c *cli.Context) error {
	files := append(c.Args().Slice(), p.files...)
	if len(files) == 0 {
		var err error
		if files, err = filepath.Glob(filepath.Join(p.dir, "*.hcl")); err != nil {
			return err
		}
		slices.Sort(files)
	} else {
		for i := range files {
			files[i] = p.path(files[i])
		}
	}
	if len(files) == 0 {
		return usagef("there is no .hcl file in %s", p.dir)
	}
	changed := false
	for _, file := range files {
		did, err := p.formatFile(file, c.Bool("check"))
		if err != nil {
			return err
		}
		changed = changed || did
	}
	if changed && c.Bool("check") {
		return shown{exitFoundWork}
	}
	return nil
}

func (p *program) formatFile(file string, check bool) (changed bool, err error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return false, usageError{err}
	}
	if parsed, diags := hclsyntax.ParseConfig(src, file, hcl.InitialPos); diags.HasErrors() {
		return false, diagnosed{diags, map[string]*hcl.File{file: parsed}}
	}
	formatted := runner.FormatFile(src)
	if bytes.Equal(src, formatted) {
		return false, nil
	}
	p.result("%s", file)
	if check {
		return true, nil
	}
	f, finish, err := atomicFile(file)
	if err != nil {
		return false, err
	}
	_, err = f.Write(formatted)
	if finished := finish(err); err == nil {
		err = finished
	}
	return true, err
}
