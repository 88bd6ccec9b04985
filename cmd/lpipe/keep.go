package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/runner"
	"lpipe/tracking/spool"
)

// The commands that look after the cache: gc and fsck.

func (p *program) gcCommand() *cli.Command {
	return &cli.Command{
		Name: "gc", Category: categoryData, Usage: "preview, or with --delete remove, what nothing needs",
		Description: "What the locks of all profiles, pins and experiments name stays, of every project that uses the cache.\n" +
			"In this workspace scratch folders that nothing was written to for 7 days go, too, and runs older than 30 days\n" +
			"or beyond the newest 50; --older-than gives both another age.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "delete", Usage: "remove it; without this nothing is removed"},
			&cli.IntFlag{Name: "keep-last", Usage: "keep the newest `N` results of each stage"},
			&cli.StringFlag{Name: "max-size", Usage: "remove, oldest first, only until the cache is this small: `S` like 20GB"},
			&cli.StringFlag{Name: "older-than", Usage: "remove only what is older than `D`: 12h, 30d"},
			&cli.StringFlag{Name: "remote", Usage: "collect in remote `NAME` instead of the cache"},
		},
		Action: p.gc,
	}
}

func (p *program) gc(c *cli.Context) error {
	o := cache.GCOptions{Delete: c.Bool("delete"), KeepLast: c.Int("keep-last")}
	var err error
	if o.MaxSize, err = parseSize(c.String("max-size")); err != nil {
		return usagef("--max-size: %w", err)
	}
	if o.OlderThan, err = parseAge(c.String("older-than")); err != nil {
		return usagef("--older-than: %w", err)
	}
	if o.OlderThan > 0 || o.MaxSize > 0 {
		o.Grace = -1
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	if name := c.String("remote"); name != "" {
		roots, err := p.allRoots(pr)
		if err != nil {
			return err
		}
		return p.gcRemote(c.Context, pr, name, roots, o)
	}
	o.Roots = func() (cache.GCRoots, error) { return p.allRoots(pr) }
	report, err := pr.cache.GC(c.Context, cache.GCRoots{}, o)
	if err != nil {
		return err
	}
	leftovers, err := p.gcLeftovers(c.Context, pr, o)
	if errors.Is(err, runner.ErrBusy) {
		p.warn("%v, so its scratch folders and runs are left alone", err)
	} else if err != nil {
		return err
	}
	return p.printGC(o, report, leftovers)
}

func (p *program) printGC(o cache.GCOptions, report cache.GCReport, leftovers []runner.Leftover) error {
	scratches, scratchBytes := countLeftovers(leftovers, "scratch")
	runs, runBytes := countLeftovers(leftovers, "run")
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "deleted": o.Delete, "objects": report.Objects, "results": report.Results,
			"leftovers": report.Temp, "bytes": report.Bytes, "kept_objects": report.KeptObjects, "kept_results": report.KeptResults, "kept_bytes": report.KeptBytes,
			"scratch": scratches, "scratch_bytes": scratchBytes, "runs": runs, "run_bytes": runBytes})
	}
	verb, hint := "would remove", "; lpipe gc --delete does it"
	if o.Delete {
		verb, hint = "removed", ""
	}
	if report.Objects+report.Results+report.Temp+len(leftovers) == 0 {
		hint = ""
	}
	p.result("%s %s, %s, %s of interrupted commands: %s%s", verb, countText(report.Objects, "object"), countText(report.Results, "result"),
		countText(report.Temp, "leftover"), bytesText(report.Bytes), hint)
	if len(leftovers) > 0 {
		p.result("%s %s of stages that never succeeded: %s; the logs of %s: %s", verb, countText(scratches, "scratch folder"), bytesText(scratchBytes),
			countText(runs, "run"), bytesText(runBytes))
	}
	p.result("kept %s, %s: %s", countText(report.KeptObjects, "object"), countText(report.KeptResults, "result"), bytesText(report.KeptBytes))
	return nil
}

// projectRoots are what gc must keep for a project: what the runner knows, and what is recorded for tracking and not sent.
func projectRoots(dir string) (cache.GCRoots, error) {
	roots, err := runner.Roots(dir)
	if err != nil {
		return roots, err
	}
	unsent, err := spool.Unsent(filepath.Join(dir, ".lpipe", "tracking"))
	roots.Contents = append(roots.Contents, unsent...)
	return roots, err
}

// allRoots are the roots of every project that uses this cache. A project that is gone has none.
func (p *program) allRoots(pr *project) (cache.GCRoots, error) {
	roots, err := projectRoots(pr.pipeline.Dir)
	if err != nil {
		return roots, err
	}
	projects, err := pr.cache.Projects()
	if err != nil {
		return roots, err
	}
	for _, dir := range projects {
		if dir == pr.pipeline.Dir {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, ".lpipe")); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		more, err := projectRoots(dir)
		if err != nil {
			return roots, err
		}
		roots.Contents, roots.Keys = append(roots.Contents, more.Contents...), append(roots.Keys, more.Keys...)
	}
	return roots, nil
}

