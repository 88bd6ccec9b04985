package main

import (
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

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
	widest   int // name so far
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
	v := &progressView{p: p, widest: 8, live: p.showsLive(), started: time.Now(), stop: make(chan struct{})}
	if v.live {
		v.stopped.Go(v.refresh)
	}
	return v
}

// showsLive tells whether lines may be drawn anew: on a terminal, unless results go there, too, as lines of JSON.
func (p *program) showsLive() bool {
	return p.terminal && !p.quiet && p.getenv("TERM") != "dumb" && !(p.json && p.resultTerminal)
}

// interrupted says at once that the signal was heard: stages have some seconds to stop.
func (v *progressView) interrupted() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.running) > 0 {
		v.line("stopping %s; the same signal again ends it at once", countText(len(v.running), "stage"))
	}
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
			v.line("start  %s%s", v.name(e.Stage), because(e.Reasons))
		}
	case "fetch":
		v.running = append(v.running, &runningStage{name: "source." + e.Source, started: e.Time})
		if !v.live {
			v.line("fetch  %s", v.name("source."+e.Source))
		}
	case "fetched":
		v.fetched(e)
	case "progress":
		v.progress(e)
	case "stage":
		v.stageDone(e)
	case "warning":
		v.p.warned = true
		v.line("%s %s", v.p.paint(yellow, "warning:"), withStage(e))
	case "note", "wait":
		v.line("%s", withStage(e))
	}
}

func withStage(e runner.RunEvent) string {
	if e.Source != "" {
		return "source." + e.Source + ": " + e.Message
	}
	if e.Stage == "" {
		return e.Message
	}
	return e.Stage + ": " + e.Message
}

