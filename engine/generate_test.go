package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestGenerateGreedy compares tokens with transformers' generate, alone, together, and with fewer slots than prompts.
func TestGenerateGreedy(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	m, err := model.Load(context.Background(), "testdata/models/untied", dev, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	var fixture struct {
		Settings struct{ Prompts []int }
		Stop     int32 `json:"stop_token"`
	}
	readCase(t, "generate_greedy", &fixture)
	in := openTensors(t, "testdata/generate_greedy/inputs.safetensors")
	expected := openTensors(t, "testdata/generate_greedy/expected.safetensors")
	var prompts, want [][]int32
	for i, n := range fixture.Settings.Prompts {
		prompts = append(prompts, ints(t, in, fmt.Sprintf("prompt.%d", i), n))
		want = append(want, ints(t, expected, fmt.Sprintf("tokens.%d", i), 32))
	}
	for _, atOnce := range []int{0, 1, 2} {
		got := generateAll(t, m, prompts, GenerateOptions{MaxTokens: 32, AtOnce: atOnce})
		for i := range want {
			if !slices.Equal(got[i].IDs, want[i]) || got[i].Stopped {
				t.Errorf("%d at once, prompt %d: %v, transformers wrote %v", atOnce, i, got[i].IDs, want[i])
			}
		}
	}
	tensor, _ := expected.Tensor("tokens.0.stopped")
	stopped := ints(t, expected, "tokens.0.stopped", tensor.Len())
	got := generateAll(t, m, prompts, GenerateOptions{MaxTokens: 32, Stop: []int32{fixture.Stop}})
	if !slices.Equal(got[0].IDs, stopped) || !got[0].Stopped {
		t.Errorf("with a stop token: %v, transformers wrote %v", got[0].IDs, stopped)
	}
}

// TestGenerateSampled draws the same for the same seed, however many sequences are decoded at once.
func TestGenerateSampled(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	m, err := model.Load(context.Background(), "testdata/models/tied", dev, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Free()
	var prompts [][]int32
	for i := range int32(7) {
		prompts = append(prompts, []int32{1 + i%2, 2, 3}[:1+i%3])
	}
	o := GenerateOptions{Sampling: Sampling{Temperature: 1, TopK: 50, RepetitionPenalty: 1.1}, MaxTokens: 12, Seed: 5, Stop: []int32{9}}
	all := generateAll(t, m, prompts, o)
	o.AtOnce = 2
	for i, c := range generateAll(t, m, prompts, o) {
		if !slices.Equal(c.IDs, all[i].IDs) {
			t.Errorf("prompt %d: %v with two at once, %v with all", i, c.IDs, all[i].IDs)
		}
	}
	if slices.Equal(all[0].IDs, all[6].IDs) {
		t.Error("equal prompts draw the same")
	}
	o.Seed = 6
	if slices.Equal(generateAll(t, m, prompts, o)[0].IDs, all[0].IDs) {
		t.Error("another seed draws the same")
	}
}

// TestGeneratePenalty: a penalty beyond all measure lets no token come twice, of the prompt or of the output.
func TestGeneratePenalty(t *testing.T) {
	m := loadTied(t, model.Options{})
	free := generateAll(t, m, [][]int32{{1, 2, 3}}, GenerateOptions{MaxTokens: 16})[0].IDs
	prompt := append([]int32{1, 2, 3}, free[:2]...) // what would come first stands in it
	for _, s := range []Sampling{{RepetitionPenalty: 1e9}, {Temperature: 0.1, RepetitionPenalty: 1e9}} {
		all := slices.Concat(prompt, generateAll(t, m, [][]int32{prompt}, GenerateOptions{Sampling: s, MaxTokens: 16, Seed: 1})[0].IDs)
		slices.Sort(all)
		before := len(slices.Compact(slices.Sorted(slices.Values(prompt))))
		if got := len(slices.Compact(all)); got != before+16 {
			t.Errorf("%+v: %d tokens of prompt and output differ, want %d", s, got, before+16)
		}
	}
}

// loadTied is the small tied model on the CPU, until the test ends.
func loadTied(t *testing.T, o model.Options) *model.Model {
	t.Helper()
	dev := cpu.New(cpu.Options{})
	t.Cleanup(func() { dev.Close() })
	m, err := model.Load(context.Background(), tied, dev, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Free)
	return m
}

func generateAll(t *testing.T, m *model.Model, prompts [][]int32, o GenerateOptions) []Continuation {
	t.Helper()
	out := make([]Continuation, len(prompts))
	err := Generate(context.Background(), m, prompts, o, func(i int, c Continuation) error {
		out[i] = c
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGenerateLimit ends where the model's longest sequence ends, and refuses prompts that fill it.
func TestGenerateLimit(t *testing.T) {
	m := loadTied(t, model.Options{})
	m.Config.MaxPositions = 8
	got := generateAll(t, m, [][]int32{{1, 2, 3}, {4}}, GenerateOptions{MaxTokens: 20})
	if len(got[0].IDs) != 5 || len(got[1].IDs) != 7 || got[0].Stopped {
		t.Errorf("%d and %d tokens", len(got[0].IDs), len(got[1].IDs))
	}
	m.Config.MaxPositions = 2*prefillTokens + 2 // a prompt longer than a pass is a pass of its own
	if long := generateAll(t, m, [][]int32{{1}, make([]int32, prefillTokens+1), {2}}, GenerateOptions{MaxTokens: 2}); len(long[1].IDs) != 2 || len(long[2].IDs) != 2 {
		t.Errorf("behind a long prompt: %v", long)
	}
	m.Config.MaxPositions = 8
	for want, prompts := range map[string][][]int32{"no room": {make([]int32, 8)}, "empty": {{1}, {}}} {
		err := Generate(context.Background(), m, prompts, GenerateOptions{MaxTokens: 1}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := Generate(context.Background(), m, [][]int32{{1}}, GenerateOptions{}, nil); err == nil {
		t.Error("no tokens to make, and no error")
	}
}
