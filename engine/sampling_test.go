package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/safetensors"
)

// TestSampling compares each chain of transformers' processors: which tokens remain, and their scores.
func TestSampling(t *testing.T) {
	in := openTensors(t, "testdata/sampling/inputs.safetensors")
	want := openTensors(t, "testdata/sampling/expected.safetensors")
	const rows, V, seen = 4, 97, 12
	for name, s := range map[string]Sampling{
		"temperature":           {Temperature: 0.7},
		"top_k":                 {Temperature: 1, TopK: 5},
		"top_k_1":               {Temperature: 1, TopK: 1},
		"top_k_more_than_vocab": {Temperature: 1, TopK: 100000},
		"top_p":                 {Temperature: 1, TopP: 0.8},
		"top_p_small":           {Temperature: 1, TopP: 0.001},
		"min_p":                 {Temperature: 1, MinP: 0.1},
		"repetition_penalty":    {Temperature: 1, RepetitionPenalty: 1.3},
		"repetition_reward":     {Temperature: 1, RepetitionPenalty: 0.8},
		"chat":                  {Temperature: 0.7, TopK: 20, TopP: 0.8, RepetitionPenalty: 1.05},
		"all":                   {Temperature: 1.5, TopK: 30, TopP: 0.9, MinP: 0.05, RepetitionPenalty: 1.2},
	} {
		if err := s.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		scores, probs := floats(t, want, name, rows*V), floats(t, want, name+".probs", rows*V)
		logits, ids := floats(t, in, "logits", rows*V), ints(t, in, "seen", rows*seen)
		for r := range rows {
			row := logits[r*V : (r+1)*V]
			sam := sampler{Sampling: s}
			penalise(row, ids[r*seen:(r+1)*seen], s.RepetitionPenalty)
			sam.warp(row)
			compareKept(t, name, r, &sam, scores[r*V:(r+1)*V], probs[r*V:(r+1)*V])
		}
	}
}

func compareKept(t *testing.T, name string, row int, s *sampler, scores, probs []float32) {
	t.Helper()
	var got, want []float32
	for _, k := range s.kept {
		got = append(got, k.score)
	}
	for _, v := range scores {
		if !math.IsInf(float64(v), -1) {
			want = append(want, v)
		}
	}
	// Sorted, since torch.sort decides which of several equal logits is cut.
	slices.Sort(got)
	slices.Sort(want)
	if len(got) != len(want) {
		t.Errorf("%s, row %d: %d tokens remain, transformers keeps %d", name, row, len(got), len(want))
		return
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 1e-7+1e-6*math.Abs(float64(want[i])) {
			t.Errorf("%s, row %d: score %v, want %v", name, row, got[i], want[i])
		}
	}
	total := s.softmax()
	for i, k := range s.kept {
		if p, w := s.probs[i]/total, float64(probs[k.id]); scores[k.id] > float32(math.Inf(-1)) && math.Abs(p-w) > 1e-7+2e-6*w {
			t.Errorf("%s, row %d, token %d: probability %v, want %v", name, row, k.id, p, w)
		}
	}
}

// TestSampleShares draws often and compares shares with probabilities.
func TestSampleShares(t *testing.T) {
	s := sampler{Sampling: Sampling{Temperature: 1}}
	r := newRandom(1, forSampling)
	count := make([]int, 3)
	const n = 20000
	for i := range uint64(n) {
		logits := []float32{float32(math.Log(0.2)), float32(math.Log(0.5)), float32(math.Log(0.3))}
		count[s.next(logits, nil, r.unit(i))]++
	}
	for i, want := range []float64{0.2, 0.5, 0.3} {
		if got := float64(count[i]) / n; math.Abs(got-want) > 0.015 {
			t.Errorf("token %d: share %v, want %v", i, got, want)
		}
	}
	greedy := sampler{}
	if got := greedy.next([]float32{1, 3, 3, 2}, nil, 0.99); got != 1 {
		t.Errorf("greedy chose %d, want the first of the best, 1", got)
	}
}

// TestSamplingTies: what lies exactly on a limit, as transformers' processors decide; a penalty counts without drawing too; and
// rounding that leaves something behind the last token draws that one.
func TestSamplingTies(t *testing.T) {
	equal := []float32{1, 1, 1, 1}
	for _, c := range []struct {
		s      Sampling
		logits []float32
		seen   []int32
		u      float64
		kept   int
		want   int32
	}{
		{Sampling{Temperature: 1, TopP: 0.5}, equal, nil, 0, 2, 0},
		{Sampling{Temperature: 1, TopP: 0.75}, equal, nil, 0, 3, 0},
		{Sampling{Temperature: 1, TopP: 1}, equal, nil, 0, 4, 0},
		{Sampling{Temperature: 1, MinP: 1}, []float32{2, 1, 2, 0}, nil, 0.9, 2, 2},
		{Sampling{Temperature: 1, TopK: 2}, []float32{1, 2, 1, 0}, nil, 0, 3, 1},
		{Sampling{Temperature: 1}, equal, nil, 1, 4, 3},
		{Sampling{RepetitionPenalty: 2}, []float32{3, 2}, []int32{0}, 0, 0, 1},
		{Sampling{RepetitionPenalty: 2}, []float32{-1, -1.5}, []int32{0, 0}, 0, 0, 1},
		{Sampling{RepetitionPenalty: 2}, []float32{-1, -2.5}, []int32{0, 0}, 0, 0, 0}, // once, however often it came
	} {
		s := sampler{Sampling: c.s}
		if got := s.next(slices.Clone(c.logits), c.seen, c.u); got != c.want || len(s.kept) != c.kept {
			t.Errorf("%+v of %v: token %d of %d kept, want %d of %d", c.s, c.logits, got, len(s.kept), c.want, c.kept)
		}
	}
}

func TestSamplingErrors(t *testing.T) {
	for want, s := range map[string]Sampling{
		"temperature": {Temperature: -1}, "temperature:": {Temperature: math.NaN()}, "top_k": {TopK: -1}, "top_p": {TopP: -0.1},
		"top_p:": {TopP: 1.1}, "min_p": {MinP: -0.1}, "min_p:": {MinP: 1.1}, "repetition_penalty": {RepetitionPenalty: -1},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func openTensors(t *testing.T, path string) *safetensors.File {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func floats(t *testing.T, f *safetensors.File, name string, n int) []float32 {
	t.Helper()
	dst := make([]float32, n)
	if err := f.Float32(name, dst); err != nil {
		t.Fatal(err)
	}
	return dst
}

func ints(t *testing.T, f *safetensors.File, name string, n int) []int32 {
	t.Helper()
	wide := make([]int64, n)
	if err := f.Int64(name, wide); err != nil {
		t.Fatal(err)
	}
	dst := make([]int32, n)
	for i, v := range wide {
		dst[i] = int32(v)
	}
	return dst
}