func (p *program) fsckCommand() *cli.Command {
	return &cli.Command{
		Name: "fsck", Category: categoryData, Usage: "check content against names",
		Description: "Looks at the cache's objects, trees and results, and at the project's locks, journal, pins and experiments.\n" +
			"--repair sets aside or drops what is damaged, so that the next repro or pull brings it back; what neither gives is mended.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "full", Usage: "hash everything; without it only what looks touched"},
			&cli.BoolFlag{Name: "repair", Usage: "set damaged objects aside, so that they are made or fetched again; mend the project's own files"},
			&cli.StringFlag{Name: "remote", Usage: "check remote `NAME` instead of the cache: that all is there, and of 5 % of its packs and large objects the bytes"},
			&cli.StringFlag{Name: "sample", Usage: "with --remote: read `SHARE`, like 10%, of packs and large objects; each day the next part, so that in ten days all were read"},
		},
		Action: p.fsck,
	}
}

func (p *program) fsck(c *cli.Context) error {
	sample, err := fsckSample(c)
	if err != nil {
		return err
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true, repair: c.Bool("repair")})
	if err != nil {
		return err
	}
	defer pr.close(p)
	if name := c.String("remote"); name != "" {
		return p.fsckRemote(c.Context, pr, name, sample, c.Bool("repair"))
	}
	report, err := pr.cache.Fsck(c.Context, cache.FsckOptions{Full: c.Bool("full"), Repair: c.Bool("repair")})
	if err != nil {
		return err
	}
	files, err := pr.runner.CheckFiles(c.Context, c.Bool("repair"))
	if err != nil {
		return err
	}
	for _, one := range files {
		report.Problems = append(report.Problems, cache.Problem{Path: one.Path, What: one.What, Err: one.Err, Repaired: one.Repaired})
	}
	return p.printFsck(report)
}

// fsckSample is the share of a remote that is read.
func fsckSample(c *cli.Context) (float64, error) {
	text := c.String("sample")
	switch {
	case text == "" && c.Bool("full"):
		return 1, nil
	case text == "":
		return 0.05, nil
	case c.Bool("full"):
		return 0, usagef("--full reads all: leave out --sample")
	case c.String("remote") == "":
		return 0, usagef("--sample is for a remote: add --remote NAME; the cache's own objects are hashed where they look touched, or all with --full")
	}
	number, ok := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if !ok || err != nil || !(share >= 0 && share <= 100) {
		return 0, usagef("--sample: %q is no share; write 10%%", text)
	}
	return share / 100, nil
}

// printFsck prints the findings; damage that is left is exit 4.
func (p *program) printFsck(report cache.FsckReport) error {
	left := 0
	type finding struct {
		Path     string `json:"path"`
		What     string `json:"what"`
		Error    string `json:"error"`
		Repaired bool   `json:"repaired"`
	}
	findings := []finding{}
	for _, problem := range report.Problems {
		if !problem.Repaired {
			left++
		}
		findings = append(findings, finding{problem.Path, problem.What, problem.Err.Error(), problem.Repaired})
	}
	if p.json {
		if err := p.printJSON(map[string]any{"schema": 1, "objects": report.Objects, "trees": report.Trees, "results": report.Results,
			"bytes": report.Bytes, "problems": findings}); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			repaired := ""
			if f.Repaired {
				repaired = " (repaired)"
			}
			p.result("%s %s: %s%s", p.paintResult(red, f.What), f.Path, f.Error, repaired)
		}
		p.result("%s, %s, %s checked, %s hashed: %s", countText(report.Objects, "object"), countText(report.Trees, "tree"),
			countText(report.Results, "result"), bytesText(report.Bytes), countText(len(findings), "problem"))
	}
	if left > 0 {
		return shown{exitDamaged}
	}
	return nil
}

var sizePattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([kMGT]?)(i?)B?$`) })

// parseSize reads 20GB, 512MiB, 1.5T; nothing is 0.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	m := sizePattern().FindStringSubmatch(text)
	if m == nil {
		return 0, usagef("%q is no size; write 20GB or 512MiB", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, err
	}
	base := 1000.0
	if m[3] == "i" {
		base = 1024
	}
	for _, unit := range []string{"k", "M", "G", "T"} {
		if m[2] == "" {
			break
		}
		n *= base
		if unit == m[2] {
			break
		}
	}
	return int64(n), nil
}

// parseAge reads 90m, 12h, 30d, 2w; nothing is 0.
func parseAge(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := runner.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usagef("%q is no age; write 12h or 30d", text)
	}
	return d, nil
}
