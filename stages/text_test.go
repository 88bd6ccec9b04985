package stages

import (
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	all := func() *Preprocess {
		return &Preprocess{Normalize: "nfc", StripControl: true, CollapseWhitespace: true, StripHTML: true, Redact: []string{"email", "ip"}}
	}
	for name, c := range map[string]struct{ in, want string }{
		"as it is":              {"<think>\nx < 3\n</think>\n\n\\boxed{2}", "<think>\nx < 3\n</think>\n\n\\boxed{2}"},
		"nfd":                   {"cafe\u0301", "caf\u00e9"},
		"zero width":            {"\ufeffli\u200bte\u00adrs \u2060x", "liters x"},
		"bidi":                  {"\u202eabc\u202c", "abc"},
		"joiners in Persian":    {"می\u200cخواهم a\u200cb", "می\u200cخواهم ab"},
		"family emoji":          {"👩\u200d👧", "👩\u200d👧"},
		"terminal":              {"a\x1b[31mred\x1b[0m \x07b\x00", "ared b"},
		"line ends":             {"a\r\nb\rc\u2028d", "a\nb\nc\nd"},
		"blanks":                {"  a \u00a0\u2003b\t c  \n\n\n\n d  ", "a b c\n\n d"},
		"indentation":           {"list:\n  - a\n    - b", "list:\n  - a\n    - b"},
		"fenced code":           {"x  y\n```\na  =  1\n\n\n\nb\n```\nz  z", "x y\n```\na  =  1\n\n\n\nb\n```\nz z"},
		"inline code":           {"use `a  b`  now", "use `a  b` now"},
		"latex":                 {"so \\(a  +  b\\)  and $x  y$  and \\[ \n\n\n\n\\]", "so \\(a  +  b\\) and $x  y$ and \\[ \n\n\n\n\\]"},
		"environment":           {"\\begin{align}a  &=  b\\end{align}  x", "\\begin{align}a  &=  b\\end{align} x"},
		"money is no formula":   {"costs $5,  some  that cost $4", "costs $5, some that cost $4"},
		"escaped dollar":        {`\$5  and  \$6`, `\$5 and \$6`},
		"html":                  {"<p>a<br>b &amp; <b>c</b></p><!-- no --><script>x()</script>", "a\nb & c"},
		"html in code stays":    {"`<b>` and <b>bold</b>", "`<b>` and bold"},
		"comparison is no html": {"if a<b and b>c then a < c", "if a<b and b>c then a < c"},
		"email":                 {"write to jo.doe+x@mail.example.com.", "write to [email]."},
		"at sign alone":         {"@user 3@4", "@user 3@4"},
		"ip":                    {"from 8.8.8.8, 192.168.0.1 and 2001:4860:4860::8888", "from [ip], 192.168.0.1 and [ip]"},
		"no ip":                 {"v1.2.3, 1.2.3.4.5, 256.1.1.1, 12:30:45, std::vector, a::b", "v1.2.3, 1.2.3.4.5, 256.1.1.1, 12:30:45, std::vector, a::b"},
		"open fence":            {"a  b\n```\nc  d", "a b\n```\nc  d"},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cleaner{settings: all()}
			got := cl.clean(c.in)
			if got != c.want {
				t.Fatalf("%q, want %q", got, c.want)
			}
			if again := cl.clean(got); again != got {
				t.Fatalf("cleaning again changes it: %q", again)
			}
			if (cl.did != 0) != (c.in != c.want) {
				t.Fatalf("steps %b", cl.did)
			}
		})
	}
}

// Whatever comes in, cleaning twice is cleaning once, and nothing crashes.
func FuzzClean(f *testing.F) {
	f.Add("a  b\n\n\n\n`c  d` $x$ \\( \x1b[0m &amp;lt; <p> cafe\u0301 a@b.cd 8.8.8.8")
	p := &Preprocess{Normalize: "nfc", StripControl: true, CollapseWhitespace: true}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "")
		c := cleaner{settings: p}
		once := c.clean(s)
		if joined := joinPieces(s); joined != s {
			t.Fatalf("pieces of %q make %q", s, joined)
		}
		if twice := c.clean(once); twice != once && !strings.ContainsAny(s, "`$\\") {
			t.Fatalf("%q, then %q", once, twice)
		}
	})
}

