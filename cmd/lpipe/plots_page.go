package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/plot"
	"lpipe/runner"
)

// writePage writes `plots -o`: all sides on one page of HTML.
func (p *program) writePage(c *cli.Context, pr *project, sides []sided) (err error) {
	to := p.path(c.String("output"))
	if extension := filepath.Ext(to); extension != ".html" && extension != ".htm" {
		return usagef("-o %s: a page of HTML is written; name it like report.html", c.String("output"))
	}
	page, err := p.page(c, pr, sides, filepath.Dir(to))
	if err != nil {
		return err
	}
	file, finish, err := atomicFile(to)
	if err != nil {
		return err
	}
	if err := page.Write(file); err != nil {
		finish(err)
		return fmt.Errorf("write %s: %w", to, err)
	}
	info, err := file.Stat()
	if err != nil {
		finish(err)
		return err
	}
	if err := finish(nil); err != nil {
		return err
	}
	p.say("%s: %s, %s, %s", c.String("output"), countText(len(page.Runs), "run"), countText(len(page.Curves), "curve"), bytesText(info.Size()))
	return nil
}

func (p *program) page(c *cli.Context, pr *project, sides []sided, dir string) (plot.Page, error) {
	root, err := filepath.Abs(pr.pipeline.Dir)
	if err != nil {
		return plot.Page{}, err
	}
	page := plot.Page{Title: filepath.Base(root), About: "written by lpipe " + release + " on " + time.Now().Format("2006-01-02 15:04"),
		Smooth: c.Float64("smooth"), Log: c.Bool("log")}
	if dir, err = filepath.Abs(dir); err != nil {
		return page, err
	}
	records := make([]*runner.ExperimentRecord, len(sides))
	for i, side := range sides {
		stages, err := p.stagesOf(pr, side, c.Args().Slice())
		if err != nil {
			return page, err
		}
		records[i] = recordOf(pr, side, stages)
		r := records[i]
		page.Runs = append(page.Runs, plot.Run{Name: side.Name, State: r.State, Vars: r.Vars, Metrics: r.Metrics, Seconds: r.Seconds,
			Artifacts: artifacts(side, stages, dir)})
	}
	page.Vars = runner.VaryingVars(records)
	page.Metric, page.Goal = p.pageMetric(sides)
	page.Metrics = pageMetrics(records, page.Metric)
	page.Curves, err = readCurves(p, pr, c, c.Args().Slice(), sides, func(one runCurve) plot.RunCurve {
		return plot.RunCurve{Run: one.side, Of: one.stage, Name: one.Name, Axis: one.Axis, Reduced: plot.Reduce(one.Curve, plot.CurvePoints)}
	})
	return page, err
}

// recordOf is what an experiment's record says, or what another side has in its place.
func recordOf(pr *project, side sided, stages []string) *runner.ExperimentRecord {
	if side.record != nil {
		return side.record
	}
	r := &runner.ExperimentRecord{State: "recorded", Vars: map[string]json.RawMessage{}, Metrics: map[string]*float64{}}
	if side.workspace {
		r.State = "workspace"
	}
	for _, v := range side.Variables {
		if !v.Sensitive && v.Value != "" {
			r.Vars[v.Name] = json.RawMessage(v.Value)
		}
	}
	for _, stage := range stages {
		for name, value := range metricsOf(pr, side, stage) {
			r.Metrics[stage+"."+name] = value
		}
	}
	return r
}

// pageMetric is the metric that all the experiments aim at.
func (p *program) pageMetric(sides []sided) (metric, goal string) {
	dir, err := p.workspace()
	if err != nil {
		return "", ""
	}
	all, err := runner.ReadExperiments(dir)
	if err != nil {
		return "", ""
	}
	of := map[string]bool{}
	for _, side := range sides {
		if side.record != nil {
			of[side.record.Experiment] = true
		}
	}
	return commonMetric(slices.DeleteFunc(all, func(e *runner.Experiment) bool { return !of[e.Name] }))
}

// pageMetrics are the names of all numbers, the one aimed at first.
func pageMetrics(records []*runner.ExperimentRecord, first string) []string {
	all := map[string]bool{}
	for _, r := range records {
		for name := range r.Metrics {
			all[name] = true
		}
	}
	names := sortedKeys(all)
	if i := slices.Index(names, first); i > 0 {
		names = slices.Concat([]string{first}, names[:i], names[i+1:])
	}
	return names
}

// artifacts are links to the outputs that stand in a side's workspace, relative to the page's folder.
func artifacts(side sided, stages []string, dir string) []plot.Artifact {
	if side.dir == "" {
		return nil
	}
	at, err := filepath.Abs(side.dir)
	if err != nil {
		return nil
	}
	var all []plot.Artifact
	for _, stage := range stages {
		outs := side.Stages[stage].Out
		for _, name := range sortedKeys(outs) {
			path := filepath.Join(at, filepath.FromSlash(outs[name].Path))
			info, err := os.Stat(path)
			relative, away := filepath.Rel(dir, path)
			if err != nil || away != nil {
				continue
			}
			size := "folder"
			if !info.IsDir() {
				size = bytesText(info.Size())
			}
			link := url.URL{Path: filepath.ToSlash(relative)}
			all = append(all, plot.Artifact{Name: stage + "." + name, Link: link.String(), Size: size})
		}
	}
	return all
}
