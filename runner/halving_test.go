package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/cache"
)

func TestWhoGoesOnFromARung(t *testing.T) {
	nan := math.NaN()
	cases := []struct {
		name    string
		goal    string
		keep    float64
		entered int
		values  []float64 // NaN: no number
		keys    string    // a letter for each, "": all differ
		want    string    // places of those that go on
		decided bool
	}{
		{"the better half", "min", 0.5, 4, []float64{3, 1, 4, 2}, "", "1 3", true},
		{"the most", "max", 0.5, 4, []float64{3, 1, 4, 2}, "", "0 2", true},
		{"of three, two", "min", 0.5, 3, []float64{3, 1, 4}, "", "0 1", true},
		{"a third of nine is three", "min", 1. / 3, 9, []float64{9, 8, 7, 6, 5, 4, 3, 2, 1}, "", "6 7 8", true},
		{"one is always left", "min", 0.1, 2, []float64{2, 1}, "", "1", true},
		{"alone", "min", 0.5, 1, []float64{2}, "", "0", true},
		{"equal values in their order", "min", 0.5, 4, []float64{1, 1, 1, 1}, "", "0 1", true},
		{"equal keys share their fate", "min", 0.5, 4, []float64{1, 2, 2, 3}, "abba", "0 1 2 3", true},
		{"no number never goes on", "max", 0.5, 4, []float64{nan, 1, nan, nan}, "", "1", true},
		{"none has a number", "max", 0.5, 2, []float64{nan, nan}, "", "0 1", false},
		{"failed ones take no place from others", "min", 0.5, 4, []float64{3, 1}, "", "0 1", true},
		{"infinity is told as no number, the largest float is one", "max", 0.5, 2, []float64{nan, math.MaxFloat64}, "", "1", true},
	}
	for _, c := range cases {
		var contenders []contender
		for i, v := range c.values {
			one := contender{name: fmt.Sprint(i), value: &v}
			if math.IsNaN(v) {
				one.value = nil
			}
			if c.keys != "" {
				one.key = c.keys[i : i+1]
			}
			contenders = append(contenders, one)
		}
		on, decided := (&Halving{Goal: c.goal, Keep: c.keep}).goOn(c.entered, contenders)
		maps.DeleteFunc(on, func(_ string, on bool) bool { return !on })
		equal(t, c.name, strings.Join(slices.Sorted(maps.Keys(on)), " "), c.want)
		if decided != c.decided {
			t.Errorf("%s: decided %v", c.name, decided)
		}
	}
}

// rungText is what a watch knows: "5:0.3 15:-".
func rungText(w *watch) string {
	values, _ := w.rungs()
	var parts []string
	for _, v := range values {
		text := "-"
		if v.Value != nil {
			text = fmt.Sprint(*v.Value)
		}
		parts = append(parts, fmt.Sprintf("%g:%s", v.Step, text))
	}
	return strings.Join(parts, " ")
}

func newWatch(t *testing.T, limit int, rungs ...float64) *watch {
	w := &watch{halving: &Halving{Metric: "train.loss", Goal: "min", Rungs: rungs, Keep: 0.5}, limit: limit,
		path: filepath.Join(t.TempDir(), "rungs.jsonl"), curve: func(string, string) ([]CurvePoint, error) { return nil, fs.ErrNotExist }}
	t.Cleanup(w.close)
	w.open(cache.SumKey("a"))
	return w
}

func (w *watch) mustSee(t *testing.T, steps ...seenStep) (stop bool) {
	t.Helper()
	for _, s := range steps {
		at, err := w.saw(s)
		if err != nil {
			t.Fatal(err)
		}
		stop = stop || at
	}
	return stop
}

func TestMetricAtARung(t *testing.T) {
	cases := []struct {
		name  string
		rungs []float64
		steps []seenStep
		want  string
	}{
		{"at the step itself", []float64{5}, []seenStep{seen(4, 0, true, 4), seen(5, 0, true, 3)}, "5:3"},
		{"the last before it", []float64{5}, []seenStep{seen(4, 0, true, 4), seen(6, 0, true, 3)}, "5:4"},
		{"not there yet", []float64{5}, []seenStep{seen(4, 0, true, 4)}, ""},
		{"there, but not told", []float64{5}, []seenStep{seen(4, 0, true, 4), seen(5, 0, false, 0)}, ""},
		{"there, told later than the step", []float64{5}, []seenStep{seen(5, 0, false, 0), seen(5, 0, true, 2)}, "5:2"},
		{"the start counts nothing", []float64{5}, []seenStep{seen(0, 0, true, 9), seen(6, 0, false, 0)}, "5:-"},
		{"what the rung before had counts nothing", []float64{5, 10}, []seenStep{seen(5, 0, true, 9), seen(11, 0, false, 0)}, "5:9 10:-"},
		{"NaN", []float64{5}, []seenStep{seen(5, 0, true, math.NaN())}, "5:-"},
		{"shares", []float64{0.1, 0.5}, []seenStep{seen(1, 15, true, 4), seen(2, 15, true, 3), seen(8, 15, true, 2)}, "2:3 8:2"},
		{"told twice, as after a kill", []float64{3}, []seenStep{seen(1, 0, true, 3), seen(2, 0, true, 2), seen(1, 0, true, 8), seen(2, 0, true, 8), seen(3, 0, true, 1)}, "3:1"},
		{"two rungs between two steps", []float64{2, 4}, []seenStep{seen(1, 0, true, 3), seen(9, 0, true, 1)}, "2:3 4:-"},
	}
	for _, c := range cases {
		w := newWatch(t, 0, c.rungs...)
		w.mustSee(t, c.steps...)
		equal(t, c.name, rungText(w), c.want)
		again := *newWatch(t, 0, c.rungs...)
		again.path = w.path
		w.close()
		again.open(cache.SumKey("a"))
		equal(t, c.name+", read again", rungText(&again), c.want)
	}
}

