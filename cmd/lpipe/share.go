package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/remote"
	"lpipe/runner"
)

// The commands that move content between cache and remote: push, fetch, pull; and gc and fsck of a remote.

func shareFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "remote", Usage: "use remote `NAME` instead of the default"},
		&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Usage: "make `N` requests at once"},
	}
}

func (p *program) pushCommand() *cli.Command {
	return &cli.Command{
		Name: "push", Category: categoryRemote, Usage: "send outputs, results and added sources to the remote", ArgsUsage: "[TARGET...]",
		Flags: shareFlags(),
		Action: func(c *cli.Context) error {
			pr, err := p.open(c.Context, projectOptions{allowMissing: true})
			if err != nil {
				return err
			}
			defer pr.close(p)
			return p.pushProject(c.Context, pr, c.Args().Slice(), c.String("remote"), c.Int("jobs"))
		},
	}
}

func (p *program) fetchCommand() *cli.Command {
	return &cli.Command{
		Name: "fetch", Category: categoryRemote, Usage: "bring what the lock names from the remote into the cache", ArgsUsage: "[TARGET...]",
		Flags:  shareFlags(),
		Action: func(c *cli.Context) error { return p.bring(c, false) },
	}
}

func (p *program) pullCommand() *cli.Command {
	return &cli.Command{
		Name: "pull", Category: categoryRemote, Usage: "fetch, and put it in place in the workspace", ArgsUsage: "[TARGET...]",
		Flags:  shareFlags(),
		Action: func(c *cli.Context) error { return p.bring(c, true) },
	}
}

// transferEvent is the last line of `push --json` and `pull --json`.
type transferEvent struct {
	Event    string  `json:"event"`
	Objects  int     `json:"objects"`
	Bytes    int64   `json:"bytes"`
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
}

func (p *program) pushProject(ctx context.Context, pr *project, targets []string, name string, jobs int) error {
	r, block, err := p.needRemote(ctx, pr, name, jobs)
	if err != nil {
		return err
	}
	if err := p.signWith(r, r.Trust()); err != nil {
		return err
	}
	defer p.collector.thrifty()()
	holdings, err := pr.runner.Holdings(ctx, targets)
	if err != nil {
		return err
	}
	return p.transfer("pushed to "+r.String(), func(progress func(remote.Progress)) (stats remote.Stats, err error) {
		news, err := p.news(ctx, pr, r, block, holdings)
		if err != nil || len(news.contents)+len(news.keys) == 0 {
			return remote.Stats{Requests: r.Requests()}, err
		}
		stats, err = r.Push(ctx, news.contents, news.keys, progress)
		stats.Requests = r.Requests() // with those that asked for the news
		if err == nil && stats.Signed > 0 {
			p.say("signed %s that stood there without a signature that counts", countText(stats.Signed, "result"))
		}
		for _, from := range stats.Unsigned {
			p.warn("results that came from %s are sent as they came, not signed by you: lpipe repro --force makes them here", from)
		}
		return stats, err
	})
}

// news is what a remote does not have yet.
type news struct {
	contents []cache.Content
	keys     []cache.Key
}

// news asks the remote first: of what it has nothing need be looked at here.
func (p *program) news(ctx context.Context, pr *project, r *remote.Remote, block *runner.RemoteBlock, holdings []runner.Holding) (news, error) {
	var all news
	for _, h := range holdings {
		for _, one := range h.Contents {
			all.contents = append(all.contents, one.Content)
		}
		if h.Stage != "" && !h.Partial && block.Results != "off" && block.Results != "read" {
			all.keys = append(all.keys, h.Key)
		}
	}
	var lacks news
	var err error
	if lacks.contents, lacks.keys, err = r.News(ctx, all.contents, all.keys); err != nil {
		return news{}, err
	}
	asked := map[cache.ID]bool{}
	for _, c := range lacks.contents {
		asked[c.ID] = true
	}
	nowhere, err := p.takeIn(ctx, pr, holdings, asked)
	if err != nil {
		return news{}, err
	}
	lacks.contents = slices.DeleteFunc(lacks.contents, func(c cache.Content) bool { return nowhere[c.ID] })
	wanted := map[cache.Key]bool{}
	for _, k := range lacks.keys {
		wanted[k] = true
	}
	var whole []cache.Key
	for _, h := range holdings {
		if !wanted[h.Key] || slices.ContainsFunc(h.Contents, func(c runner.NamedContent) bool { return nowhere[c.ID] }) {
			continue
		}
		if _, err := pr.cache.Result(h.Key); err == nil {
			whole = append(whole, h.Key)
		} else if !errors.Is(err, cache.ErrNotFound) {
			return news{}, err
		}
	}
	return news{lacks.contents, whole}, nil
}

