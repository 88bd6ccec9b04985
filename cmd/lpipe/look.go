package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

// The commands that look at what is on record: ls, show, logs, runs.

func (p *program) lsCommand() *cli.Command {
	return &cli.Command{
		Name: "ls", Category: categoryLook, Usage: "list what the lock names: outputs and sources", ArgsUsage: "[TARGET...]",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "remote", Usage: "list what the default remote holds instead"}},
		Action: p.ls,
	}
}

type listed struct {
	Stage   string `json:"stage,omitempty"`
	Path    string `json:"path"`
	ID      string `json:"id"`
	Bytes   int64  `json:"bytes"`
	Files   int64  `json:"files,omitempty"`
	InCache bool   `json:"in_cache"`
	text    string
}

func (p *program) ls(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	if c.Bool("remote") {
		return p.lsRemote(c.Context, pr)
	}
	holdings, err := pr.runner.Holdings(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	all := []listed{}
	for _, h := range holdings {
		for _, one := range h.Contents {
			missing, err := pr.cache.Missing(c.Context, one.Content)
			if err != nil {
				return err
			}
			all = append(all, listed{Stage: h.Stage, Path: one.Path, ID: one.ID.String(), Bytes: one.Size, Files: one.Files,
				InCache: len(missing) == 0, text: contentText(one.Content)})
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "contents": all})
	}
	rows := [][]string{}
	for _, l := range all {
		where := "not in the cache"
		if l.InCache {
			where = "in the cache"
		}
		rows = append(rows, []string{l.Path, l.text, l.ID[:16], where})
	}
	table(p.stdout, rows)
	return nil
}

func (p *program) showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Category: categoryLook, Usage: "the recorded result of a stage: who, when, where, how long, hashes", ArgsUsage: "TARGET",
		Action: p.show,
	}
}

func (p *program) show(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef("show needs one target: a stage, an instance, or an output path")
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	all, err := pr.runner.Show(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "stages": all})
	}
	for _, one := range all {
		p.printShown(one, p.verbose)
	}
	return nil
}

func (p *program) printShown(one runner.Shown, whole bool) {
	p.result("%s (%s)", p.paintResult(bold, one.Stage), one.Recorded.Kind)
	rows := [][]string{{"  key", one.Recorded.Key.String()}}
	if one.Result != nil {
		r := one.Result.Record
		rows = append(rows, []string{"  made", fmt.Sprintf("%s by %s on %s in %s", r.Started.Local().Format("2006-01-02 15:04:05"), r.User, r.Host,
			durationText(time.Duration(r.Seconds*float64(time.Second))))})
		if r.Device != "" {
			rows = append(rows, []string{"  device", r.Device})
		}
		rows = append(rows, []string{"  lpipe", r.Version})
	} else {
		rows = append(rows, []string{"  made", "elsewhere: this cache has no record of the run"})
	}
	for _, name := range sortedKeys(one.Recorded.In) {
		rows = append(rows, []string{"  in " + name, shortID(one.Recorded.In[name])})
	}
	for _, name := range sortedKeys(one.Recorded.Out) {
		out := one.Recorded.Out[name]
		rows = append(rows, []string{"  out " + name, shortID(out.ID) + "  " + contentText(out.Content) + "  " + out.Path})
	}
	table(p.stdout, rows)
	if whole && one.Result != nil {
		p.result("\n%s", one.Result.Description)
	}
}

func (p *program) logsCommand() *cli.Command {
	return &cli.Command{
		Name: "logs", Category: categoryLook, Usage: "what a stage printed", ArgsUsage: "TARGET",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on while it runs"},
			&cli.StringFlag{Name: "run", Usage: "of run `ID` (lpipe runs ls), not of the last one that has it"},
		},
		Action: p.logs,
	}
}

func (p *program) logs(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef("logs needs one stage or instance")
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	log, err := pr.runner.Log(c.Args().First(), c.String("run"))
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := io.Copy(p.stdout, log); err != nil || !c.Bool("follow") {
		return err
	}
	return p.follow(c.Context, log)
}

// follow copies what is appended until the user ends it.
func (p *program) follow(ctx context.Context, log io.Reader) error {
	for {
		if _, err := io.Copy(p.stdout, log); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *program) runsCommand() *cli.Command {
	list := func(*cli.Context) error { return p.listRuns() }
	return &cli.Command{
		Name: "runs", Category: categoryLook, Usage: "the runs of this workspace",
		Action:      list,
		Subcommands: []*cli.Command{{Name: "ls", Usage: "list them, newest first", Action: list}},
	}
}

func (p *program) listRuns() error {
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	runs, err := runner.Runs(pipeline.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "runs": runs})
	}
	rows := [][]string{}
	for _, r := range runs {
		state := "done"
		if !r.Done {
			state = "interrupted"
		}
		if len(r.Failed) > 0 {
			state = p.paintResult(red, "failed: "+joinNames(r.Failed))
		}
		rows = append(rows, []string{r.ID, durationText(time.Duration(r.Seconds * float64(time.Second))), countText(len(r.Ran), "stage") + " ran", state})
	}
	table(p.stdout, rows)
	if len(rows) == 0 {
		p.say("nothing ran in %s yet", filepath.Base(pipeline.Dir))
	}
	return nil
}
