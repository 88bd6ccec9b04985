package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/urfave/cli/v2"

	"lpipe/dvc"
	"lpipe/runner"
)

func (p *program) importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Category: categoryStart, Usage: "make a pipeline of another tool's project",
		Subcommands: []*cli.Command{{
			Name: "dvc", Usage: "read dvc.yaml, .dvc files and remotes, write pipeline.hcl", ArgsUsage: "[DIR]",
			Description: "Writes DIR/pipeline.hcl and prints what has no counterpart, and what to do about it. Nothing of DVC's is changed.\n" +
				"Outputs that stand in the workspace are accepted without running their stages by: lpipe commit '*'",
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "checkout", Usage: "copy from DVC's cache what the workspace lacks"},
				&cli.BoolFlag{Name: "print", Usage: "print the pipeline instead of writing it"},
			},
			Action: p.importDVC,
		}},
	}
}

// rejected is where a pipeline is left that lpipe itself would not accept, for a person to mend.
const rejected = "pipeline.rejected"

func (p *program) importDVC(c *cli.Context) error {
	if c.Args().Len() > 1 {
		return usagef("import dvc takes one folder, not %d", c.Args().Len())
	}
	dir := filepath.Join(p.dir, c.Args().First())
	if filepath.IsAbs(c.Args().First()) {
		dir = c.Args().First()
	}
	to := filepath.Join(dir, "pipeline.hcl")
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) && !c.Bool("print") {
		return usagef("%s is there already; move it away, or print the import instead: --print", to)
	}
	made, err := dvc.Convert(dir)
	if err != nil {
		return usageError{fmt.Errorf("import dvc: %w", err)}
	}
	text := hclwrite.Format([]byte(made.HCL))
	if c.Bool("print") {
		_, err := p.stdout.Write(text)
		return errors.Join(err, p.reportImport(made, nil, 0, ""))
	}
	files, absent := 0, dvc.Absent(dir, made.Tracks)
	if c.Bool("checkout") {
		if files, absent, err = dvc.Checkout(dir, made.Tracks); err != nil {
			return err
		}
	}
	if err := p.acceptImport(dir, to, text); err != nil {
		return err
	}
	if err := ignoreInGit(dir); err != nil {
		return err
	}
	return p.reportImport(made, absent, files, to)
}

// acceptImport decodes a pipeline before it gets its name.
func (p *program) acceptImport(dir, to string, text []byte) error {
	draft := filepath.Join(dir, rejected)
	if err := os.WriteFile(draft, text, 0o666); err != nil {
		return fmt.Errorf("write the pipeline: %w", err)
	}
	trial := *p
	trial.dir, trial.files = dir, []string{rejected}
	pipeline, err := trial.decode()
	if err == nil {
		_, diags := runner.NewPlan(pipeline, runner.PlanOptions{Known: func(string) bool { return true }}) // data may come later
		err = p.diagnose(diags, pipeline.HCL)
	}
	if err != nil {
		p.warn("the pipeline that came out is not valid; it is left in %s: mend it and call it pipeline.hcl", draft)
		return err
	}
	return os.Rename(draft, to)
}

// reportImport prints what a person has to look at.
func (p *program) reportImport(made *dvc.Conversion, absent []string, files int, to string) error {
	if p.json {
		notes := made.Notes
		if notes == nil {
			notes = []dvc.Note{}
		}
		return p.printJSON(map[string]any{"schema": 1, "file": to, "stages": made.Stages, "copied": files, "absent": append([]string{}, absent...), "notes": notes})
	}
	if to == "" {
		for _, note := range made.Notes {
			p.say("%s: %s", note.Where, note.What)
		}
		return nil
	}
	for _, note := range made.Notes {
		p.result("%s: %s", note.Where, note.What)
		if note.Do != "none" {
			p.result("    %s", note.Do)
		}
	}
	for _, path := range absent {
		p.result("%s: not in the workspace; dvc pull brings it", path)
	}
	p.result("%s, %s without counterpart", countText(made.Stages, "stage"), countText(len(made.Notes), "thing"))
	p.say("made %s; next: lpipe status, and lpipe commit '*' to accept outputs that stand here", to)
	return nil
}