// takeIn sees to it that the cache holds what is to be sent, and says what is nowhere.
func (p *program) takeIn(ctx context.Context, pr *project, holdings []runner.Holding, asked map[cache.ID]bool) (nowhere map[cache.ID]bool, err error) {
	var wanted []runner.NamedContent
	for _, h := range holdings {
		for _, one := range h.Contents {
			if asked[one.ID] {
				wanted = append(wanted, one)
			}
		}
	}
	absent, err := pr.runner.TakeIn(ctx, wanted)
	nowhere = map[cache.ID]bool{}
	for _, one := range absent {
		nowhere[one.ID] = true
		p.warn("%s is not pushed: neither the cache nor the workspace has the recorded content; lpipe repro makes it", one.Path)
	}
	return nowhere, err
}

// bring fetches what the lock names of the targets; with place it is put into the workspace too.
func (p *program) bring(c *cli.Context, place bool) error {
	ctx := c.Context
	pr, err := p.open(ctx, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	r, _, err := p.needRemote(ctx, pr, c.String("remote"), c.Int("jobs"))
	if err != nil {
		return err
	}
	defer p.collector.thrifty()()
	targets, parts, err := splitParts(pr, c.Args().Slice())
	if err != nil {
		return err
	}
	if len(parts) > 0 {
		if err := p.bringParts(ctx, pr, r, parts, place); err != nil || len(targets) == 0 {
			return err
		}
	}
	holdings, err := pr.runner.Holdings(ctx, targets)
	if err != nil {
		return err
	}
	var absent []string
	err = p.transfer("fetched from "+r.String(), func(progress func(remote.Progress)) (stats remote.Stats, err error) {
		var contents []cache.Content
		if contents, absent, err = splitAbsent(ctx, pr, r, holdings); err != nil {
			return stats, err
		}
		if stats, err = r.Fetch(ctx, contents, progress); err != nil {
			return stats, err
		}
		if err = p.bringResults(ctx, pr, r, holdings); err == nil && place {
			err = p.placeAll(ctx, pr, targets, holdings)
		}
		return stats, err
	})
	if err == nil && len(absent) > 0 {
		return fmt.Errorf("%s has no %s: lpipe push sends it from where it was made, lpipe repro makes it again", r, joinNames(absent))
	}
	return err
}

// splitAbsent gives what is to be fetched, and the paths of what neither the cache nor the remote has: not everybody
// pushes all, and the rest is of use without it.
func splitAbsent(ctx context.Context, pr *project, r *remote.Remote, holdings []runner.Holding) (contents []cache.Content, absent []string, err error) {
	var needed []cache.Content
	paths := map[cache.ID][]string{}
	for _, h := range holdings {
		for _, one := range h.Contents {
			missing, err := pr.cache.Missing(ctx, one.Content)
			if err != nil {
				return nil, nil, err
			}
			if len(missing) > 0 {
				needed = append(needed, one.Content)
				paths[one.ID] = append(paths[one.ID], one.Path)
			}
		}
	}
	if len(needed) == 0 {
		return nil, nil, nil
	}
	lacking, err := r.Lacks(ctx, needed)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range lacking {
		absent = append(absent, paths[c.ID]...)
		delete(paths, c.ID)
	}
	for _, c := range needed {
		if paths[c.ID] != nil {
			contents = append(contents, c)
		}
	}
	return contents, absent, nil
}

// bringResults records the remote's results of the stages here, so that show and why know them. What the remote does
// not have is no loss: the lock names the content.
func (p *program) bringResults(ctx context.Context, pr *project, r *remote.Remote, holdings []runner.Holding) error {
	var wanted []remote.Stored
	for _, h := range holdings {
		if h.Stage == "" {
			continue
		}
		if _, err := pr.cache.Result(h.Key); err != nil {
			wanted = append(wanted, remote.Stored{Key: h.Key})
		}
	}
	found, err := r.Describe(ctx, wanted)
	if err != nil {
		return err
	}
	for _, one := range found {
		if one.Problem != nil {
			p.warn("result %s at %s is not used: %v", one.Key, r, one.Problem)
			continue
		}
		if err := pr.cache.PutResult(one.Key, one.Result); err != nil && !errors.Is(err, cache.ErrNotFound) {
			return err
		}
	}
	return nil
}

// placeAll puts everything in place that the cache has now. What it lacks was told, or is no concern of the remote's.
func (p *program) placeAll(ctx context.Context, pr *project, targets []string, holdings []runner.Holding) error {
	_, err := pr.runner.Checkout(ctx, targets)
	var missing *runner.MissingError
	if !errors.As(err, &missing) {
		return err
	}
	shared := map[string]bool{}
	for _, h := range holdings {
		for _, one := range h.Contents {
			shared[one.Path] = true
		}
	}
	for _, path := range missing.Paths {
		if !shared[path] {
			p.say("%s is not shared (push = false); lpipe repro makes it", path)
		}
	}
	return nil
}

// transfer runs a push or fetch with a progress line, and prints what it did.
func (p *program) transfer(what string, run func(func(remote.Progress)) (remote.Stats, error)) error {
	start := time.Now()
	line := p.newTransferLine(start)
	stats, err := run(line.update)
	line.end()
	seconds := time.Since(start).Seconds()
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSONLine(transferEvent{"done", stats.Objects, stats.Bytes, stats.Requests, seconds})
	}
	p.say("%s: %s, %s in %s, %s", what, countText(stats.Objects, "object"), bytesText(stats.Bytes),
		durationText(time.Since(start)), countText(stats.Requests, "request"))
	return nil
}

