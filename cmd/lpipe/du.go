package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/runner"
)

func (p *program) duCommand() *cli.Command {
	return &cli.Command{
		Name: "du", Category: categoryLook, Usage: "what takes space, and where", ArgsUsage: "[TARGET...]",
		Description: "For each stage the bytes of its recorded outputs and what the cache holds of them; then the cache as a\n" +
			"whole, what of it no lock, pin or experiment of any project needs, and what .lpipe keeps beside it.",
		Action: p.du,
	}
}

// space is schema 1 of `du --json`.
type space struct {
	Schema  int                   `json:"schema"`
	Stages  []runner.StageSpace   `json:"stages"`
	Sources []runner.ContentSpace `json:"sources"` // added ones
	Cache   cacheSpace            `json:"cache"`
	Scratch folderSpace           `json:"scratch"`
	Runs    folderSpace           `json:"runs"`
	Folders map[string]int64      `json:"folders"` // what else lies in .lpipe: bytes by name
}

type cacheSpace struct {
	Dir             string `json:"dir"`
	Objects         int    `json:"objects"`
	Results         int    `json:"results"`
	Bytes           int64  `json:"bytes"`
	UnneededObjects int    `json:"unneeded_objects"`
	UnneededResults int    `json:"unneeded_results"`
	UnneededBytes   int64  `json:"unneeded_bytes"` // what gc would free
}

type folderSpace struct {
	Count  int               `json:"count"`
	Bytes  int64             `json:"bytes"`
	Oldest *time.Time        `json:"oldest,omitempty"`
	All    []runner.Leftover `json:"all"`
}

func (p *program) du(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	s, err := p.measure(c.Context, pr, c.Args().Slice())
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(s)
	}
	p.printSpace(s)
	return nil
}

func (p *program) measure(ctx context.Context, pr *project, targets []string) (space, error) {
	s := space{Schema: 1, Folders: map[string]int64{}, Scratch: folderSpace{All: []runner.Leftover{}}, Runs: folderSpace{All: []runner.Leftover{}}}
	var err error
	if s.Stages, s.Sources, err = pr.runner.StageSpaces(ctx, targets); err != nil {
		return s, err
	}
	roots, err := p.allRoots(pr)
	if err != nil {
		return s, err
	}
	report, err := pr.cache.GC(ctx, roots, cache.GCOptions{Grace: -1})
	if err != nil {
		return s, err
	}
	s.Cache = cacheSpace{
		Dir: pr.cache.Dir(), Objects: report.KeptObjects + report.Objects, Results: report.KeptResults + report.Results,
		Bytes: report.KeptBytes + report.Bytes, UnneededObjects: report.Objects, UnneededResults: report.Results, UnneededBytes: report.Bytes,
	}
	leftovers, err := pr.runner.Leftovers()
	if err != nil {
		return s, err
	}
	for _, one := range leftovers {
		if one.What == "run" {
			s.Runs.add(one)
		} else {
			s.Scratch.add(one)
		}
	}
	for _, name := range []string{"exp", "sources", "edits", "tmp"} {
		bytes, err := pr.runner.FolderBytes(name)
		if err != nil {
			return s, fmt.Errorf("look at .lpipe/%s: %w", name, err)
		}
		if bytes > 0 {
			s.Folders[name] = bytes
		}
	}
	return s, nil
}

func (f *folderSpace) add(one runner.Leftover) {
	f.Count, f.Bytes, f.All = f.Count+1, f.Bytes+one.Bytes, append(f.All, one)
	if f.Oldest == nil || one.Last.Before(*f.Oldest) {
		f.Oldest = &one.Last
	}
}

func (p *program) printSpace(s space) {
	rows := [][]string{{"", "", "files", "bytes", "in the cache"}}
	row := func(name string, one runner.ContentSpace) {
		rows = append(rows, []string{name, one.Path, fmt.Sprint(one.Files), bytesText(one.Bytes), bytesText(one.Stored)})
	}
	for _, stage := range s.Stages {
		for i, out := range stage.Outputs {
			name := stage.Stage
			if i > 0 {
				name = ""
			}
			row(name, out)
		}
	}
	for _, source := range s.Sources {
		row("source", source)
	}
	if len(rows) > 1 {
		table(p.stdout, rows)
		p.result("")
	}
	rows = [][]string{{"cache", bytesText(s.Cache.Bytes), countText(s.Cache.Objects, "object") + ", " + countText(s.Cache.Results, "result") + " in " + p.shortPath(s.Cache.Dir)}}
	if s.Cache.UnneededObjects+s.Cache.UnneededResults > 0 {
		rows = append(rows, []string{"  of it", bytesText(s.Cache.UnneededBytes),
			countText(s.Cache.UnneededObjects, "object") + ", " + countText(s.Cache.UnneededResults, "result") + " that nobody needs (lpipe gc)"})
	}
	rows = append(rows, []string{"scratch", bytesText(s.Scratch.Bytes), countText(s.Scratch.Count, "folder") + " of stages that have not succeeded" + s.Scratch.since()})
	rows = append(rows, []string{"runs", bytesText(s.Runs.Bytes), countText(s.Runs.Count, "run") + ": events, logs, what failed stages left" + s.Runs.since()})
	for _, name := range sortedKeys(s.Folders) {
		rows = append(rows, []string{name, bytesText(s.Folders[name]), ".lpipe/" + name})
	}
	table(p.stdout, rows)
}

func (f folderSpace) since() string {
	if f.Oldest == nil {
		return ""
	}
	return ", the oldest of " + f.Oldest.Local().Format("2006-01-02")
}

// shortPath is a path as the person would name it: relative where it lies below.
func (p *program) shortPath(path string) string {
	if abs, err := filepath.Abs(p.dir); err == nil {
		if rel, err := filepath.Rel(abs, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

const (
	scratchAge = 7 * 24 * time.Hour  // long enough to come back to a failed training after a week off
	runAge     = 30 * 24 * time.Hour // logs of what succeeded are in the results, too
)

// gcLeftovers removes, or lists, old scratch folders and runs of this workspace.
func (p *program) gcLeftovers(ctx context.Context, pr *project, o cache.GCOptions) ([]runner.Leftover, error) {
	which := runner.LeftoverOptions{Scratch: scratchAge, Runs: runAge, KeepRuns: runner.KeptRuns}
	if o.OlderThan > 0 {
		which = runner.LeftoverOptions{Scratch: o.OlderThan, Runs: o.OlderThan}
	}
	if o.Delete {
		return pr.runner.RemoveLeftovers(ctx, which)
	}
	all, err := pr.runner.Leftovers()
	return which.Old(all, time.Now()), err
}

// countLeftovers sums them up by what they are.
func countLeftovers(all []runner.Leftover, what string) (count int, bytes int64) {
	for _, one := range all {
		if one.What == what {
			count, bytes = count+1, bytes+one.Bytes
		}
	}
	return count, bytes
}
