package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"lpipe/plot"
	"lpipe/runner"
)

func (p *program) plotsCommand() *cli.Command {
	return &cli.Command{
		Name: "plots", Category: categoryLook, Usage: "curves that the stages' outputs hold, here or on a page of HTML", ArgsUsage: "[TARGET...]",
		Description: "Reads the outputs marked as plots (train: curve; `plots = [\"name\"]` in a shell stage): JSONL with an object of\n" +
			"numbers a line, or JSON with lists. Curves of one name share a chart. With -o FILE.html they go on one page that\n" +
			"loads nothing, with a table of the runs, parallel coordinates and links; of the workspace and all experiments.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write a page to `FILE`"},
			ofFlag(),
			&cli.StringSliceFlag{Name: "group-by", Usage: "mean and spread over the finished instances with the same `VARIABLE` (again for more)"},
		}, curveFlags()...),
		Action: p.plots,
	}
}

// curveFlags say which curves are drawn, and how.
func curveFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "name", Usage: "only curves with this `NAME`, * being any text: '*/loss' (again for more)"},
		&cli.StringFlag{Name: "x", Usage: "draw over this `FIELD`, such as tokens", DefaultText: "step, else the row's number"},
		&cli.BoolFlag{Name: "log", Usage: "logarithmic scale"},
		&cli.Float64Flag{Name: "smooth", Usage: "exponential moving average of this `WEIGHT`, from 0 to below 1"},
		&cli.IntFlag{Name: "width", Usage: "of a chart, in `COLUMNS`", DefaultText: "the terminal's, or 80"},
		&cli.IntFlag{Name: "height", Usage: "of a chart, in `LINES`", DefaultText: "a third of the terminal's, or 12"},
	}
}

// runCurve is one curve of a file.
type runCurve struct {
	side  int // index into the sides that were asked for
	stage string
	plot.Curve
	spread []float64 // of a mean: the standard deviation at each place
}

