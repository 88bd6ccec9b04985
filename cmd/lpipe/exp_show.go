package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

// shownMetrics is how many metrics a table for people shows unless asked for all.
const shownMetrics = 6

func (p *program) expShowCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "a table of instances: the variables that differ, metrics, duration, state", ArgsUsage: "[NAME|NAME/INSTANCE...]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "sort", Usage: "sort by `COLUMN`; -COLUMN: from the top down (default: the experiment's metric, best first)"},
			&cli.StringSliceFlag{Name: "filter", Usage: "only instances for which `CONDITION` holds: rank>=16, state=failed (again for more)"},
			&cli.StringSliceFlag{Name: "group-by", Usage: "mean and spread over the finished instances with the same `VARIABLE` (again for more)"},
			&cli.BoolFlag{Name: "csv", Usage: "print CSV, with every column"},
			&cli.BoolFlag{Name: "md", Usage: "print a Markdown table"},
			&cli.BoolFlag{Name: "all", Usage: fmt.Sprintf("every metric, not the first %d", shownMetrics)},
		},
		Action: p.expShow,
	}
}

func (p *program) expShow(c *cli.Context) error {
	experiments, records, err := p.chosenExperiments(c.Args().Slice())
	if err != nil {
		return err
	}
	if records, err = runner.FilterExperiments(records, c.StringSlice("filter")); err != nil {
		return err
	}
	if by := c.StringSlice("group-by"); len(by) > 0 {
		return p.showGroups(c, records, by, measuredBy(experiments))
	}
	metric, goal := commonMetric(experiments)
	column := c.String("sort")
	if column == "" && hasMetric(records, metric) {
		column = metric
		if goal != "min" {
			column = "-" + metric
		}
	}
	if err := runner.SortExperiments(records, column); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "experiments": experimentRows(records)})
	}
	if len(records) == 0 {
		p.say("no instances to show; lpipe exp run makes some")
		return nil
	}
	rows, hidden := showRows(records, measuredBy(experiments), c.Bool("all") || c.Bool("csv"), c.Bool("csv"))
	if err := p.printRows(c, rows); err != nil {
		return err
	}
	if hidden > 0 {
		p.say("%s more: lpipe exp show --all", countText(hidden, "metric"))
	}
	for _, r := range records {
		if r.State == runner.ExperimentFailed {
			p.say("%s %s: %s", p.paint(red, "failed"), r.FullName(), failureText(r))
		}
	}
	return nil
}

// commonMetric is what all the experiments aim at.
func commonMetric(experiments []*runner.Experiment) (metric, goal string) {
	for i, e := range experiments {
		if i > 0 && (e.Metric != metric || e.Goal != goal) {
			return "", ""
		}
		metric, goal = e.Metric, e.Goal
	}
	return metric, goal
}

func hasMetric(records []*runner.ExperimentRecord, metric string) bool {
	return metric != "" && slices.ContainsFunc(records, func(r *runner.ExperimentRecord) bool { _, ok := r.Metrics[metric]; return ok })
}

// experimentRow is an instance in `exp show --json`.
type experimentRow struct {
	Name     string                     `json:"name"`
	State    string                     `json:"state"`
	Vars     map[string]json.RawMessage `json:"vars"`
	Metrics  map[string]*float64        `json:"metrics"`
	Seconds  float64                    `json:"seconds"`
	Rung     int                        `json:"rung,omitempty"`  // at which halving stopped it
	Rungs    []runner.RungValue         `json:"rungs,omitempty"` // what it showed at each
	Finished *time.Time                 `json:"finished,omitempty"`
	Failures []runner.ExperimentFailure `json:"failures,omitempty"`
	Git      *runner.GitState           `json:"git,omitempty"`
}

func experimentRows(records []*runner.ExperimentRecord) []experimentRow {
	rows := []experimentRow{}
	for _, r := range records {
		row := experimentRow{Name: r.FullName(), State: r.State, Vars: r.Vars, Metrics: r.Metrics, Seconds: r.Seconds, Rung: r.Rung, Rungs: r.Rungs, Failures: r.Failures, Git: r.Git}
		if !r.Finished.IsZero() {
			row.Finished = &r.Finished
		}
		rows = append(rows, row)
	}
	return rows
}

// measuredBy are the metrics that an experiment goes by: its own, and that of its halving.
func measuredBy(experiments []*runner.Experiment) (names []string) {
	if metric, _ := commonMetric(experiments); metric != "" {
		names = append(names, metric)
	}
	for _, e := range experiments {
		if e.Halving != nil && !slices.Contains(names, e.Halving.Metric) {
			names = append(names, e.Halving.Metric)
		}
	}
	return names
}

