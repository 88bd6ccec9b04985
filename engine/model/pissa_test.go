package model

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
	"lpipe/engine/safetensors"
)

// pissaCase is testdata/pissa/case.json.
type pissaCase struct {
	Settings struct {
		R       int      `json:"r"`
		Alpha   float64  `json:"lora_alpha"`
		Targets []string `json:"target_modules"`
		Ranks   Patterns `json:"rank_pattern"`
	}
	Converted struct {
		R     int      `json:"r"`
		Alpha float64  `json:"lora_alpha"`
		Ranks Patterns `json:"rank_pattern"`
	}
}

func readPiSSA(t *testing.T, f fixture) (c pissaCase, l LoRA) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(f.dir, "case.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	s := c.Settings
	return c, LoRA{Rank: s.R, Alpha: s.Alpha, Targets: s.Targets, RankPattern: s.Ranks, Init: "pissa"}
}

// align turns the rows of A [rank, in] and the columns of B [out, rank] so that A's point as in to.
func align(a, b, to []float32, rank int) {
	in := len(a) / rank
	for k := range rank {
		dot := 0.0
		for j := range in {
			dot += float64(a[k*in+j]) * float64(to[k*in+j])
		}
		if dot < 0 {
			for j := range in {
				a[k*in+j] *= -1
			}
			for i := range len(b) / rank {
				b[i*rank+k] *= -1
			}
		}
	}
}

// TestPiSSA: the beginning, the model's answers after a change of A and B, and what is saved are PEFT's, but for the sign
// of each singular vector.
func TestPiSSA(t *testing.T) {
	f := open(t, "pissa")
	c, l := readPiSSA(t, f)
	want := f.tensors(t, "expected.safetensors")
	devices(t, func(t *testing.T, dev ops.Device) {
		m := load(t, f.Model, dev, Options{Method: TrainLoRA, LoRA: l})
		defer m.Free()
		for i := range m.adapters {
			startAsPEFT(t, m, &m.adapters[i], want)
		}
		v := tensor{"model.layers.0.self_attn.v_proj.weight", []int{24, 72}}
		residual := make([]float32, v.len())
		m.fetch(v, residual)
		nearMax(t, "residual", residual, want.floats("residual"), 1e-5)

		b := want.batch("")
		near(t, "logits", allLogits(t, m, b), want.floats("logits"), 1e-5, 1e-4, nil)
		dir := t.TempDir()
		if err := m.SaveAdapter(dir, "models/tied"); err != nil {
			t.Fatal(err)
		}
		saved, err := safetensors.Open(filepath.Join(dir, adapterWeights))
		if err != nil {
			t.Fatal(err)
		}
		defer saved.Close()
		for _, s := range saved.Tensors() {
			nearMax(t, s.Name, tensorFile{t, saved}.floats(s.Name), want.floats("converted."+s.Name), 1e-4)
		}
		alone := load(t, f.Model, dev, Options{Adapter: dir})
		defer alone.Free()
		near(t, "logits on the unchanged base", allLogits(t, alone, b), want.floats("logits"), 1e-5, 1e-4, nil)
		if g, w := alone.LoRA, c.Converted; g.Rank != w.R || g.Alpha != w.Alpha || !slices.Equal(g.RankPattern, w.Ranks) {
			t.Errorf("saved as %+v, PEFT says %+v", g, w)
		}
	})
}

// startAsPEFT compares an adapter's beginning with PEFT's, turns it so that its signs are PEFT's, and adds the case's change.
func startAsPEFT(t *testing.T, m *Model, a *adapter, want tensorFile) {
	t.Helper()
	nameA, nameB := peftName(a.fullName, "A"), peftName(a.fullName, "B")
	firstA, firstB := want.floats("initial."+nameA), want.floats("initial."+nameB)
	align(a.first.a, a.first.b, firstA, a.rank)
	// PEFT decomposes in float32, which turns singular vectors whose values lie close together.
	nearMax(t, nameA, a.first.a, firstA, 1e-4)
	nearMax(t, nameB, a.first.b, firstB, 1e-4)
	exactA, exactB := want.floats("float64."+nameA), want.floats("float64."+nameB)
	align(exactA, exactB, firstA, a.rank)
	nearMax(t, nameA+" in float64", a.first.a, exactA, 1e-7)
	nearMax(t, nameB+" in float64", a.first.b, exactB, 1e-7)
	add := func(v []float32, name string) []float32 {
		v = slices.Clone(v)
		for i, d := range want.floats("change." + name) {
			v[i] += d
		}
		return v
	}
	m.dev.Write(a.a, add(a.first.a, nameA))
	m.dev.Write(a.b, add(a.first.b, nameB))
}