// transferLine is one line on a terminal that is drawn anew: bar, bytes, rate, time left.
type transferLine struct {
	p     *program
	start time.Time
	last  time.Time
	drawn bool
}

func (p *program) newTransferLine(start time.Time) *transferLine {
	return &transferLine{p: p, start: start}
}

func (l *transferLine) update(at remote.Progress) {
	if !l.p.showsLive() || time.Since(l.last) < 100*time.Millisecond {
		return
	}
	l.last, l.drawn = time.Now(), true
	elapsed := time.Since(l.start).Seconds()
	rate := float64(at.Bytes) / max(elapsed, 0.001)
	left := ""
	if rate > 0 && at.TotalBytes > at.Bytes {
		left = "  " + clockText(time.Duration(float64(at.TotalBytes-at.Bytes)/rate*float64(time.Second))) + " left"
	}
	text := fmt.Sprintf("%s  %d/%d objects  %s/%s  %s/s%s", bar(float64(at.Bytes), float64(at.TotalBytes), 20),
		at.Objects, at.TotalObjects, bytesText(at.Bytes), bytesText(at.TotalBytes), bytesText(int64(rate)), left)
	fmt.Fprint(l.p.stderr, "\r\x1b[K"+clip(text, l.p.width()))
}

func (l *transferLine) end() {
	if l.drawn {
		fmt.Fprint(l.p.stderr, "\r\x1b[K")
	}
}

func (p *program) gcRemote(ctx context.Context, pr *project, name string, roots cache.GCRoots, o cache.GCOptions) error {
	r, _, err := p.needRemote(ctx, pr, name, 0)
	if err != nil {
		return err
	}
	report, err := r.GC(ctx, roots, remote.GCOptions{Delete: o.Delete, KeepLast: o.KeepLast, MaxSize: o.MaxSize, OlderThan: o.OlderThan, Grace: o.Grace})
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "deleted": o.Delete, "objects": report.Objects, "results": report.Results,
			"bytes": report.Bytes, "kept_results": report.Kept, "checkpoints": report.Checkpoints, "repacked": report.Repacked, "moved": report.Moved, "waste": report.Waste})
	}
	verb, moved := "would remove", "would be copied"
	if o.Delete {
		verb, moved = "removed", "was copied"
	}
	p.result("%s %s, %s: %s; kept %s", verb, countText(report.Objects, "object"), countText(report.Results, "result"), bytesText(report.Bytes), countText(report.Kept, "result"))
	if report.Checkpoints > 0 {
		p.result("among it %s of stages that are finished, or that nobody has gone on with for a month", countText(report.Checkpoints, "checkpoint"))
	}
	if report.Repacked > 0 {
		p.result("what is needed of %s %s into new ones: %s", countText(report.Repacked, "pack"), moved, bytesText(report.Moved))
	}
	if report.Waste > 0 {
		p.result("%s more lie in packs with what is needed, and go when that is less than half", bytesText(report.Waste))
	}
	if !o.Delete && report.Objects+report.Results+report.Repacked+report.Checkpoints > 0 {
		p.say("The same with --delete does it. What only other clones need is not known here: --older-than keeps what is recent.")
	}
	return nil
}

func (p *program) fsckRemote(ctx context.Context, pr *project, name string, sample float64, repair bool) error {
	r, _, err := p.needRemote(ctx, pr, name, 0)
	if err != nil {
		return err
	}
	report, err := r.Fsck(ctx, remote.FsckOptions{Sample: sample, Day: int(time.Now().Unix() / 86400), Repair: repair})
	if err != nil {
		return err
	}
	return p.printRemoteFsck(report, sample)
}

// printRemoteFsck prints the findings; damage that is left is exit 4.
func (p *program) printRemoteFsck(report remote.FsckReport, sample float64) error {
	type finding struct {
		Name     string `json:"name"`
		Error    string `json:"error"`
		Repaired bool   `json:"repaired"`
	}
	findings, left := []finding{}, false
	for _, problem := range report.Problems {
		findings = append(findings, finding{problem.Name, problem.Err.Error(), problem.Repaired})
		left = left || !problem.Repaired
	}
	if p.json {
		if err := p.printJSON(map[string]any{"schema": 1, "packs": report.Packs, "objects": report.Objects, "results": report.Results,
			"sample": sample, "read": report.Read, "bytes": report.Bytes, "problems": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			repaired := ""
			if f.Repaired {
				repaired = " (repaired)"
			}
			p.result("%s: %s%s", f.Name, f.Error, repaired)
		}
		p.result("%s, %s, %s; %d read and hashed (%s): %s", countText(report.Packs, "pack"), countText(report.Objects, "object"),
			countText(report.Results, "result"), report.Read, bytesText(report.Bytes), countText(len(findings), "problem"))
	}
	if left {
		return shown{exitDamaged}
	}
	return nil
}
