package plot

import (
	"encoding/json"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files anew")

func TestRead(t *testing.T) {
	nan := math.NaN()
	for _, c := range []struct {
		name, extension, axis, over, text string
		want                              []Curve
	}{
		{"the trainer's lines", ".jsonl", "", "step", `{"step":0,"validation/loss":3}` + "\n" + `{"step":1,"tokens":64,"train/loss":2.5}` + "\n" + `{"step":2,"tokens":128,"train/loss":1e-1,"validation/loss":-2}` + "\n",
			[]Curve{{Name: "validation/loss", X: []float64{0, 2}, Y: []float64{3, -2}}, {Name: "train/loss", X: []float64{1, 2}, Y: []float64{2.5, 0.1}}}},
		{"another axis", ".jsonl", "tokens", "tokens", `{"step":1,"tokens":64,"a":1}` + "\n" + `{"step":2,"tokens":128,"a":2}`, []Curve{{Name: "a", X: []float64{64, 128}, Y: []float64{1, 2}}}},
		{"an axis that is a curve", ".jsonl", "lr", "lr", `{"lr":0.1,"a":1}`, []Curve{{Name: "a", X: []float64{0.1}, Y: []float64{1}}}},
		{"no axis", ".jsonl", "", "row", `{"a":1}` + "\n\n" + `{"a":2}`, []Curve{{Name: "a", X: []float64{1, 2}, Y: []float64{1, 2}}}},
		{"an axis that is nowhere", ".jsonl", "when", "row", `{"a":1}`, []Curve{{Name: "a", X: []float64{1}, Y: []float64{1}}}},
		{"gaps", ".jsonl", "", "row", `{"a":null}` + "\n" + `{"a":"NaN"}` + "\n" + `{"a":3, "b" : "x"}`, []Curve{{Name: "a", X: []float64{1, 2, 3}, Y: []float64{nan, nan, 3}}}},
		{"within objects", ".jsonl", "", "row", `{"a":{"b":{"c":1}},"d":true}`, []Curve{{Name: "a.b.c", X: []float64{1}, Y: []float64{1}}}},
		{"a row that is not flat at its end", ".jsonl", "", "row", `{"a":1,"b":2}` + "\n" + `{"a":3,"b":{"c":4}}`, []Curve{{Name: "a", X: []float64{1, 2}, Y: []float64{1, 3}}, {Name: "b", X: []float64{1}, Y: []float64{2}}, {Name: "b.c", X: []float64{2}, Y: []float64{4}}}},
		{"escapes in names", ".jsonl", "", "row", `{"a\u002fb":1}`, []Curve{{Name: "a/b", X: []float64{1}, Y: []float64{1}}}},
		{"a line that is being written", ".jsonl", "", "row", `{"a":1}` + "\n" + `{"a":`, []Curve{{Name: "a", X: []float64{1}, Y: []float64{1}}}},
		{"a list of objects", ".json", "", "step", `[{"step":5,"a":1},{"step":6,"a":2}]`, []Curve{{Name: "a", X: []float64{5, 6}, Y: []float64{1, 2}}}},
		{"lists of numbers", ".json", "", "step", `{"step":[10,20],"a":[1,null],"title":"x"}`, []Curve{{Name: "a", X: []float64{10, 20}, Y: []float64{1, nan}}}},
		{"objects below a name", ".json", "", "step", `{"train":[{"step":1,"loss":4},{"step":2,"loss":3}]}`, []Curve{{Name: "loss", X: []float64{1, 2}, Y: []float64{4, 3}}}},
		{"a row without the axis", ".jsonl", "", "step", `{"step":7,"a":1}` + "\n" + `{"a":2}` + "\n" + `{"step":9,"a":3}`, []Curve{{Name: "a", X: []float64{7, 9}, Y: []float64{1, 3}}}},
		{"nothing", ".jsonl", "", "row", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Read(strings.NewReader(c.text), c.extension, c.axis)
			if err != nil || len(got) != len(c.want) {
				t.Fatalf("%v, %v; want %v", got, err, c.want)
			}
			for i := range got {
				if got[i].Name != c.want[i].Name || got[i].Axis != c.over || !same(got[i].X, c.want[i].X) || !same(got[i].Y, c.want[i].Y) {
					t.Errorf("%v; want %v", got[i], c.want[i])
				}
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct{ extension, text, want string }{
		{".csv", "a,b", "from .jsonl and .json"},
		{".jsonl", "{\"a\":1}\nloss 3\n", "line 2"},
		{".jsonl", "[1]\n", "line 1"},
		{".json", "{", "not JSON"},
		{".json", `{"a":1}`, "no lists"},
		{".jsonl", strings.Repeat("x", longestLine+1), "no curve"},
	} {
		if _, err := Read(strings.NewReader(c.text), c.extension, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v; want %q", c.text, err, c.want)
		}
	}
}

// The reader of flat lines finds what the general one finds.
func FuzzReadFlat(f *testing.F) {
	for _, line := range []string{`{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a":-1.5e3, "b" :null }`, `{"a":1,"a":2}`, `{"a":01}`, `{"a":0x1p3}`, `{"a":1_0}`, `{}`, `{"a":Infinity}`, `{"\"":1}`, `{"a":1e999}`, "{\"a\tb\":1}", "{\"\xff\":1}", "{\"a\":0\v}", "{\"a\":\v0}"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		line = strings.TrimSpace(line)
		fast, plain := &rows{index: map[string]int{}}, &rows{index: map[string]int{}}
		if strings.ContainsAny(line, "\n\r") || !fast.readFlat([]byte(line)) {
			return
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%q is read, but is no JSON: %v", line, err)
		}
		plain.addFields("", fields)
		for _, want := range plain.columns {
			i, known := fast.index[want.name]
			if !known || !same(fast.columns[i].values[len(fast.columns[i].values)-1:], want.values) {
				t.Fatalf("%q: %s is not %v", line, want.name, want.values)
			}
		}
	})
}

func TestSmooth(t *testing.T) {
	y := []float64{1, 2, math.NaN(), 4}
	// By the sum itself: (Σ w^(n-j) y_j) / (Σ w^(n-j)), over the numbers.
	want := []float64{1, (0.5*1 + 2) / 1.5, math.NaN(), (0.25*1 + 0.5*2 + 4) / 1.75}
	got := Smooth(y, 0.5)
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-12 || math.IsNaN(got[i]) != math.IsNaN(want[i]) {
			t.Fatalf("%v; want %v", got, want)
		}
	}
	if !same(Smooth(y, 0), y) {
		t.Error("without weight nothing is smoothed")
	}
}

// However a curve is reduced, its lowest and highest numbers stay, and its mean where all points stand for as many.
func TestReduce(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := Curve{Name: "a"}
	sum, low, high := 0.0, math.Inf(1), math.Inf(-1)
	for i := range 4096 {
		v := random.NormFloat64()
		c.X, c.Y = append(c.X, float64(i)), append(c.Y, v)
		sum, low, high = sum+v, min(low, v), max(high, v)
	}
	for _, r := range []Reduced{Reduce(c, 64), Reduce(c, 512).Reduce(64), Reduce(c, 4096).Reduce(64)} {
		gotSum, gotLow, gotHigh := 0.0, math.Inf(1), math.Inf(-1)
		for i := range r.Y {
			gotSum, gotLow, gotHigh = gotSum+r.Y[i]*float64(r.Each), min(gotLow, r.Low[i]), max(gotHigh, r.High[i])
		}
		if len(r.X) != 64 || r.Count != 4096 || r.Each != 64 || gotLow != low || gotHigh != high || math.Abs(gotSum-sum) > 1e-9 {
			t.Errorf("%d points of %d, each for %d: from %v to %v, sum %v; want %v, %v, %v", len(r.X), r.Count, r.Each, gotLow, gotHigh, gotSum, low, high, sum)
		}
	}
	gap := Reduce(Curve{X: []float64{1, 2, 3, 4}, Y: []float64{math.NaN(), math.Inf(1), 5, math.NaN()}}, 2)
	if !same(gap.Y, []float64{math.NaN(), 5}) || !same(gap.X, []float64{1.5, 3.5}) {
		t.Errorf("gaps: %v %v", gap.X, gap.Y)
	}
	if r := Reduce(c, 4096); r.Low != nil || !reflect.DeepEqual(r.Y, c.Y) {
		t.Error("a curve that fits is changed")
	}
}

func TestMean(t *testing.T) {
	mean, spread := Mean([]Curve{{Name: "a", X: []float64{1, 2, 3, 4}, Y: []float64{1, 2, math.NaN(), 5}}, {Name: "a", X: []float64{4, 2, 1}, Y: []float64{7, 4, 1}}})
	if !same(mean.X, []float64{1, 2, 4}) || !same(mean.Y, []float64{1, 3, 6}) || !same(spread, []float64{0, math.Sqrt2, math.Sqrt2}) {
		t.Errorf("%v ± %v", mean, spread)
	}
	if mean, spread := Mean([]Curve{{Name: "a", X: []float64{1}, Y: []float64{2}}}); !same(mean.Y, []float64{2}) || !same(spread, []float64{0}) {
		t.Errorf("of one: %v ± %v", mean, spread)
	}
}

func TestChart(t *testing.T) {
	wave, fall := Curve{Axis: "step"}, Curve{Axis: "step"}
	for i := range 100 {
		x := float64(i)
		wave.X, wave.Y = append(wave.X, x), append(wave.Y, 2+math.Sin(x/12))
		fall.X, fall.Y = append(fall.X, x), append(fall.Y, math.Exp(-x/20))
	}
	fall.Y[50] = math.NaN()
	both := []Line{{"wave", wave}, {"fall", fall}}
	one := Curve{X: []float64{3}, Y: []float64{7}}
	many := make([]Line, 20)
	for i := range many {
		many[i] = Line{"line", one}
	}
	var out strings.Builder
	for _, c := range []struct {
		chart Chart
		title string
		lines []Line
	}{
		{Chart{Width: 60, Height: 9}, "two", both},
		{Chart{Width: 60, Height: 9, Log: true}, "logarithmic", both},
		{Chart{Width: 60, Height: 5, Smooth: 0.9}, "smoothed", both[1:]},
		{Chart{Width: 40, Height: 3, Paint: func(i int, s string) string { return "<" + s + ">" }}, "painted", both[:1]},
		{Chart{Width: 1, Height: 1}, "one point", []Line{{"p", one}}},
		{Chart{Width: 40, Height: 5, Log: true}, "nothing above 0", []Line{{"p", Curve{X: []float64{1}, Y: []float64{0}}}}},
		{Chart{Width: 40, Height: 5}, "nothing", []Line{{"p", Curve{}}}},
		{Chart{Width: 40, Height: 4}, "many", many},
	} {
		if err := c.chart.Draw(&out, c.title, c.lines); err != nil {
			t.Fatal(err)
		}
		out.WriteByte('\n')
	}
	golden(t, "charts.txt", out.String())
}

func golden(t *testing.T, name, got string) {
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("%s differs (%v); go test -update writes it anew\n%s", path, err, got)
	}
}

// same compares numbers; NaN is equal to itself.
func same(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && !(math.IsNaN(a[i]) && math.IsNaN(b[i])) {
			return false
		}
	}
	return true
}
