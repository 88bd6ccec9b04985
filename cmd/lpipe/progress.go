package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"lpipe/runner"
)

// progressView shows a run to a person: on a terminal a block of lines that is drawn anew, a line for each
// running stage with bar, rate and time left; elsewhere one line an event.
type progressView struct {
	p    *program
	live bool

	mu       sync.Mutex // guards what follows
	running  []*runningStage
	total    int
	finished int
	drawn    int // lines on the screen that the next drawing replaces
	started  time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup
}

type runningStage struct {
	name     string
	started  time.Time
	progress *runner.Event
	since    time.Time // of the first progress, for the rate
	from     float64
	spoken   time.Time // when a line was last printed about it, without a terminal
}

// newProgressView starts the view; close ends it.
func (p *program) newProgressView() *progressView {
	v := &progressView{p: p, live: p.terminal && !p.quiet && p.getenv("TERM") != "dumb", started: time.Now(), stop: make(chan struct{})}
	if v.live {
		v.stopped.Go(v.refresh)
	}
	return v
}

func (v *progressView) close() {
	close(v.stop)
	v.stopped.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.erase()
}

// refresh draws ten times a second, so that clocks run on while nothing is reported.
func (v *progressView) refresh() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-tick.C:
			v.mu.Lock()
			v.draw()
			v.mu.Unlock()
		}
	}
}

// event is told what happens; it is the runner's Report.
func (v *progressView) event(e runner.RunEvent) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch e.Event {
	case "plan":
		v.total = e.Total
	case "start":
		v.running = append(v.running, &runningStage{name: e.Stage, started: e.Time})
		if !v.live {
			v.line("%s", "start  "+e.Stage+because(e.Reasons))
		}
	case "progress":
		v.progress(e)
	case "stage":
		v.stageDone(e)
	case "warning":
		v.line("%s %s", v.p.paint(yellow, "warning:"), withStage(e))
	case "note", "wait":
		v.line("%s", withStage(e))
	}
}

func withStage(e runner.RunEvent) string {
	if e.Stage == "" {
		return e.Message
	}
	return e.Stage + ": " + e.Message
}

