package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEventText: what is written field by field is what encoding/json writes.
func TestEventText(t *testing.T) {
	at := time.Date(2026, 7, 4, 1, 2, 3, 456_000_000, time.UTC)
	for _, text := range []string{"", "plain", "a <b> & c", "ä \"x\"", "line\nbreak", "bad \xff"} {
		for _, seconds := range []float64{0, 1, 0.25, 1e-6, 9.9e-7, 123456789.5, 1e21, -1} {
			for _, e := range []RunEvent{
				{Event: "stage", Time: at, Stage: text, Kind: text, How: text, Seconds: seconds},
				{Event: text, Time: at.In(time.FixedZone("east", 3600)), Stage: text, Failure: &StageFailure{}},
				{Event: "start", Time: at, Log: text, Reasons: []Reason{{What: text}}, Seconds: seconds},
				{Event: "done", Message: text, Total: 3},
			} {
				equalText(t, string(e.append(nil)), string(compact(e)))
			}
		}
	}
}

// The events of reused stages may wait, but none is lost when a run ends, and none comes before an earlier one.
func TestEventsKeepTheirOrder(t *testing.T) {
	r := newRun(t.TempDir(), time.Now())
	dir, err := r.folder()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, how := range []string{HowWorkspace, HowRan, HowCache, HowWorkspace, HowFailed, HowWorkspace} {
		e := RunEvent{Event: "stage", Stage: "s", How: how}
		r.note(e)
		want = append(want, string(compact(e)))
	}
	r.close()
	data, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	equalText(t, string(data), strings.Join(want, "\n")+"\n")
}

// Names of runs sort by time within a second too, and tell it.
func TestRunsSortByTime(t *testing.T) {
	at := time.Date(2026, 11, 24, 13, 59, 59, 0, time.UTC)
	last := ""
	for _, part := range []time.Duration{0, 20 * time.Microsecond, time.Millisecond, 100 * time.Millisecond, time.Second - 1, time.Second} {
		id := newRun("", at.Add(part)).id
		if id <= last {
			t.Errorf("%s follows %s", id, last)
		}
		if got := runStart(id).Sub(at.Add(part)); got > 0 || got < -16*time.Microsecond {
			t.Errorf("%s tells %s, not %s", id, runStart(id), at.Add(part))
		}
		last = id
	}
	for _, id := range []string{"", "x", "20261124", "20261124-13", "2026-11-24-1"} {
		if got := runStart(id); !got.IsZero() {
			t.Errorf("%q tells %s", id, got)
		}
	}
	if got := runStart("20261124-135959"); !got.Equal(at) {
		t.Errorf("without a part it is %s", got)
	}
}
