package engine

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// rowList is a data set in memory.
type rowList []dataset.Sequence

func (r rowList) Len() int                       { return len(r) }
func (r rowList) IDs(i int, dst []int32) []int32 { return append(dst, r[i].IDs...) }
func (r rowList) Mask(i int, dst []bool) []bool  { return append(dst, r[i].Mask...) }

// rowsOf makes rows of the given lengths; the second half of each is trained on.
func rowsOf(lengths ...int) rowList {
	var rows rowList
	for i, n := range lengths {
		s := dataset.Sequence{IDs: make([]int32, n), Mask: make([]bool, n)}
		for t := range n {
			s.IDs[t] = int32(1 + (7*i+3*t)%250)
			s.Mask[t] = t >= n/2
		}
		rows = append(rows, s)
	}
	return rows
}

func planOf(t *testing.T, rows rowList, o planOptions) *plan {
	t.Helper()
	set, err := newRowSet(rows, 256)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(set, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPlan holds what a plan promises: no step and no pack is too full, every epoch has every row once, and a plan that
// goes on is the rest of the whole one.
func TestPlan(t *testing.T) {
	var lengths []int
	for i := range 57 {
		lengths = append(lengths, 3+i*i%17)
	}
	rows := rowsOf(lengths...)
	o := planOptions{Seed: 3, SequenceLength: 24, BatchTokens: 60, Epochs: 2.5}
	p := planOf(t, rows, o)
	var seen []int32
	for n := 1; n <= p.steps(); n++ {
		packs, targets := p.step(n)
		tokens, want := 0, 0
		for _, pack := range packs {
			used := 0
			for _, k := range pack {
				used += int(p.set.length[k])
				want += int(p.set.targets[k])
				seen = append(seen, k)
			}
			if tokens += used; used > o.SequenceLength {
				t.Errorf("step %d: a pack of %d tokens", n, used)
			}
		}
		if tokens > o.BatchTokens || tokens < o.BatchTokens-24 && n < p.steps() || targets != want {
			t.Errorf("step %d: %d tokens, %d targets counted as %d", n, tokens, want, targets)
		}
	}
	if want := 143; len(seen) != want { // 2.5 epochs of 57 rows, rounded up
		t.Fatalf("%d rows seen, want %d", len(seen), want)
	}
	steps := p.steps()
	rest := planOf(t, rows, o)
	if err := rest.continueFrom(4, p.place(4)); err != nil {
		t.Fatal(err)
	}
	for n := 5; n <= steps; n++ {
		a, _ := p.step(n)
		b, _ := rest.step(n)
		if !slices.EqualFunc(a, b, slices.Equal) || rest.steps() != steps {
			t.Errorf("step %d of %d differs when going on", n, steps)
		}
	}
	count := map[int32]int{}
	for place := range int64(57) {
		count[p.at(place)]++
		count[p.at(place+57)]++
	}
	for k, n := range count {
		if n != 2 {
			t.Errorf("row %d stands %d times in two epochs", k, n)
		}
	}
}

func TestPlanSteps(t *testing.T) {
	p := planOf(t, rowsOf(5, 6, 7), planOptions{Seed: 1, SequenceLength: 10, BatchTokens: 13, Steps: 9})
	if p.steps() != 9 {
		t.Errorf("%d steps", p.steps())
	}
	if err := p.continueFrom(9, p.place(9)); err != nil || p.steps() != 9 {
		t.Errorf("nothing left: %v, %d steps", err, p.steps())
	}
	if err := p.continueFrom(10, 20); err == nil || !strings.Contains(err.Error(), "raise steps") {
		t.Error(err)
	}
}

// TestRowSet cuts behind the last target, counts no first token, and leaves rows without targets out.
func TestRowSet(t *testing.T) {
	s, err := newRowSet(rowList{
		{IDs: []int32{1, 2, 3, 4}, Mask: []bool{true, true, false, false}},
		{IDs: []int32{1, 2}, Mask: []bool{true, false}},
		{IDs: []int32{1, 2, 3}, Mask: []bool{false, true, true}},
	}, 5)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.rows, []int32{0, 2}) || !slices.Equal(s.length, []int32{2, 3}) || !slices.Equal(s.targets, []int32{1, 2}) || s.unused != 1 {
		t.Errorf("%+v", s)
	}
	var b batch
	got := b.fill(s, []int32{0, 1})
	if !slices.Equal(got.IDs, []int32{1, 2, 1, 2, 3}) || !slices.Equal(got.Labels, []int32{1, 2, -100, 2, 3}) ||
		!slices.Equal(got.Positions, []int32{0, 1, 0, 1, 2}) || !slices.Equal(got.Sequence, []int32{0, 0, 1, 1, 1}) || got.Targets() != 3 {
		t.Errorf("%+v has %d targets", got, got.Targets())
	}
	if !slices.Equal(s.spread(1), []int32{0}) || !slices.Equal(s.spread(0), []int32{0, 1}) || !slices.Equal(s.spread(9), []int32{0, 1}) {
		t.Error("spread")
	}
}

// TestPackedIsSeparate compares loss and gradients of rows in packs with those of each row alone.
func TestPackedIsSeparate(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	set, err := newRowSet(rowsOf(9, 5, 14, 3, 8, 11), 256)
	if err != nil {
		t.Fatal(err)
	}
	run := func(capacity int) (float64, []float32) {
		m, err := model.Load(context.Background(), tied, dev, model.Options{
			Method: model.TrainLoRA, Seed: 1, LoRA: model.LoRA{Rank: 4, Alpha: 8, Targets: []string{model.AllLinear}}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		packs, targets := set.measured(set.spread(0), capacity)
		loss := 0.0
		var b batch
		for _, pack := range packs {
			part, err := m.Step(b.fill(set, pack), targets)
			if err != nil {
				t.Fatal(err)
			}
			loss += part
		}
		grad := make([]float32, m.Gradients().Len)
		dev.Read(grad, m.Gradients())
		return loss, grad
	}
	loss, grad := run(50)
	alone := 0.0
	sum := make([]float32, len(grad))
	for k := range set.rows { // one row after the other
		one := *set
		one.rows, one.length, one.targets = set.rows[k:k+1], set.length[k:k+1], set.targets[k:k+1]
		whole := set
		set = &one
		part, g := run(50)
		set = whole
		share := float64(one.targets[0]) / float64(set.trained)
		alone += part * share
		for i := range g {
			sum[i] += g[i] * float32(share)
		}
	}
	near(t, "loss", loss, alone, 1e-6)
	high, worst := 0.0, 0.0
	for i := range grad {
		high = max(high, float64(max(grad[i], -grad[i])))
		worst = max(worst, float64(max(grad[i]-sum[i], sum[i]-grad[i])))
	}
	if worst > 5e-6*high {
		t.Errorf("gradients differ by %g of %g", worst, high)
	}
}

// TestTrainCounts: two epochs see each token up to a row's last target twice, and train on each target twice.
func TestTrainCounts(t *testing.T) {
	o := small(t)
	o.Steps, o.Epochs, o.Validation = 0, 2, nil
	data, err := dataset.OpenTokens(o.Train)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	tokens, targets := 0, 0
	for i := range data.Len() {
		last := 0
		for at, trained := range data.Mask(i, nil) {
			if trained {
				last = at + 1
				targets++
			}
		}
		tokens += last
	}
	got := train(t, o, 0)
	if got.Tokens != int64(2*tokens) || got.Trained != int64(2*targets) || got.Epochs != 2 || got.Rows != data.Len() {
		t.Errorf("%+v; the data has %d tokens, %d targets", got, tokens, targets)
	}
}

// TestNoiseIsDrawnAnew for every step and every pack of it: of a set of one row, on weights that do not move, no two passes have the same
// loss.
func TestNoiseIsDrawnAnew(t *testing.T) {
	o := small(t)
	o.Train, o.Validation, o.NEFTune, o.LoRA.Dropout = tokenFolder(t, 1, 5), nil, 20, 0
	o.Schedule, o.Warmup, o.Optimizer.Decay = Schedule{Kind: "constant", Rate: 1e-30}, 0, 0
	data, err := dataset.OpenTokens(o.Train)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	row := len(data.Mask(0, nil)) - 1 // its last token is no target
	losses := func(rows int) (all []float64) {
		o.SequenceLength, o.BatchTokens, o.Steps, o.Out = row, rows*row, 3, filepath.Join(t.TempDir(), "out")
		o.Report = func(p Progress) { all = append(all, p.Metrics["train/loss"]) }
		train(t, o, 0)
		return all
	}
	one, two := losses(1), losses(2)
	if one[0] == one[1] || one[1] == one[2] {
		t.Errorf("steps have the same noise: %v", one)
	}
	if math.Abs(one[0]-two[0]) < 1e-6 {
		t.Errorf("two packs have the same noise: their mean is %v, one's is %v", two[0], one[0])
	}
}

// TestSpread: a limit takes rows evenly spaced over the whole set.
func TestSpread(t *testing.T) {
	s := &rowSet{rows: make([]int32, 10)}
	for limit, want := range map[int][]int32{4: {0, 2, 5, 7}, 1: {0}, 10: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 0: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 11: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}} {
		if got := s.spread(limit); !slices.Equal(got, want) {
			t.Errorf("%d of 10: %v, want %v", limit, got, want)
		}
	}
}

// TestEpochsDiffer: each has every row once, in an order of its own.
func TestEpochsDiffer(t *testing.T) {
	var data rowList
	for range 20 {
		data = append(data, dataset.Sequence{IDs: []int32{1, 2}, Mask: []bool{false, true}})
	}
	set, err := newRowSet(data, 10)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlan(set, planOptions{Seed: 1, SequenceLength: 8, BatchTokens: 8, Epochs: 3})
	if err != nil {
		t.Fatal(err)
	}
	var orders [3][]int32
	for i := range orders {
		for at := range int64(20) {
			orders[i] = append(orders[i], p.at(int64(20*i)+at))
		}
		all := slices.Sorted(slices.Values(orders[i]))
		if len(slices.Compact(all)) != 20 {
			t.Errorf("epoch %d: %v", i, orders[i])
		}
	}
	if slices.Equal(orders[0], orders[1]) || slices.Equal(orders[1], orders[2]) {
		t.Error("epochs have the same order")
	}
	if _, err := newRowSet(rowList{{IDs: []int32{1, -1}, Mask: []bool{false, true}}}, 10); err == nil || !strings.Contains(err.Error(), "token -1 at position 1") {
		t.Errorf("a negative token: %v", err)
	}
}

// TestTrainNumbers: the mean of the last tenth of the steps that had a loss, and the last one's.
func TestTrainNumbers(t *testing.T) {
	var curve []point
	for step := range 31 {
		loss := float64(step)
		p := point{Step: step, Loss: &loss}
		if step == 0 || step == 29 {
			p.Loss = nil // evaluated only, and skipped
		}
		curve = append(curve, p)
	}
	if got := trainNumbers(curve); got.Last != 30 || got.Loss != 29 { // of 29 losses the last two: 28 and 30
		t.Errorf("%+v", got)
	}
}