func TestStageThatStopsAtARung(t *testing.T) {
	w := newWatch(t, 0, 2, 4)
	if w.holds() || w.mustSee(t, seen(1, 0, true, 1)) || !w.mustSee(t, seen(2, 0, true, 1)) || !w.holds() {
		t.Error("it does not stop at the first rung")
	}
	w.limit = 1
	if w.holds() || w.mustSee(t, seen(3, 0, true, 1)) || !w.mustSee(t, seen(4, 0, true, 1)) {
		t.Error("it does not stop at the second rung")
	}
	w.limit = 2
	if w.holds() || w.mustSee(t, seen(9, 0, true, 1)) {
		t.Error("it stops where there is no rung")
	}
	w.close()
	if w.open(cache.SumKey("b")); rungText(w) != "" {
		t.Error("another key has these rungs")
	}
	w.open(cache.SumKey("a"))
	equal(t, "kept", rungText(w), "2:1 4:1")
	data, _ := os.ReadFile(w.path)
	os.WriteFile(w.path, data[:len(data)-9], 0o666)
	w.open(cache.SumKey("a"))
	equal(t, "cut by a kill", rungText(w), "2:1 4:1")
}

// A stage that is done shows its rungs by its curve, whether it ran under this experiment or not.
func TestRungsOfAStageThatIsDone(t *testing.T) {
	w := newWatch(t, 0, 2, 4, 8)
	points := []CurvePoint{{1, 3}, {2, 2}, {5, 1}}
	w.curve = func(path, name string) ([]CurvePoint, error) {
		if path != "curve" || name != "loss" {
			return nil, fs.ErrNotExist
		}
		return points, nil
	}
	if err := w.end(cache.SumKey("b"), []string{"none", "curve"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rungs", rungText(w), "2:2 4:- 8:1")
	w = newWatch(t, 2, 0.2, 0.5)
	w.mustSee(t, seen(2, 10, true, 4), seen(5, 10, true, 3))
	if err := w.end(cache.SumKey("a"), nil); err != nil {
		t.Fatal(err)
	}
	equal(t, "without a curve", rungText(w), "2:4 5:3")
	w.curve = func(string, string) ([]CurvePoint, error) { return nil, errors.New("no curve") }
	if err := w.end(cache.SumKey("a"), []string{"curve"}); err == nil || !strings.Contains(err.Error(), "read the curve curve: no curve") {
		t.Error(err)
	}
}

func TestHalvingBlocks(t *testing.T) {
	const stages = `
variable "lr" { default = 1 }
stage "shell" "train" {
  out = { curve = "c.jsonl" }
  plots = ["curve"]
  command = "true"
}
stage "shell" "mute" {
  out = { text = "t" }
  command = "true"
}
experiment "e" {
  matrix = { lr = [1, 2] }
`
	for text, want := range map[string]string{
		`halving {
  metric = "train.loss"
  rungs = [5, 10]
}`: "train.loss min [5 10] 0.5",
		`halving = { metric = "train.score", rungs = [5], keep = 0.25 }`: "train.score max [5] 0.25",
		`metric = "train.score"
goal = "min"
halving = { rungs = [1] }`: "train.score min [1] 0.5",
		`metric = "train.score"
halving {
  metric = "train.validation/loss"
  goal = "max"
  rungs = [1]
}`: "train.validation/loss max [1] 0.5",
	} {
		h := decodeTest{files: map[string]string{"pipeline.hcl": stages + text + "\n}"}}.ok(t).Experiments[0].Halving
		equal(t, text, fmt.Sprintf("%s %s %v %g", h.Metric, h.Goal, h.Rungs, h.Keep), want)
	}
	few, err := halvingBlock{Metric: "a.b", Keep: 0.5, Rungs: rungList{count: 3}}.halving("", "")
	if err != nil || fmt.Sprint(few.Rungs) != "[0.125 0.25 0.5]" {
		t.Error(few, err)
	}
	for text, want := range map[string]string{
		`halving = { rungs = [1] }`:                                                     "halving.metric cannot be used as it stands",
		`halving = { metric = "train.loss" }`:                                           `lacks "rungs"`,
		`halving = { metric = "train", rungs = [1] }`:                                   "names no stage",
		`halving = { metric = "trian.loss", rungs = [1] }`:                              `Did you mean "train"`,
		`halving = { metric = "mute.loss", rungs = [1] }`:                               `Stage "mute" tells nothing while it runs`,
		`halving = { metric = "train.loss", rungs = [0.5] }`:                            `How many steps stage "train" has is not known`,
		`halving = { metric = "train.loss", rungs = [5, 3] }`:                           "Must rise",
		`halving = { metric = "train.loss", rungs = [0.5, 3] }`:                         "all be shares",
		`halving = { metric = "train.loss", rungs = [1], keep = 1 }`:                    "halving.keep",
		`halving = { metric = "train.loss", rungs = [1], goal = "up" }`:                 "neither max nor min",
		`halving = { metric = "train.loss", rungs = "x" }`:                              "Must be a list like",
		"halving {\nrungs = [1]\nmetrics = 1\n}":                                        `Unknown setting "metrics"`,
		"halving {\nmetric = \"train.loss\"\nrungs = [1]\n}\nhalving {\nrungs = [1]\n}": "halving stands twice",
	} {
		dt := decodeTest{files: map[string]string{"pipeline.hcl": stages + text + "\n}"}}
		p, diags := dt.run(t)
		if got := printed(p, diags); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %q", text, got, want)
		}
	}
}
