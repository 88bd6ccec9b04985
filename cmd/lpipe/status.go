package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Category: categoryLook, Usage: "what is fresh, stale, missing", ArgsUsage: "[TARGET...]",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "check", Usage: "exit 3 if there is work: for repro, or a changed source for add"}},
		Action: p.status,
	}
}

func (p *program) status(c *cli.Context) error {
	if p.asksAll(c) {
		if report, fresh := runner.ReadFresh(p.circumstances()); fresh {
			p.sayAllFresh(report.Stages, report.Sources)
			return nil
		}
	}
	pr, err := p.open(c.Context, projectOptions{})
	if err != nil {
		return err
	}
	defer pr.close(p)
	report, err := pr.runner.Status(c.Context, c.Args().Slice())
	if err != nil {
		return err
	}
	if err := p.printStatus(report); err != nil {
		return err
	}
	if c.Bool("check") && report.Work() {
		return shown{exitFoundWork}
	}
	return nil
}

func (p *program) printStatus(report runner.StatusReport) error {
	if p.json {
		return p.printJSON(report)
	}
	fresh := 0
	rows := [][]string{}
	for _, s := range report.Stages {
		if s.State == runner.Fresh {
			if fresh++; !p.verbose {
				continue
			}
		}
		rows = append(rows, []string{s.Name, p.paintResult(stateColor(s.State), s.State), reasonText(s.Reasons)})
	}
	for _, s := range report.Sources {
		if s.State == runner.Fresh && !p.verbose {
			continue
		}
		rows = append(rows, []string{s.Name, p.paintResult(stateColor(s.State), s.State), strings.TrimSpace("source " + s.Path + "  " + reasonText(s.Reasons))})
	}
	table(p.stdout, rows)
	switch {
	case p.quiet:
	case len(rows) == 0:
		p.sayAllFresh(fresh, len(report.Sources))
	case fresh > 0:
		p.result("%s more, fresh", countText(fresh, "stage"))
	}
	return nil
}

func (p *program) sayAllFresh(stages, sources int) {
	if !p.quiet {
		p.result("%s and %s, all fresh", countText(stages, "stage"), countText(sources, "source"))
	}
}

func stateColor(state string) string {
	switch state {
	case runner.Fresh:
		return green
	case runner.Failed:
		return red
	case runner.Frozen:
		return grey
	}
	return yellow
}

// reasonText is the reasons on one line, shortened.
func reasonText(reasons []runner.Reason) string {
	var parts []string
	for _, r := range reasons {
		parts = append(parts, strings.TrimSpace(r.What+" "+r.Name)+change(r, 40))
	}
	text := strings.Join(parts, "; ")
	if runes := []rune(text); len(runes) > 160 {
		text = string(runes[:160]) + "…"
	}
	return text
}

// change is what became of what: ": 8 → 16". Of values longer than width it shows where they part.
func change(r runner.Reason, width int) string {
	from := 0
	if width > 0 {
		from = sharedStart([]rune(r.Old), []rune(r.New), width)
	}
	short := func(s string) string {
		runes, start, end := []rune(s)[min(from, len([]rune(s))):], "", ""
		if from > 0 {
			start = "…"
		}
		if width > 0 && len(runes) > width {
			runes, end = runes[:width], "…"
		}
		return start + strings.ReplaceAll(string(runes), "\n", "⏎") + end
	}
	switch {
	case r.Old == "" && r.New == "":
		return ""
	case r.Old == r.New: // both say "changed": the values may not be shown
		return ": " + r.New
	case r.Old == "":
		return ": " + short(r.New)
	case r.New == "":
		return ": " + short(r.Old) + " → nothing"
	}
	return ": " + short(r.Old) + " → " + short(r.New)
}

// sharedStart is how much to leave out at the start of two texts so that width runes of each show where they part, with
// some runes before it; 0 where both fit, where they part early, or where one is empty.
func sharedStart(a, b []rune, width int) int {
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	if max(len(a), len(b)) <= width || same < width/2 {
		return 0
	}
	return same - width/4
}

func (p *program) whyCommand() *cli.Command {
	return &cli.Command{
		Name: "why", Category: categoryLook, Usage: "what changed since the recorded run, and why a stage does not run", ArgsUsage: "TARGET",
		Action: p.why,
	}
}

func (p *program) why(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef("why needs one target: a stage, an instance, or an output path")
	}
	pr, err := p.open(c.Context, projectOptions{})
	if err != nil {
		return err
	}
	defer pr.close(p)
	stages, err := pr.runner.Why(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "stages": stages})
	}
	for _, s := range stages {
		p.printWhy(s)
	}
	return nil
}

func (p *program) printWhy(s runner.StageStatus) {
	p.result("%s is %s%s", p.paintResult(bold, s.Name), p.paintResult(stateColor(s.State), s.State), wouldText(s))
	if len(s.Reasons) == 0 && s.State != runner.Frozen {
		p.result("  nothing changed: inputs, settings, code and outputs are as in the recorded run")
	}
	for _, u := range s.Unmoved {
		p.result("  %s: %s", strings.TrimSpace(u.What+" "+u.Name), u.Note)
	}
	if len(s.Unmoved) > 0 && s.Kind == "shell" && s.State != runner.Frozen {
		p.result("  files that the command reads beside these do not count: name them in `in` or code, or find them with sandbox = true")
	}
	for _, r := range s.Reasons {
		p.result("  %s", strings.TrimSpace(r.What+" "+r.Name)+change(r, 0))
	}
	if slices.ContainsFunc(s.Reasons, runner.Reason.Vague) {
		p.result("  the cache has no record of that run, which would say more; where the remote has it, lpipe fetch %s brings it", s.Name)
	}
}

func wouldText(s runner.StageStatus) string {
	last := ""
	if s.Seconds > 0 {
		last = fmt.Sprintf(" (it took %s last time)", durationText(time.Duration(s.Seconds*float64(time.Second))))
	}
	switch s.Would {
	case "run":
		return ": repro would run it" + last
	case "restore":
		return ": repro would put its outputs back, without running it"
	case "fetch":
		return ": repro would bring its outputs from the remote, without running it"
	case "run?":
		return ": whether it runs hangs on what comes out of the stages before it" + last
	}
	return ""
}

// dryRun is `repro -n`.
func (p *program) dryRun(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: c.Bool("allow-missing")})
	if err != nil {
		return err
	}
	defer pr.close(p)
	report, err := pr.runner.DryRun(c.Context, reproOptions(c))
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(report)
	}
	rows := [][]string{}
	for _, s := range report.Stages {
		switch {
		case s.Would != "":
			rows = append(rows, []string{s.Would, s.Name, reasonText(s.Reasons)})
		case s.State == "blocked": // repro would fail there
			rows = append(rows, []string{s.State, s.Name, reasonText(s.Reasons)})
		}
	}
	table(p.stdout, rows)
	if len(rows) == 0 {
		p.say("%s up to date, nothing to run", countText(len(report.Stages), "stage"))
	}
	return nil
}
