package engine

import "testing"

func TestExtract(t *testing.T) {
	for _, c := range []struct {
		name string
		kind AnswerKind
		text string
		want string // "-": none
	}{
		{"boxed", Boxed, `<think>\boxed{1}</think> So \boxed{624}.`, "624"},
		{"last boxed", Boxed, `\boxed{1} or \boxed{2}`, "2"},
		{"nested braces", Boxed, `\boxed{\frac{1}{2}}`, `\frac{1}{2}`},
		{"escaped braces", Boxed, `\boxed{\{1, 2\}}`, `\{1, 2\}`},
		{"space", Boxed, `\boxed {7}`, "7"},
		{"fbox", Boxed, `\fbox{7}`, "7"},
		{"cut off box falls back", Boxed, `\boxed{3} then \boxed{4`, "3"},
		{"no box", Boxed, `the answer is 7`, "-"},
		{"only in the reasoning", Boxed, `<think>\boxed{1}</think> nothing`, "-"},
		{"reasoning cut off", Boxed, `<think>\boxed{1}`, "-"},
		{"two reasonings", Boxed, `<think>a</think><think>b</think>\boxed{5}`, "5"},
		{"number", Number, "it is 1,234.50 dollars", "1,234.50"},
		{"last number", Number, "3 + 4 = 7.", "7"},
		{"difference", Number, "10-4", "4"},
		{"negative", Number, "it is -4", "-4"},
		{"fraction", Number, "about 3/4 of it", "3/4"},
		{"no number", Number, "none", "-"},
		{"exact", Exact, "<think>x</think>\n Paris \n", "Paris"},
		{"exact empty", Exact, "<think>x</think>  ", "-"},
	} {
		got, ok := c.kind.Extract(c.text)
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestReference(t *testing.T) {
	for _, c := range []struct {
		kind       AnswerKind
		text, want string
	}{
		{Boxed, "624", "624"}, {Boxed, `so \boxed{624}`, "624"}, {Boxed, "He writes 3*2=6\n#### 1,624", "1,624"},
		{Number, "#### 42", "42"}, {Number, "42 apples", "42"}, {Exact, " a b ", "a b"}, {Boxed, "x+1", "x+1"},
	} {
		if got := c.kind.Reference(c.text); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.kind, c.text, got, c.want)
		}
	}
}

func TestSame(t *testing.T) {
	same := [][2]string{
		{"624", "624.0"}, {"1,000", "1000"}, {`\frac{1}{2}`, "0.5"}, {`\frac12`, "1/2"}, {`\dfrac{3}{4}`, `\frac{3}{4}`},
		{`50\%`, "50"}, {`\$18`, "18"}, {"$18$", "18"}, {`18\text{ dollars}`, "18 dollars"}, {"x = 5", "5"}, {"+7", "7"},
		{`\left(1, 2\right)`, "(1,2)"}, {"-0.50", "-.5"}, {`-\frac{1}{3}`, `\frac{-1}{3}`}, {"90^\\circ", "90"}, {"18.", "18"},
	}
	for _, p := range same {
		if !Boxed.Same(p[0], p[1]) {
			t.Errorf("%q and %q differ", p[0], p[1])
		}
	}
	for _, p := range [][2]string{
		{"624", "625"}, {"", ""}, {"1/0", "1"}, {"0.333", "1/3"}, {"x+1", "x-1"}, {"(1,2)", "(2,1)"}, {"12", "1,2"},
		{"99999999999999999999", "99999999999999999998"},
	} {
		if Boxed.Same(p[0], p[1]) {
			t.Errorf("%q and %q are taken for equal", p[0], p[1])
		}
	}
	if Exact.Same("5", "5.0") || !Exact.Same("a", "a") {
		t.Error("exact compares text as it is")
	}
}