// inOrder are the names of metrics with some of them first.
func inOrder(metrics map[string]bool, first []string) []string {
	names := slices.DeleteFunc(slices.Clone(first), func(name string) bool { return !metrics[name] })
	return append(names, slices.DeleteFunc(sortedKeys(metrics), func(name string) bool { return slices.Contains(first, name) })...)
}

// showRows is the table with its head.
func showRows(records []*runner.ExperimentRecord, first []string, all, plain bool) (rows [][]string, hidden int) {
	vars := runner.VaryingVars(records)
	metrics := map[string]bool{}
	for _, r := range records {
		for name := range r.Metrics {
			metrics[name] = true
		}
	}
	names := inOrder(metrics, first)
	if !all && len(names) > shownMetrics {
		hidden = len(names) - shownMetrics
		names = names[:shownMetrics]
	}
	rows = append(rows, slices.Concat([]string{"name"}, vars, names, []string{"seconds", "state"}))
	for _, r := range records {
		row := []string{r.FullName()}
		for _, name := range slices.Concat(vars, names) {
			row = append(row, cellText(r.Cell(name), plain))
		}
		seconds := ""
		if r.State != runner.ExperimentUnfinished {
			seconds = strconv.FormatFloat(r.Seconds, 'f', 2, 64)
		}
		rows = append(rows, append(row, seconds, r.State))
	}
	return rows, hidden
}

func cellText(cell any, plain bool) string {
	switch cell := cell.(type) {
	case string:
		return cell
	case float64:
		if plain {
			return strconv.FormatFloat(cell, 'g', -1, 64)
		}
		return shortNumber(cell)
	}
	return ""
}

// printRows prints a table with a head as text, CSV or Markdown.
func (p *program) printRows(c *cli.Context, rows [][]string) error {
	switch {
	case c.Bool("csv") && c.Bool("md"):
		return usagef("--csv and --md exclude each other")
	case c.Bool("csv"):
		return csv.NewWriter(p.stdout).WriteAll(rows)
	case c.Bool("md"):
		escape := strings.NewReplacer("|", `\|`, "\n", " ")
		for i, row := range rows {
			cells := make([]string, len(row))
			for j, cell := range row {
				cells[j] = escape.Replace(cell)
			}
			p.result("| %s |", strings.Join(cells, " | "))
			if i == 0 {
				p.result("|%s", strings.Repeat("---|", len(row)))
			}
		}
	default:
		table(p.stdout, rows)
	}
	return nil
}

func (p *program) showGroups(c *cli.Context, records []*runner.ExperimentRecord, by, first []string) error {
	groups, err := runner.GroupExperiments(records, by)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "groups": groups})
	}
	metrics := map[string]bool{}
	for _, g := range groups {
		for name := range g.Metrics {
			metrics[name] = true
		}
	}
	names := inOrder(metrics, first)
	if !c.Bool("all") && !c.Bool("csv") && len(names) > shownMetrics {
		p.say("%s more: lpipe exp show --all", countText(len(names)-shownMetrics, "metric"))
		names = names[:shownMetrics]
	}
	head := slices.Concat(by, []string{"count"})
	for _, name := range append(slices.Clone(names), "seconds") {
		head = append(head, name)
		if c.Bool("csv") {
			head = append(head, name+" std")
		}
	}
	rows := [][]string{head}
	for _, g := range groups {
		row := []string{}
		for _, name := range by {
			row = append(row, runner.ValueText(string(g.Vars[name])))
		}
		row = append(row, strconv.Itoa(g.Count))
		for _, name := range names {
			row = append(row, spreadCells(g.Metrics[name], c.Bool("csv"))...)
		}
		rows = append(rows, append(row, spreadCells(g.Seconds, c.Bool("csv"))...))
	}
	return p.printRows(c, rows)
}

// spreadCells is "mean ± std", for CSV two cells.
func spreadCells(s runner.Spread, plain bool) []string {
	switch {
	case plain && s.Count == 0:
		return []string{"", ""}
	case plain:
		return []string{cellText(s.Mean, true), cellText(s.Std, true)}
	case s.Count == 0:
		return []string{""}
	case s.Count == 1:
		return []string{shortNumber(s.Mean)}
	}
	return []string{fmt.Sprintf("%s ± %s", shortNumber(s.Mean), strconv.FormatFloat(s.Std, 'g', 2, 64))}
}
