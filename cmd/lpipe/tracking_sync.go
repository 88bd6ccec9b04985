package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/tracking"
	"lpipe/tracking/spool"
)

func (p *program) trackingCommand() *cli.Command {
	return &cli.Command{
		Name: "tracking", Category: categoryRemote, Usage: "what is recorded for an MLflow server: send it, look at it",
		Description: "With a tracking block in the pipeline, runs are recorded in .lpipe/tracking and sent while they go on. What a\n" +
			"server did not get, because it was down or lpipe was killed, is sent by sync.",
		Subcommands: []*cli.Command{
			{Name: "sync", Usage: "send what is left", ArgsUsage: "[ID...]", Action: p.trackingSync,
				Flags: []cli.Flag{&cli.StringFlag{Name: "uri", Usage: "send to the server at `URI` instead of the one it was recorded for"}}},
			{Name: "status", Usage: "what is recorded, sent, and left", Action: p.trackingStatus},
			{Name: "drop", Usage: "give up what is recorded and not sent", ArgsUsage: "ID...", Action: p.trackingDrop},
		},
	}
}

// spools are those of the project that are named, or all, oldest first.
func (p *program) spools(pr *project, ids []string) ([]spool.Info, error) {
	dirs, err := spool.List(trackingDir(pr.pipeline))
	if err != nil {
		return nil, err
	}
	var infos []spool.Info
	for _, dir := range dirs {
		if len(ids) > 0 && !slices.Contains(ids, filepath.Base(dir)) {
			continue
		}
		info, err := spool.Read(dir)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	if len(infos) < len(ids) {
		return nil, usagef("there is no recorded run of that name; lpipe tracking status lists them")
	}
	return infos, nil
}

func (p *program) trackingSync(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	infos, err := p.spools(pr, c.Args().Slice())
	if err != nil {
		return err
	}
	count := 0
	var failed []error // of runs that were deleted there: the others are sent all the same
	for _, info := range infos {
		if info.Left == 0 {
			continue
		}
		uri := c.String("uri")
		if uri == "" {
			uri = info.Head.URI
		}
		sender, err := p.trackingSender(c.Context, pr, uri, commandTries)
		if err != nil {
			return err
		}
		err = p.sendSpool(c.Context, sender, info)
		switch {
		case tracking.IsKind(err, tracking.Missing), tracking.IsKind(err, tracking.Refused):
			failed = append(failed, err)
		case err != nil:
			return errors.Join(append(failed, err)...)
		}
		count++
	}
	if count == 0 {
		p.say("nothing is left to send")
	}
	return errors.Join(failed...)
}

func (p *program) sendSpool(ctx context.Context, sender *spool.Sender, info spool.Info) error {
	began := time.Now()
	err := sender.Send(ctx, info.Dir)
	if errors.Is(err, cache.ErrLocked) {
		p.say("%s is being sent by another process", info.Head.ID)
		return nil
	}
	if err != nil {
		return fmt.Errorf("send %s: %w", info.Head.ID, err)
	}
	p.say("sent %s  %s, %s", info.Head.ID, bytesText(info.Left), secondsText(time.Since(began).Seconds()))
	return nil
}

// spoolRow is a recorded run of `tracking status --json`.
type spoolRow struct {
	ID         string `json:"id"`
	Experiment string `json:"experiment"`
	Server     string `json:"server"`
	State      string `json:"state"` // sent, left, open
	Left       int64  `json:"left_bytes"`
	Refused    int    `json:"refused"`
	Error      string `json:"error,omitempty"`
	Run        string `json:"run_id,omitempty"`
}

func (p *program) trackingStatus(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	infos, err := p.spools(pr, nil)
	if err != nil {
		return err
	}
	rows := []spoolRow{}
	for _, info := range infos {
		row := spoolRow{ID: info.Head.ID, Experiment: info.Head.Experiment, Server: info.Sent.Server, State: "sent", Left: info.Left, Refused: info.Sent.Refused, Error: info.Sent.Error}
		if row.Server == "" {
			row.Server = info.Head.URI
		}
		if info.Left > 0 {
			row.State = "left"
		}
		if top := info.Sent.Runs[""]; top != nil {
			row.Run = top.ID
		}
		rows = append(rows, row)
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "runs": rows})
	}
	if len(rows) == 0 {
		p.say("nothing was recorded for an MLflow server; with a tracking block repro and exp run do")
	}
	var lines [][]string
	for _, row := range rows {
		state := row.State
		if row.State == "left" {
			state = bytesText(row.Left) + " left"
		}
		if row.Refused > 0 {
			state += fmt.Sprintf(", %d refused", row.Refused)
		}
		lines = append(lines, []string{row.ID, row.Experiment, state, row.Server, row.Error})
	}
	table(p.stdout, lines)
	return nil
}

func (p *program) trackingDrop(c *cli.Context) error {
	if c.NArg() == 0 {
		return usagef("say which; lpipe tracking status lists them")
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	infos, err := p.spools(pr, c.Args().Slice())
	for _, info := range infos {
		if err == nil {
			err = spool.Drop(info.Dir)
		}
	}
	return err
}