func joinPieces(s string) string {
	var b strings.Builder
	for text := range pieces(s) {
		b.WriteString(text)
	}
	return b.String()
}

func TestBoxed(t *testing.T) {
	for text, want := range map[string]string{
		`so \boxed{42}.`:                     "42",
		`\boxed{1} and \boxed{\frac{1}{2}}`:  `\frac{1}{2}`,
		`\boxed {7}`:                         "7",
		`\boxed{\{1,2\}}`:                    `\{1,2\}`,
		`\boxed{1} then \boxed{2`:            "1",
		`\boxed{a \text{ m}^2}`:              `a \text{ m}^2`,
		`none`:                               "",
		`\boxed 5 and \boxed{6}`:             "6",
		`\[ \boxed{x = \dfrac{3}{4}} \] end`: `x = \dfrac{3}{4}`,
	} {
		if got, _ := lastBoxed(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	if _, open := boxedIn(`\boxed{1} \boxed{2`); !open {
		t.Error("an open box is not seen")
	}
}

func TestSameAnswer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"42", "42", true}, {"42", "42.0", true}, {"1,234", "1234", true}, {`\frac{1}{2}`, "0.5", true}, {`\dfrac{3}{4}`, `\frac34`, false},
		{"$18", "18", true}, {`\text{blue}`, "Blue", true}, {"x = 3", "x=3", true}, {`\left(1, 2\right)`, "(1,2)", true}, {"50\\%", "50", true},
		{"140", "1401", false}, {"-3", "3", false}, {"1/3", "0.333", false}, {"", "0", false}, {"12.", "12", true}, {"1/0", "2/0", false},
	} {
		if got := sameAnswer(c.a, c.b); got != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

func TestLoops(t *testing.T) {
	prose := strings.Repeat("The sum of the angles of a triangle is two right angles, so we go on to the next step. ", 1)
	for name, c := range map[string]struct {
		text  string
		times int
	}{
		"prose":            {strings.Repeat(prose+"And now for something else. ", 3), 0},
		"loop":             {prose + strings.Repeat("Wait, let me check again. ", 120) + prose, 120},
		"short loop":       {"no " + strings.Repeat("ha ", 20), 0},
		"one word":         {strings.Repeat("again ", 100), 100},
		"a long phrase":    {strings.Repeat("First we compute the sum of all the numbers, then we divide by how many there are. ", 9), 9},
		"Chinese":          {strings.Repeat("让我再检查一遍这个计算。", 30), 30},
		"one letter":       {"x" + strings.Repeat("a", 1000), 981},
		"table of numbers": {"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 " + strings.Repeat("", 1), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if _, times, _ := loopIn(c.text, 8, 200); times != c.times {
				t.Fatalf("%d times, want %d", times, c.times)
			}
		})
	}
}

func TestHistogram(t *testing.T) {
	for n := range 100_000 {
		i := bucketOf(n)
		if from, next := bucketFrom(i), bucketFrom(i+1); n < from || n >= next || i > 0 && bucketFrom(i-1) >= from {
			t.Fatalf("%d in bucket %d: %d..%d", n, i, from, next)
		}
	}
	var h histogram
	for n := range 1001 {
		h.add(n)
	}
	j := h.json("x", "y")
	if j.Min != 0 || j.Max != 1000 || j.Sum != 500500 || j.P50 > 500 || j.P50 < 440 || j.P99 < 890 || j.P99 > 990 {
		t.Fatalf("%+v", j)
	}
	h.add(int(^uint(0) >> 1)) // the largest int has a bucket too
}
