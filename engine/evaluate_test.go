package engine

import (
	"path/filepath"
	"slices"
	"testing"

	"lpipe/dataset"
	"lpipe/engine/cpu"
	"lpipe/engine/model"
)

// TestJudge counts what was written: right, wrong, without an answer, cut off; and the shares of rows with several answers each.
func TestJudge(t *testing.T) {
	tok, err := loadTokenizer(dpoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	data, err := dataset.OpenTokens(tokenFolder(t, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	e := &evaluation{EvaluateOptions: EvaluateOptions{Data: data, Answer: Boxed}, tokenizer: tok}
	n := &AnswerNumbers{}
	var lines []SampleLine
	encode := func(text string) []int32 { return tok.NewEncoder().Encode(nil, text, false) }
	tokens := 0
	for i, c := range []struct {
		text          string
		stopped       bool
		answer        string
		right, cutOff bool
	}{
		{`\boxed{6}`, true, "6", false, false}, {`\boxed{5}`, false, "5", true, true},
		{"five", true, "", false, false}, {"so", false, "", false, true}, {"no", true, "", false, false}, {`\boxed{7}`, true, "7", false, false},
	} {
		ids := encode(c.text)
		tokens += len(ids)
		l := e.judge(question{row: i / 3, prompt: encode("2+3?"), reference: "5"}, Continuation{ids, c.stopped}, n)
		if l.Answer != c.answer || l.Right != c.right || l.CutOff != c.cutOff || l.Output != c.text || l.Prompt != "2+3?" || l.Reference != "5" || l.ID != data.ID(i/3) {
			t.Errorf("%+v: %+v", c, l)
		}
		lines = append(lines, l)
	}
	if want := (AnswerNumbers{Right: 1, Wrong: 2, Missing: 3, CutOff: 2, Tokens: tokens}); *n != want {
		t.Errorf("%+v, want %+v", *n, want)
	}
	var several, single EvaluateResult
	several.count(lines, 3, n)
	single.count(lines, 1, n)
	if *several.Accuracy != 1.0/6 || several.AnyRight == nil || *several.AnyRight != 0.5 || single.AnyRight != nil {
		t.Errorf("%+v, %+v", several, single)
	}
}

// TestAnswersOfARowLieTogether, and a row with nothing before its first target is no question.
func TestAnswersOfARowLieTogether(t *testing.T) {
	data := tokenFolder(t, 3, 1)
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	tokens, err := dataset.OpenTokens(data)
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	o := EvaluateOptions{
		Model: dpoModel(t), Data: tokens, Samples: 2, Answer: Exact, SamplesOut: filepath.Join(t.TempDir(), "samples.jsonl"),
		Generate: &GenerateOptions{Sampling: Sampling{Temperature: 1}, MaxTokens: 4},
	}
	if _, err := Evaluate(t.Context(), dev, o); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, l := range readSamples(t, o.SamplesOut)[-1] {
		ids = append(ids, l.ID)
	}
	if want := []string{"0", "0", "1", "1", "2", "2"}; !slices.Equal(ids, want) {
		t.Errorf("answers of %v, want %v", ids, want)
	}
	set, err := newRowSet(tokens, 256)
	if err != nil {
		t.Fatal(err)
	}
	e := &evaluation{EvaluateOptions: o, set: set}
	if _, ok := e.question(0); !ok {
		t.Error("a row with a prompt is no question")
	}
	first := trainedFirst{tokens}
	if e.Data = first; slices.Index(first.Mask(0, nil), true) != 0 {
		t.Fatal("the first token is no target")
	}
	if _, ok := e.question(0); ok {
		t.Error("a row without a prompt is a question")
	}
}

// trainedFirst are rows whose first token is trained on.
type trainedFirst struct{ Examples }

func (d trainedFirst) Mask(i int, dst []bool) []bool {
	n := len(dst)
	dst = d.Examples.Mask(i, dst)
	dst[n] = true
	return dst
}

// TestStopTokens: an answer ends at the ends that the configuration names, of a turn and of a text.
func TestStopTokens(t *testing.T) {
	tok, err := loadTokenizer(dpoModel(t))
	if err != nil {
		t.Fatal(err)
	}
	turn, _ := tok.Token("<|im_end|>")
	text, _ := tok.Token("<|endoftext|>")
	want := []int32{3, turn, text}
	slices.Sort(want)
	if got := StopTokens(model.Config{EOS: []int32{3, turn}}, tok); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := StopTokens(model.Config{EOS: []int32{3}}, nil); !slices.Equal(got, []int32{3}) {
		t.Errorf("without a tokenizer: %v", got)
	}
}

// TestEvaluateRoundsNothing: a bfloat16 model has the loss, to the last bit, of a float32 one with the same values.
func TestEvaluateRoundsNothing(t *testing.T) {
	dev := cpu.New(cpu.Options{})
	defer dev.Close()
	folder := func(from, dtype string) string {
		dir := filepath.Join(t.TempDir(), "model")
		m, err := model.Load(t.Context(), from, dev, model.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Free()
		if err := m.Save(t.Context(), dir, model.SaveOptions{DType: dtype}); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	data, err := dataset.OpenTokens(tokenFolder(t, 12, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	half := folder(tied, "bfloat16")
	var losses []float64
	for _, dir := range []string{half, folder(half, "float32")} {
		r, err := Evaluate(t.Context(), dev, EvaluateOptions{Model: dir, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		losses = append(losses, r.Loss)
	}
	if losses[0] != losses[1] {
		t.Errorf("losses %v of bfloat16 weights, %v of the same in float32", losses[0], losses[1])
	}
}
