package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"lpipe/cmd/lpipe/demo"
)

func (p *program) initCommand() *cli.Command {
	return &cli.Command{
		Name: "init", Category: categoryStart, Usage: "make a new project", ArgsUsage: "[DIR]",
		Description: "Writes a pipeline.hcl to start from and .lpipe/.gitignore. With --demo, a small whole project\n" +
			"that runs offline in about a minute: rows, a tiny base model, nine stages.",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "demo", Usage: "a small whole project instead of an empty one"}},
		Action: p.initProject,
	}
}

// initProject never overwrites: it refuses a folder that already holds a pipeline, and with --demo one that holds
// anything.
func (p *program) initProject(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("init takes one folder, not %d", c.Args().Len())
	}
	dir := filepath.Join(p.dir, c.Args().First())
	if filepath.IsAbs(c.Args().First()) {
		dir = c.Args().First()
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make the project's folder: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "pipeline.hcl")); !errors.Is(err, fs.ErrNotExist) {
		return usagef("%s already holds a pipeline.hcl; init changes nothing there", dir)
	}
	write := func() error { return os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(newPipeline()), 0o666) }
	if c.Bool("demo") {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		if len(entries) > 0 {
			return usagef("%s is not empty; give the demo a folder of its own: lpipe init --demo DIR", dir)
		}
		write = func() error { return demo.Write(dir) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("write the project: %w", err)
	}
	if err := ignoreInGit(dir); err != nil {
		return err
	}
	next := "lpipe repro"
	if c.Args().Len() > 0 {
		next = "lpipe -C " + c.Args().First() + " repro"
	}
	p.say("made %s; next: %s", filepath.Join(dir, "pipeline.hcl"), next)
	return nil
}

// ignoreInGit keeps the project's own folder out of Git, itself included.
func ignoreInGit(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, ".lpipe"), 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ".lpipe", ".gitignore"), []byte("*\n"), 0o666)
}

// keepOutOfGit is ignoreInGit for a project that nobody made with init, once there is a folder. It is a convenience: no command fails
// where it cannot be done.
func keepOutOfGit(dir string) {
	if info, err := os.Stat(filepath.Join(dir, ".lpipe", ".gitignore")); err == nil && info.Size() > 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(dir, ".lpipe")); err == nil {
		_ = ignoreInGit(dir)
	}
}

func newPipeline() string {
	return `# lpipe: stages with content-hashed inputs and outputs. ` + "`lpipe repro`" + ` runs what is not known yet.
# ` + "`lpipe kinds`" + ` lists the built-in stages; ` + "`lpipe init --demo DIR`" + ` makes a whole project to look at.

stage "shell" "hello" {
  out     = { greeting = "build/hello.txt" }
  command = "echo hello > ${self.out.greeting}"
}
`
}