func (v *progressView) progress(e runner.RunEvent) {
	for _, s := range v.running {
		if s.name != e.Stage || e.Progress == nil {
			continue
		}
		if s.progress == nil || e.Progress.Unit != s.progress.Unit || e.Progress.Done < s.from {
			s.since, s.from = e.Time, e.Progress.Done
		}
		if e.Progress.Unit == "" && e.Progress.Message != "" && s.progress != nil {
			merged := *s.progress
			merged.Message = e.Progress.Message
			s.progress = &merged
		} else {
			s.progress = e.Progress
		}
		if !v.live && e.Time.Sub(latest(s.spoken, s.started)) >= 10*time.Second {
			s.spoken = e.Time
			v.line("        %s  %s", s.name, s.text(e.Time))
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (v *progressView) stageDone(e runner.RunEvent) {
	v.finished++
	for i, s := range v.running {
		if s.name == e.Stage {
			v.running = append(v.running[:i], v.running[i+1:]...)
			break
		}
	}
	if e.How == runner.HowWorkspace && !v.p.verbose {
		return
	}
	took := durationText(time.Duration(e.Seconds * float64(time.Second)))
	switch e.How {
	case runner.HowFailed:
		v.failure(e)
	case runner.HowRan:
		v.line("%s  %s  %s", v.p.paint(green, "ran  "), e.Stage, v.p.paint(grey, took))
	case runner.HowSkipped:
		v.line("%s  %s  %s", v.p.paint(grey, "skip "), e.Stage, v.p.paint(grey, e.Message))
	default:
		v.line("%s  %s  %s", v.p.paint(blue, fmt.Sprintf("%-5s", e.How)), e.Stage, v.p.paint(grey, took))
	}
}

// failure says what a person needs at two in the morning: the stage, the command, the log's last lines, and
// where the whole log lies.
func (v *progressView) failure(e runner.RunEvent) {
	f := e.Failure
	if f == nil {
		v.always("%s %s: %s", v.p.paint(red, "failed"), e.Stage, e.Error)
		return
	}
	v.always("%s %s: %v", v.p.paint(red, "failed"), f.Stage, f.Err)
	if f.Range.Filename != "" {
		v.always("  on %s line %d", f.Range.Filename, f.Range.Start.Line)
	}
	if f.Command != "" {
		v.always("  command: %s", strings.ReplaceAll(strings.TrimSpace(f.Command), "\n", "\n           "))
	}
	for _, line := range f.Tail {
		v.always("  %s %s", v.p.paint(grey, "|"), line)
	}
	if f.Log != "" {
		v.always("  whole log: %s", f.Log)
	}
	if f.Moved != "" {
		v.always("  what it left: %s", f.Moved)
	}
}

// line prints a permanent line above the live block.
func (v *progressView) line(format string, args ...any) {
	if !v.p.quiet {
		v.always(format, args...)
	}
}

func (v *progressView) always(format string, args ...any) {
	v.erase()
	fmt.Fprintf(v.p.stderr, format+"\n", args...)
	v.draw()
}

func (v *progressView) erase() {
	if v.drawn > 0 {
		fmt.Fprintf(v.p.stderr, "\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// draw writes the live block: the running stages, then the whole.
func (v *progressView) draw() {
	if !v.live || v.total == 0 {
		return
	}
	now, width := time.Now(), v.width()
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", v.drawn)
	}
	lines := 0
	for _, s := range v.running {
		b.WriteString(clip(fmt.Sprintf("%s %s  %s", v.p.paint(bold, "▸"), s.name, s.text(now)), width) + "\n")
		lines++
	}
	b.WriteString(clip(fmt.Sprintf("%s %d/%d stages  %s", bar(float64(v.finished), float64(v.total), 20), v.finished, v.total, durationText(now.Sub(v.started))), width) + "\n")
	fmt.Fprint(v.p.stderr, b.String())
	v.drawn = lines + 1
}

func (v *progressView) width() int {
	if f, ok := v.p.stderr.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 80
}

// text is one stage's progress: bar, how much, rate, time left, and what the stage itself says.
func (s *runningStage) text(now time.Time) string {
	e := s.progress
	if e == nil || e.Unit == "" && e.Message == "" {
		return durationText(now.Sub(s.started))
	}
	var parts []string
	if e.Unit != "" {
		elapsed := now.Sub(s.since).Seconds()
		rate := 0.0
		if elapsed > 0.2 {
			rate = (e.Done - s.from) / elapsed
		}
		if e.Total > 0 {
			parts = append(parts, bar(e.Done, e.Total, 20), quantity(e.Done, e.Unit)+"/"+quantity(e.Total, e.Unit))
		} else {
			parts = append(parts, quantity(e.Done, e.Unit))
		}
		if rate > 0 {
			parts = append(parts, quantity(rate, e.Unit)+"/s")
			if e.Total > e.Done {
				parts = append(parts, "left "+durationText(time.Duration((e.Total-e.Done)/rate*float64(time.Second))))
			}
		}
	}
	if e.Message != "" {
		parts = append(parts, e.Message)
	}
	return strings.Join(parts, "  ")
}

// quantity writes an amount in a unit: bytes with their prefix, the rest as a number.
func quantity(n float64, unit string) string {
	if unit == "B" {
		return bytesText(int64(n))
	}
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.2fM %s", n/1e6, unit)
	case n >= 1e4:
		return fmt.Sprintf("%.1fk %s", n/1e3, unit)
	case n >= 100 || n == float64(int(n)):
		return fmt.Sprintf("%.0f %s", n, unit)
	}
	return fmt.Sprintf("%.1f %s", n, unit)
}

func bar(done, total float64, width int) string {
	filled := 0
	if total > 0 {
		filled = min(width, max(0, int(done/total*float64(width))))
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
}

// clip shortens a line to the terminal's width, so that it takes one line on the screen. Colour codes are kept.
func clip(line string, width int) string {
	if visibleWidth(line) < width {
		return line
	}
	var b strings.Builder
	n := 0
	for i := 0; i < len(line); {
		if strings.HasPrefix(line[i:], "\x1b[") {
			if end := strings.IndexByte(line[i:], 'm'); end >= 0 {
				b.WriteString(line[i : i+end+1])
				i += end + 1
				continue
			}
		}
		r := []rune(line[i:min(len(line), i+4)])[0]
		if n++; n >= width {
			break
		}
		b.WriteRune(r)
		i += len(string(r))
	}
	return b.String() + "\x1b[0m"
}

// because names the first reasons of a run, in brackets.
func because(reasons []runner.Reason) string {
	if len(reasons) == 0 {
		return ""
	}
	var names []string
	for _, r := range reasons[:min(3, len(reasons))] {
		names = append(names, strings.TrimSpace(r.What+" "+r.Name))
	}
	more := ""
	if len(reasons) > 3 {
		more = fmt.Sprintf(" and %d more", len(reasons)-3)
	}
	return "  (" + strings.Join(names, ", ") + more + ")"
}

// reportPlainly is the report of commands that show no progress: warnings and waits, nothing else.
func (p *program) reportPlainly(e runner.RunEvent) {
	switch e.Event {
	case "warning":
		p.warn("%s", withStage(e))
	case "note", "wait":
		p.say("%s", withStage(e))
	}
}
