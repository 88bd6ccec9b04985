package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	"golang.org/x/text/unicode/norm"
)

// oracle encodes slowly and plainly: the split regex in a backtracking engine, NFC
// of golang.org/x/text, and merges as their definition says.
type oracle struct {
	tok   *Tokenizer
	split *regexp2.Regexp
	ranks map[[2]int32]pair
	order map[[2]int32]int
}

func newOracle(tok *Tokenizer) *oracle {
	// regexp2 folds case without U+017F, so the contractions are written out.
	pattern := strings.Replace(splitPattern, `(?i:'s|'t|'re|'ve|'m|'ll|'d)`,
		`'[sSſ]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]`, 1)
	o := &oracle{tok, regexp2.MustCompile(pattern, regexp2.None), map[[2]int32]pair{}, map[[2]int32]int{}}
	for rank, p := range tok.v.pairs {
		o.ranks[[2]int32{p.left, p.right}] = p
		o.order[[2]int32{p.left, p.right}] = rank
	}
	return o
}

func (o *oracle) pretokens(t testing.TB, text string) []string {
	var out []string
	m, err := o.split.FindStringMatch(text)
	for ; m != nil && err == nil; m, err = o.split.FindNextMatch(m) {
		out = append(out, m.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (o *oracle) merge(piece string) []int32 {
	var ids []int32
	for i := range len(piece) {
		ids = append(ids, o.tok.v.byteIDs[piece[i]])
	}
	for {
		best, at := -1, -1
		for i := 1; i < len(ids); i++ {
			if rank, ok := o.order[[2]int32{ids[i-1], ids[i]}]; ok && (best < 0 || rank < best) {
				best, at = rank, i-1
			}
		}
		if at < 0 {
			return ids
		}
		p := o.ranks[[2]int32{ids[at], ids[at+1]}]
		ids = slices.Replace(ids, at, at+2, p.to)
	}
}

func (o *oracle) encode(t testing.TB, text string) []int32 {
	ids := []int32{}
	for _, piece := range o.pretokens(t, norm.NFC.String(text)) {
		ids = append(ids, o.merge(piece)...)
	}
	return ids
}

// common keeps the characters that Go's older Unicode tables know as well, and
// fewer marks in a row than the limit where x/text inserts a joiner.
func common(text string) string {
	marks := 0
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.Cc, unicode.Cf, unicode.Co) {
			return -1
		}
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		if marks > 20 {
			return -1
		}
		return r
	}, text)
}

// small is the tokenizer of testdata/small, made by Train from testdata/corpus.txt.
func small(t testing.TB) *Tokenizer {
	t.Helper()
	tok, err := Load("testdata/small")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func FuzzEncodeEqualsOracle(f *testing.F) {
	for _, s := range []string{"", "it's 12 o'clock", "  \n\n x \t\t y  ", "'ſ 'LL 'x", "a\u0301\u0316 \u1161\u11a8",
		"日本語とEnglish", "=====\r\n\r\n...", "\u3000\u3000a\u00a0\u00a0!", "ﬁ e\u0301\u0327\u0301", "<|im_end|>", strings.Repeat("ab", 50)} {
		f.Add(s)
	}
	tok := small(f)
	o := newOracle(tok)
	f.Fuzz(func(t *testing.T, text string) {
		text = common(text)
		if len(text) > 2000 {
			return
		}
		want := o.encode(t, text)
		got := tok.Encode(nil, text, false)
		if !slices.Equal(got, want) {
			t.Fatalf("%q\n got %v\nwant %v", text, got, want)
		}
		if back := string(tok.Decode(nil, got, false)); back != norm.NFC.String(text) {
			t.Fatalf("%q came back as %q", text, back)
		}
	})
}

// randomText mixes pieces that meet at the scanner's and the cache's edges.
func randomText(r *rand.Rand) string {
	pieces := []string{" ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "'ſ", "a", "ab", "The", "apples", "kilometres",
		"1", "42", "٣", "½", "!", "...", "==", "é", "e\u0301", "ß", "日本", "語", "\u3000", "\u00a0", "\u0300", "\u0316", "한",
		"\u1112\u1161\u11ab", "😀", "👋🏽", "<|im_end|>", "<", "я", "abcdefgh", "ABCDEFGHIJKLMNO", "\u200d", "ﬃ", "Ω", "\x00"}
	var b strings.Builder
	for range 1 + r.IntN(60) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

func TestEncodeEqualsOracleOnRandomText(t *testing.T) {
	t.Run("small", func(t *testing.T) { compareRandom(t, small(t), 4000) })
	t.Run("qwen2.5", func(t *testing.T) { compareRandom(t, qwen(t), 2000) })
}

func compareRandom(t *testing.T, tok *Tokenizer, n int) {
	o, e, r := newOracle(tok), tok.NewEncoder(), rand.New(rand.NewPCG(1, 2))
	for range n {
		text := common(randomText(r))
		want := o.encode(t, text)
		if got := e.Encode(nil, text, false); !slices.Equal(got, want) {
			t.Fatalf("%q\n got %v\nwant %v", text, got, want)
		}
	}
}

func TestScannerEqualsRegexOnEveryShortText(t *testing.T) {
	alphabet := []string{"a", "S", "'", "1", " ", "\n", "\r", "\t", "!", "\u00a0", "é", "ſ"}
	o := newOracle(small(t))
	var visit func(text string, depth int)
	visit = func(text string, depth int) {
		var got []string
		for i := 0; i < len(text); {
			end := pretokenEnd([]byte(text), i, 1)
			got = append(got, text[i:end])
			i = end
		}
		if want := o.pretokens(t, text); !slices.Equal(got, want) {
			t.Fatalf("%q: got %q, want %q", text, got, want)
		}
		if depth == 0 {
			return
		}
		for _, c := range alphabet {
			visit(text+c, depth-1)
		}
	}
	visit("", 4)
}

func TestLongPretokensMergeAsShortOnesDo(t *testing.T) {
	tok := small(t)
	o, r := newOracle(tok), rand.New(rand.NewPCG(3, 4))
	for range 200 {
		piece := make([]byte, manyIDs-4+r.IntN(400))
		for i := range piece {
			piece[i] = "apples them"[r.IntN(6)]
		}
		var m merger
		if got, want := m.merge(nil, tok.v, piece), o.merge(string(piece)); !slices.Equal(got, want) {
			t.Fatalf("%q\n got %v\nwant %v", piece, got, want)
		}
	}
}

func TestNFCEqualsXText(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	starters := []rune("aeoyAEsñé가한가\u0301\u0323\u0345")
	var n normalizer
	var interesting []rune
	tables := newClassTables()
	for c := range rune(0x110000) {
		if utf8.ValidRune(c) && unicode.In(c, unicode.L, unicode.M, unicode.S) && property(c)&(propMark|propMaybe) != 0 {
			interesting = append(interesting, c)
		}
	}
	for range 50000 {
		var text []rune
		for range 1 + r.IntN(6) {
			c := interesting[r.IntN(len(interesting))]
			if r.IntN(3) == 0 {
				c = starters[r.IntN(len(starters))]
			}
			text = append(text, c)
		}
		s := string(text)
		if got := string(n.appendNFC(nil, []byte(s))); got != norm.NFC.String(s) {
			t.Fatalf("%+q: got %+q, want %+q", s, got, norm.NFC.String(s))
		}
		if valid, nfc := tables.inspect([]byte(s)); !valid || nfc && !norm.NFC.IsNormalString(s) {
			t.Fatalf("%+q: inspect says %v %v", s, valid, nfc)
		}
	}
}