func (p *program) plots(c *cli.Context) error {
	if s := c.Float64("smooth"); s < 0 || s >= 1 {
		return usagef("--smooth %v: a weight is at least 0 and below 1, such as 0.9", s)
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	sides, err := p.plottedSides(c, pr)
	if err != nil {
		return err
	}
	if c.IsSet("output") && c.IsSet("group-by") {
		return usagef("--group-by draws means in the terminal; a page shows every run, and its reader filters them")
	}
	if c.IsSet("output") {
		return p.writePage(c, pr, sides)
	}
	curves, err := readCurves(p, pr, c, c.Args().Slice(), sides, whole)
	if err != nil {
		return err
	}
	if by := c.StringSlice("group-by"); len(by) > 0 {
		if sides, curves, err = groupCurves(sides, curves, by); err != nil {
			return err
		}
	}
	if p.json {
		return p.printCurves(sides, curves)
	}
	if len(curves) == 0 {
		p.say("there are no curves%s; a train stage writes one where its out names adapter, metrics and curve, a shell stage names its own with plots = [\"…\"]", ofText(sides))
		return nil
	}
	return p.drawCurves(c, sides, curves)
}

func ofText(sides []sided) string {
	if len(sides) == 1 {
		return " of " + sides[0].Name
	}
	return ""
}

// plottedSides are what --of names; else the workspace, for a page with all experiments.
func (p *program) plottedSides(c *cli.Context, pr *project) ([]sided, error) {
	if names := c.StringSlice("of"); len(names) > 0 {
		return p.sides(c.Context, pr, names)
	}
	here := workspaceSide(pr)
	if !c.IsSet("output") {
		return []sided{here}, nil
	}
	var sides []sided
	if p.standsAnything(pr, here) {
		sides = append(sides, here)
	}
	experiments, _, err := p.chosenExperiments(nil)
	if err != nil {
		return nil, err
	}
	for _, e := range experiments {
		more, err := experimentSides(pr, e.Name)
		if err != nil {
			return nil, err
		}
		sides = append(sides, more...)
	}
	return sides, nil
}

// standsAnything tells whether the workspace has metrics or curves.
func (p *program) standsAnything(pr *project, here sided) bool {
	for stage := range here.Stages {
		for _, file := range append(markedFiles(pr, here, stage, metricFiles()), markedFiles(pr, here, stage, plotFiles())...) {
			if _, err := os.Stat(file.at); err == nil {
				return true
			}
		}
	}
	return false
}

// whole keeps a curve as it is.
func whole(c runCurve) runCurve { return c }

// readCurves reads the curves of all sides, several files at once; keep makes of each what is kept in memory. Files that
// are not there, or hold no curves, are told of and left out.
func readCurves[T any](p *program, pr *project, c *cli.Context, targets []string, sides []sided, keep func(runCurve) T) ([]T, error) {
	wanted, err := namePatterns(c.StringSlice("name"))
	if err != nil {
		return nil, err
	}
	type job struct {
		side int
		file markedFile
	}
	var jobs []job
	for i, side := range sides {
		stages, err := p.stagesOf(pr, side, targets)
		if err != nil {
			return nil, err
		}
		for _, stage := range stages {
			for _, file := range markedFiles(pr, side, stage, plotFiles()) {
				jobs = append(jobs, job{i, file})
			}
		}
	}
	results, problems := make([][]T, len(jobs)), make([]error, len(jobs))
	var group errgroup.Group
	group.SetLimit(runtime.NumCPU())
	for i, one := range jobs {
		group.Go(func() error {
			curves, err := one.file.curves(c.String("x"))
			problems[i] = err
			for _, curve := range curves {
				if wanted(curve.Name) {
					results[i] = append(results[i], keep(runCurve{one.side, one.file.stage, curve, nil}))
				}
			}
			return c.Context.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i, err := range problems {
		if err != nil {
			p.sayUnread(sides[jobs[i].side], jobs[i].file, err)
		}
	}
	kept := slices.Concat(results...)
	for i, side := range sides {
		if one, known := p.stoppedCurve(pr, i, side, targets); known && wanted(one.Name) {
			kept = append(kept, keep(one))
		}
	}
	return kept, nil
}

// stoppedCurve is the one curve that is known of an instance that halving stopped: its stage left no file.
func (p *program) stoppedCurve(pr *project, side int, of sided, targets []string) (runCurve, bool) {
	if of.record == nil {
		return runCurve{}, false
	}
	metric, points := of.record.StoppedCurve(pr.pipeline.Dir)
	stage, name, _ := strings.Cut(metric, ".")
	steps, err := p.choose(pr.pipeline, targets)
	meant := slices.ContainsFunc(steps, func(step *runner.Step) bool { return step.Name == stage })
	if len(points) == 0 || err != nil || len(targets) > 0 && !meant {
		return runCurve{}, false
	}
	curve := plot.Curve{Name: name, Axis: "step"}
	for _, p := range points {
		curve.X, curve.Y = append(curve.X, p.Step), append(curve.Y, p.Value)
	}
	return runCurve{side: side, stage: stage, Curve: curve}, true
}

func (f markedFile) curves(axis string) ([]plot.Curve, error) {
	file, err := f.open()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return plot.Read(file, filepath.Ext(f.path), axis)
}

// namePatterns tells whether a name fits one of some patterns; without any, all do.
func namePatterns(patterns []string) (func(string) bool, error) {
	if len(patterns) == 0 {
		return func(string) bool { return true }, nil
	}
	var parts []string
	for _, pattern := range patterns {
		parts = append(parts, strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*"))
	}
	expression, err := regexp.Compile("^(?:" + strings.Join(parts, "|") + ")$")
	if err != nil {
		return nil, usagef("--name: %w", err)
	}
	return expression.MatchString, nil
}

// printCurves is `plots --json`: every point, null for what is no finite number.
func (p *program) printCurves(sides []sided, curves []runCurve) error {
	type line struct {
		Of    string     `json:"of"`
		Stage string     `json:"stage"`
		Name  string     `json:"name"`
		X     []*float64 `json:"x"`
		Y     []*float64 `json:"y"`
		Std   []*float64 `json:"std,omitempty"` // of means
	}
	lines := []line{}
	for _, one := range curves {
		lines = append(lines, line{sides[one.side].Name, one.stage, one.Name, finite(one.X), finite(one.Y), finite(one.spread)})
	}
	return p.printJSONLine(map[string]any{"schema": 1, "curves": lines})
}

func finite(values []float64) []*float64 {
	all := make([]*float64, len(values))
	for i := range values {
		if !math.IsNaN(values[i]) && !math.IsInf(values[i], 0) {
			all[i] = &values[i]
		}
	}
	return all
}

// drawCurves draws a chart for each name.
func (p *program) drawCurves(c *cli.Context, sides []sided, curves []runCurve) error {
	chart := plot.Chart{Width: c.Int("width"), Height: c.Int("height"), Log: c.Bool("log"), Smooth: c.Float64("smooth"), Paint: p.linePaint}
	columns, lines := resultSize(p.stdout)
	if chart.Width <= 0 {
		chart.Width = columns
	}
	if chart.Height <= 0 {
		chart.Height = min(max(lines/3, 8), 24)
	}
	named := labels(sides, curves)
	for i, name := range chartNames(curves) {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		var drawn []plot.Line
		for k, one := range curves {
			if one.Name == name {
				drawn = append(drawn, plot.Line{Label: named[k], Curve: one.Curve})
			}
		}
		if err := chart.Draw(p.stdout, p.paintResult(bold, name), drawn); err != nil {
			return err
		}
	}
	return nil
}

// chartNames are the curves' names, losses first, else in the order in which they come up.
func chartNames(curves []runCurve) (names []string) {
	seen := map[string]bool{}
	for _, one := range curves {
		if !seen[one.Name] {
			seen[one.Name] = true
			names = append(names, one.Name)
		}
	}
	slices.SortStableFunc(names, plot.LossFirst)
	return names
}

// labels name each curve by what sets it apart: its stage, what it is of, or both.
func labels(sides []sided, curves []runCurve) []string {
	stages := map[string]bool{}
	for _, one := range curves {
		stages[one.stage] = true
	}
	named := make([]string, len(curves))
	for i, one := range curves {
		switch {
		case one.spread != nil && len(stages) == 1:
			named[i] = fmt.Sprintf("%s  ± %.2g at the end", sides[one.side].Name, one.spread[len(one.spread)-1])
		case len(sides) == 1:
			named[i] = one.stage
		case len(stages) == 1:
			named[i] = sides[one.side].Name
		default:
			named[i] = sides[one.side].Name + "  " + one.stage
		}
	}
	return named
}

// linePaint paints in one of twelve colours that are told apart on dark and on light ground; they come again after that.
func (p *program) linePaint(line int, text string) string {
	colours := []string{"34", "33", "32", "31", "35", "36", "94", "93", "92", "91", "95", "96"}
	return p.paintResult(colours[line%len(colours)], text)
}

// resultSize is the size of the terminal that results go to, else 80 x 36.
func resultSize(w io.Writer) (columns, lines int) {
	if f, ok := w.(*os.File); ok {
		if columns, lines, err := term.GetSize(int(f.Fd())); err == nil && columns > 20 {
			return columns, lines
		}
	}
	return 80, 36
}