func (v *progressView) progress(e runner.RunEvent) {
	name := e.Stage
	if e.Source != "" {
		name = "source." + e.Source
	}
	for _, s := range v.running {
		if s.name != name || e.Progress == nil {
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
			v.line("       %s  %s", v.name(s.name), strings.Join(s.text(e.Time, 20), "  "))
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// end takes a stage or source out of what runs.
func (v *progressView) end(name string) (last *runner.Event) {
	for i, s := range v.running {
		if s.name == name {
			v.running = append(v.running[:i], v.running[i+1:]...)
			return s.progress
		}
	}
	return nil
}

// fetched tells that a source is here. Why it is not, the stage that needs it tells.
func (v *progressView) fetched(e runner.RunEvent) {
	last := v.end("source." + e.Source)
	if e.Error != "" {
		return
	}
	size := ""
	if last != nil && last.Done > 0 {
		size = bytesText(int64(last.Done)) + ", "
	}
	v.line("%s    %s  %s", v.p.paint(green, "got"), v.name("source."+e.Source), v.p.paint(grey, size+durationText(time.Duration(e.Seconds*float64(time.Second)))))
}

func (v *progressView) stageDone(e runner.RunEvent) {
	v.end(e.Stage)
	if e.How == runner.HowPaused {
		if e.Seconds > 0 || v.p.verbose { // else it stood at the rung before
			v.line("%s %s  %s", v.p.paint(blue, "paused"), v.name(e.Stage), v.p.paint(grey, durationText(time.Duration(e.Seconds*float64(time.Second)))))
		}
		return
	}
	v.finished++
	if e.How == runner.HowWorkspace && !v.p.verbose {
		return
	}
	took := v.p.paint(grey, durationText(time.Duration(e.Seconds*float64(time.Second))))
	switch e.How {
	case runner.HowFailed:
		v.failure(e)
	case runner.HowRan:
		v.line("%s    %s  %s", v.p.paint(green, "ran"), v.name(e.Stage), took)
	case runner.HowSkipped:
		v.line("%s   %s  %s", v.p.paint(grey, "skip"), v.name(e.Stage), v.p.paint(grey, e.Message))
	default:
		v.line("%s %s", v.p.paint(blue, fmt.Sprintf("%-6s", e.How)), e.Stage)
	}
}

// name is a stage's name, as wide as the longest so far: what follows stands in a column.
func (v *progressView) name(stage string) string {
	v.widest = max(v.widest, utf8.RuneCountInString(stage))
	return stage + strings.Repeat(" ", v.widest-utf8.RuneCountInString(stage))
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
	if f.Sandbox != "" {
		v.always("  sandbox: %s", f.Sandbox)
	}
	if dir, err := v.p.workspace(); err == nil && diskFull(dir) { // then the log may lack the command's last words
		v.always("  disk: no space left where %s is; lpipe gc shows what can go", dir)
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
		fmt.Fprintf(v.p.stderr, "\r\x1b[%dA\x1b[J", v.drawn)
		v.drawn = 0
	}
}

// draw writes the live block: the running stages, then the whole.
func (v *progressView) draw() {
	if !v.live || v.total == 0 && len(v.running) == 0 {
		return
	}
	now, width := time.Now(), v.p.width()
	var b strings.Builder
	if v.drawn > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA\x1b[J", v.drawn)
	}
	for _, s := range v.running {
		head := v.p.paint(bold, "▸") + "      " + v.name(s.name) + "  "
		b.WriteString(clip(head+s.fitting(now, width-visibleWidth(head)), width) + "\n")
	}
	v.drawn = len(v.running)
	if v.total > 0 { // `update` has no stages
		whole := fmt.Sprintf("%d of %s, %d running, %s", v.finished, countText(v.total, "stage"), len(v.running), clockText(now.Sub(v.started)))
		b.WriteString(clip(v.p.paint(grey, whole), width) + "\n")
		v.drawn++
	}
	fmt.Fprint(v.p.stderr, b.String())
}

// width is the terminal's, in columns.
func (p *program) width() int {
	if f, ok := p.stderr.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 80
}

// fitting is the stage's progress within some columns: a shorter bar where that helps, then without its last parts.
func (s *runningStage) fitting(now time.Time, columns int) string {
	for _, width := range []int{20, 10} {
		if text := strings.Join(s.text(now, width), "  "); visibleWidth(text) < columns {
			return text
		}
	}
	parts := s.text(now, 10)
	for len(parts) > 1 && visibleWidth(strings.Join(parts, "  ")) >= columns {
		parts = parts[:len(parts)-1]
	}
	return strings.Join(parts, "  ")
}

// text is one stage's progress: bar, how much, time left, and what the stage itself says, or else the rate.
func (s *runningStage) text(now time.Time, width int) []string {
	e := s.progress
	if e == nil || e.Unit == "" && e.Message == "" {
		return []string{clockText(now.Sub(s.started))}
	}
	var parts []string
	if e.Unit != "" {
		elapsed := now.Sub(s.since).Seconds()
		rate := 0.0
		if elapsed > 0.2 {
			rate = (e.Done - s.from) / elapsed
		}
		if e.Total > 0 {
			parts = append(parts, bar(e.Done, e.Total, width), share(e.Done, e.Total, e.Unit))
		} else {
			parts = append(parts, quantity(e.Done, e.Unit))
		}
		if rate > 0 && e.Total > e.Done {
			parts = append(parts, clockText(time.Duration((e.Total-e.Done)/rate*float64(time.Second)))+" left")
		}
		if rate > 0 && e.Message == "" {
			parts = append(parts, quantity(rate, e.Unit)+"/s")
		}
	}
	if e.Message != "" {
		parts = append(parts, strings.Split(e.Message, "  ")...)
	}
	return parts
}

// clockText is a running clock, in whole seconds: a digit that flickers tells nothing.
func clockText(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%d s", int(d.Seconds()+0.5))
	}
	return durationText(d)
}

// share writes "117/280 steps", "1.2 MB/734.0 MB".
func share(done, total float64, unit string) string {
	if unit == "B" {
		return bytesText(int64(done)) + "/" + bytesText(int64(total))
	}
	return amountText(done) + "/" + amountText(total) + " " + unit
}

// quantity writes an amount in a unit: bytes with their prefix, the rest as a number.
func quantity(n float64, unit string) string {
	if unit == "B" {
		return bytesText(int64(n))
	}
	return amountText(n) + " " + unit
}

func amountText(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.2fM", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1fk", n/1e3)
	case n >= 100 || n == math.Trunc(n):
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.1f", n)
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
		switch {
		case r.Vague():
			names = append(names, strings.TrimSpace(r.What+" "+r.Name))
		case r.Name == "":
			names = append(names, r.New)
		case r.What == "setting":
			names = append(names, r.Name+change(r, 20))
		default:
			names = append(names, r.What+" "+r.Name)
		}
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
