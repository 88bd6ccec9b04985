package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dlclark/regexp2"
)

func TestPatternsThatAreRefused(t *testing.T) {
	for pattern, want := range map[string]string{
		`a|`:                     "matches the empty text",
		`a*`:                     "matches the empty text",
		`(?!a)`:                  "matches the empty text",
		`(a`:                     "a group that is not closed",
		`a)`:                     "a closing parenthesis",
		`[a`:                     "a class that is not closed",
		`[a[b]]`:                 "a class within a class",
		`[\p{L}&&\p{Lu}]`:        "a class within a class",
		`[z-a]`:                  "a range in a class that is none",
		`[\s-a]`:                 "a range in a class that is none",
		`\p{Han}+`:               `\p{Han}`,
		`\p{L`:                   `no general category`,
		`\w+`:                    `\w`,
		`\bfoo`:                  `\b`,
		`(a)\1`:                  `\1`,
		`^a`:                     "'^'",
		`a$`:                     "'$'",
		`+a`:                     "'+'",
		`a+?`:                    "lazy",
		`a{1,3}+`:                "lazy or repeated",
		`a{3,1}`:                 "a count that is none",
		`a{1`:                    "not closed",
		`(?:a+b)+`:               "a repetition within a repetition",
		`(?:a?)+b`:               "a repetition within a repetition",
		`(?:ab)++`:               "possessive",
		`(?=a)+b`:                "look-ahead that is repeated",
		`(?<=a)b`:                "begins with (?<",
		`(?<n>a)`:                "begins with (?<",
		`(?i:é)`:                 "without regard to case",
		`(?i:[\p{Lu}])`:          "without regard to case",
		`a\`:                     "a backslash at the end",
		`\x{110000}`:             "a code point that is none",
		"a\xff":                  "not UTF-8",
		strings.Repeat("(", 100): "nested deeper",
	} {
		if _, err := compilePattern(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", pattern, err, want)
		}
	}
}

// splitOracle cuts with a backtracking engine of another author.
func splitOracle(t *testing.T, re *regexp2.Regexp, text string, drop bool) []string {
	var out []string
	runes, at := []rune(text), 0
	m, err := re.FindStringMatch(text)
	for ; m != nil && err == nil; m, err = re.FindNextMatch(m) {
		if m.Index > at && !drop {
			out = append(out, string(runes[at:m.Index]))
		}
		out = append(out, m.String())
		at = m.Index + m.Length
	}
	if err != nil {
		t.Fatal(err)
	}
	if at < len(runes) && !drop {
		out = append(out, string(runes[at:]))
	}
	return out
}

// variantPattern is a Split of testdata/variants, and the same for regexp2.
type variantPattern struct {
	name string
	p    *pretokenizer
	re   *regexp2.Regexp
}

func variantPatterns(t testing.TB) (all []variantPattern) {
	lines(t, "testdata/variants/variants.jsonl", func(row struct {
		Name    string
		Members map[string]json.RawMessage
	}) {
		list, err := components("pre_tokenizer", row.Members["pre_tokenizer"])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			text := c.Pattern.Regex
			if c.Type != "Split" || text == "" {
				continue
			}
			p, err := readPretokenizer([]byte(`{"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","pattern":{"Regex":` + quote(text) + `}},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}`))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, variantPattern{row.Name, p, regexp2.MustCompile(strings.ReplaceAll(text, `\d++`, `(?>\d+)`), regexp2.None)})
		}
	})
	return all
}

// compare cuts a text both ways. regexp2 folds case without U+017F, so that character is left out.
func (v *variantPattern) compare(t *testing.T, cutter *pieceCutter, text string) {
	text = strings.ReplaceAll(common(text), "ſ", "s")
	var got []string
	cutter.cut(v.p, []byte(text), func(piece []byte) { got = append(got, string(piece)) })
	if want := splitOracle(t, v.re, text, false); !slices.Equal(got, want) {
		t.Fatalf("%s: %q\n got %q\nwant %q", v.name, text, got, want)
	}
}

func TestPatternsEqualABacktrackingEngine(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, v := range variantPatterns(t) {
		var cutter pieceCutter
		for range 1000 {
			v.compare(t, &cutter, randomText(r))
		}
	}
}

func FuzzPatternsEqualABacktrackingEngine(f *testing.F) {
	all := variantPatterns(f)
	for i := range all {
		f.Add(i, "it's 12345 o'CLOCK  \n\n x \t\t\r\n日本語a\u0301!?? 'LL")
	}
	f.Fuzz(func(t *testing.T, i int, text string) {
		if len(text) < 2000 {
			var cutter pieceCutter
			all[uint(i)%uint(len(all))].compare(t, &cutter, text)
		}
	})
}

// The scanner by hand and the interpreted pattern are twins.
func TestScannerEqualsInterpretedPattern(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for digits, text := range map[int]string{1: splitPattern, 3: llamaPattern} {
		p, err := compilePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		var m patternMatcher
		for range 20000 {
			s := []byte(randomText(r))
			for i := 0; i < len(s); {
				got := pretokenEnd(s, i, digits)
				if from, want := m.find(p, s, i); from != i || got != want {
					t.Fatalf("%q at %d: %d, want %d", s, i, got, want)
				}
				i = got
			}
		}
	}
}

// randomPattern is one of a few letters, with many ways through a text.
func randomPattern(r *rand.Rand, depth int) string {
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	if depth == 0 {
		return pick("a", "b", "[ab]", "c", "[^c]") + pick("", "", "?", "*", "+", "{1,2}", "{2}", "{0,3}")
	}
	a, b := randomPattern(r, depth-1), randomPattern(r, depth-1)
	switch r.IntN(6) {
	case 0:
		return a + "|" + b
	case 1:
		return "(?:" + a + "|" + b + ")"
	case 2:
		return "(?:" + pick("a|a", "a|ab|b", "ab?", "ab?b?", "a|b(?!a)", "[ab]|c") + ")" + pick("*", "+", "?", "{1,3}") + b
	case 3:
		return pick("(?=", "(?!") + a + ")" + b
	}
	return a + b
}

// A matcher that notes where it has been finds what one finds that does not, and what another
// author's finds.
func TestNotingMatcherEqualsItsTwins(t *testing.T) {
	r, compared := rand.New(rand.NewPCG(19, 20)), 0
	for range 6000 {
		text := randomPattern(r, 1+r.IntN(3))
		p, err := compilePattern(text)
		if err != nil {
			continue
		}
		re := regexp2.MustCompile(text, regexp2.None)
		for range 10 {
			var s []byte
			for range r.IntN(14) {
				s = append(s, "aaabbc"[r.IntN(6)])
			}
			from, end := len(s), len(s)
			if found, err := re.FindStringMatch(string(s)); err != nil {
				t.Fatal(err)
			} else if found != nil {
				from, end = found.Index, found.Index+found.Length
			}
			for _, m := range []patternMatcher{{}, {eager: true}} {
				if gotFrom, gotEnd := m.find(p, s, 0); gotFrom != from || gotEnd != end {
					t.Fatalf("%s on %q, noting %v: %d to %d, want %d to %d", text, s, m.eager, gotFrom, gotEnd, from, end)
				}
			}
			compared++
		}
	}
	if compared < 20_000 {
		t.Errorf("only %d texts were compared", compared)
	}
}

// No pattern takes time that grows with the number of ways through the text.
func TestHostilePatternsTakeLinearTime(t *testing.T) {
	text := strings.Repeat("a", 100_000)
	for _, pattern := range []string{`(?:a|a)*b`, `(?:a|a)+b`, `(?:ab?b?)*c`, `a*a*a*b`, `a++b`, `(?=a*b)a`, `(?:a|aa)+b`, `(?:a|a(?=aaab))*b`, `(?:a|b)(?:a|a)*(?!a*b)c`} {
		p, err := compilePattern(pattern)
		if err != nil {
			t.Fatalf("%s: %v", pattern, err)
		}
		var m patternMatcher
		start := time.Now()
		if from, _ := m.find(p, []byte(text), 0); from != len(text) {
			t.Errorf("%s matches at %d", pattern, from)
		}
		if spent := time.Since(start); spent > 10*time.Second {
			t.Errorf("%s: %v", pattern, spent)
		}
	}
}

func TestLongRunsTakeLinearTime(t *testing.T) {
	start := time.Now()
	for name, tok := range variantTokenizers(t) {
		for _, c := range []string{" ", "a", "A", "1", "\n", "!", "é", "\u3000"} {
			if ids := tok.Encode(nil, strings.Repeat(c, 20_000), false); len(ids) == 0 && name != "gaps dropped" {
				t.Errorf("%s: nothing of a run of %q", name, c)
			}
		}
	}
	if spent := time.Since(start); spent > 30*time.Second {
		t.Errorf("%v", spent)
	}
}

func TestTrainWithPatterns(t *testing.T) {
	for _, name := range append(Patterns[:], `\d+|\D+`) {
		tok, err := Train(t.Context(), TrainOptions{VocabSize: 400, Texts: once("12 1212 12's it's, 12 121212 it's"), Pattern: name})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		dir := t.TempDir()
		if err := tok.Save(dir); err != nil {
			t.Fatal(err)
		}
		again, err := Load(dir)
		if err != nil || again.Fingerprint() != tok.Fingerprint() {
			t.Errorf("%s: another one once saved (%v)", name, err)
		}
		joined := len(tok.Encode(nil, "1212", false)) < 4
		if want := name != "qwen2" && name != "smollm"; joined != want {
			t.Errorf("%s: digits joined %t, want %t", name, joined, want)
		}
	}
	for _, wrong := range []string{"qwen", "(a"} {
		if _, err := Train(t.Context(), TrainOptions{VocabSize: 400, Texts: once("a"), Pattern: wrong}); err == nil || !strings.Contains(err.Error(), "qwen2, llama3, gpt2, smollm") {
			t.Error(err)
		}
	}
}