// TestPiSSABegins at the base model, in each kind of adapter and with the largest rank there is, on any number of threads.
func TestPiSSABegins(t *testing.T) {
	f := open(t, "pissa")
	b := f.tensors(t, "expected.safetensors").batch("")
	one, many := cpu.New(cpu.Options{Threads: 1}), cpu.New(cpu.Options{Threads: 3})
	defer one.Close()
	defer many.Close()
	base := load(t, f.Model, one, Options{})
	for name, l := range map[string]LoRA{
		"rslora": {Rank: 4, Alpha: 6, Targets: []string{AllLinear}, RSLoRA: true, AlphaPattern: Patterns{{"q_proj", 3}}},
		"dora":   {Rank: 4, Alpha: 6, Targets: []string{AllLinear}, DoRA: true},
		"full":   {Rank: 72, Alpha: 72, Targets: []string{"q_proj", "o_proj"}},
		"narrow": {Rank: 24, Alpha: 8, Targets: []string{"v_proj", "down_proj"}},
	} {
		l.Init = "pissa"
		m, again := load(t, f.Model, one, Options{Method: TrainLoRA, LoRA: l}), load(t, f.Model, many, Options{Method: TrainLoRA, LoRA: l})
		near(t, name, allLogits(t, m, b), allLogits(t, base, b), 1e-5, 1e-4, nil)
		near(t, name+", more threads", allLogits(t, again, b), allLogits(t, m, b), 0, 0, nil)
		for _, p := range m.Parameters() {
			values := make([]float32, p.Weights.Len)
			one.Read(values, p.Weights)
			for i := range values {
				values[i] += float32(0.02 * math.Sin(float64(i)))
			}
			one.Write(p.Weights, values)
		}
		m.gains()
		dir := t.TempDir()
		if err := m.SaveAdapter(dir, "x"); err != nil {
			t.Fatal(err)
		}
		saved := load(t, f.Model, one, Options{Adapter: dir})
		near(t, name+", saved", allLogits(t, saved, b), allLogits(t, m, b), 2e-5, 1e-4, nil)
		for _, m := range []*Model{m, again, saved} {
			m.Free()
		}
	}
}

func TestPiSSARefused(t *testing.T) {
	f := open(t, "pissa")
	dev := cpu.NewPlain()
	for want, o := range map[string]Options{
		"no more than 24 singular values of model.layers.0.self_attn.k_proj, not the 32": {LoRA: LoRA{Rank: 32}},
		"4-bit": {LoRA: LoRA{Rank: 4}, NF4: true},
	} {
		o.Method, o.LoRA.Alpha, o.LoRA.Targets, o.LoRA.Init = TrainLoRA, 8, []string{AllLinear}, "pissa"
		if _, err := Load(context.Background(), f.Model, dev, o); err == nil || !strings.Contains(err.Error(), "init: pissa") || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestPiSSATime: the time that is foretold follows the weights that get an adapter, and is shared by the threads.
func TestPiSSATime(t *testing.T) {
	small := Config{Layers: 4, C: 256, H: 4, KV: 4, D: 64, F: 512, V: 300}
	foretold := func(c Config, threads int, targets ...string) float64 {
		clock := time.Time{} // a decomposition of the probe takes a second of this clock
		took, err := PiSSATime(c, LoRA{Rank: 4, Alpha: 4, Targets: targets}, threads, func() time.Time {
			clock = clock.Add(time.Second)
			return clock
		})
		if err != nil {
			t.Fatal(err)
		}
		return took.Seconds()
	}
	twice := small
	twice.Layers *= 2
	for _, c := range []struct{ got, want float64 }{
		{foretold(small, 1, "q_proj"), 4}, // the probe's own shape, four times
		{foretold(small, 4, "q_proj"), 1},
		{foretold(twice, 1, "q_proj"), 8},
		{foretold(small, 1, "q_proj", "o_proj"), 8},
		{foretold(small, 1, "down_proj"), 4 * (2 + 4) / 5.}, // 256² x 512 for the Gram matrix, 4 x 256³ for its eigenvectors
	} {
		if math.Abs(c.got-c.want) > 1e-6 {
			t.Errorf("%g s foretold, want %g", c.got, c.want)
		}
	}
}

// TestEigenvectors of Gram matrices of every width around a multiple of eight, which decides how far apart rows lie: what they
// span is the matrix again.
func TestEigenvectors(t *testing.T) {
	for n := 1; n <= 25; n++ {
		m := mat.NewDense(n+3, n, nil)
		for i := range n + 3 {
			for j := range n {
				m.Set(i, j, normal(3, i*n+j))
			}
		}
		v, ok := eigenvectors(m)
		if !ok {
			t.Fatalf("width %d: none", n)
		}
		var along, back mat.Dense
		along.Mul(m, v)
		back.Mul(&along, v.T())
		if !mat.EqualApprox(&back, m, 1e-12) {
			t.Errorf("width %d: the vectors do not span the matrix", n)
		}
		var gram mat.Dense
		gram.Mul(along.T(), &along)
		for i := range n {
			for j := range n {
				if i != j && math.Abs(gram.At(i, j)) > 1e-11 || i > 0 && gram.At(i, i) < gram.At(i-1, i-1)-1e-11 {
					t.Fatalf("width %d: not eigenvectors by rising values", n)
				}
			}
		}
	}
}
