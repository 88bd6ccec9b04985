package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// unitAlphabet has characters of one to four bytes whose bytes are partly the same.
var unitAlphabet = []string{" ", " ", "a", "b", "c", "o", "о", "е", "а", "р", "ж", "я", "し", "さ", "ん", "数", "다", "니", "😀", "😁"}

func unitText(r *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(unitAlphabet[r.IntN(len(unitAlphabet))])
	}
	return b.String()
}

// randomMerges makes a vocabulary by joining neighbours in random text, drawn by chance, so that its tokens reach across
// characters, and begin and end within them.
func randomMerges(t *testing.T, r *rand.Rand, merges int) (tokens []string, list [][2]string) {
	t.Helper()
	known := map[string]bool{}
	for c := range 256 {
		tokens = append(tokens, string([]byte{byte(c)}))
		known[tokens[c]] = true
	}
	var words [][]string
	for range 30 {
		var word []string
		for _, c := range []byte(unitText(r, 2+r.IntN(8))) {
			word = append(word, string([]byte{c}))
		}
		words = append(words, word)
	}
	for range merges {
		word := words[r.IntN(len(words))]
		if len(word) < 2 {
			continue
		}
		at := r.IntN(len(word) - 1)
		left, right := word[at], word[at+1]
		list = append(list, [2]string{left, right})
		if !known[left+right] {
			known[left+right] = true
			tokens = append(tokens, left+right)
		}
		for k, word := range words {
			for i := 0; i+1 < len(word); i++ {
				if word[i] == left && word[i+1] == right {
					word = slices.Replace(word, i, i+2, left+right)
				}
			}
			words[k] = word
		}
	}
	return tokens, list
}

func vocabularyOf(t *testing.T, tokens []string, merges [][2]string) *vocabulary {
	t.Helper()
	b := newBuilder()
	for id, token := range tokens {
		if err := b.token([]byte(spell([]byte(token))), int32(id)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.finishTokens(); err != nil {
		t.Fatal(err)
	}
	r := newMergeReader(b, len(merges))
	for _, m := range merges {
		if err := r.merge([]byte(spell([]byte(m[0]))), []byte(spell([]byte(m[1])))); err != nil {
			t.Fatal(err)
		}
	}
	b.v.pairs = r.pairs
	return b.finish()
}

func TestUnitsChangeNoIDs(t *testing.T) {
	r, used := rand.New(rand.NewPCG(7, 8)), 0
	for round := range 160 {
		tokens, merges := randomMerges(t, r, 20+r.IntN(150))
		if round%4 == 3 { // merges before those of their parts
			for range 1 + r.IntN(10) {
				i, j := r.IntN(len(merges)), r.IntN(len(merges))
				merges[i], merges[j] = merges[j], merges[i]
			}
		}
		v := vocabularyOf(t, tokens, merges)
		o := newOracle(&Tokenizer{v: v})
		var m merger
		for range 100 {
			piece := unitText(r, 1+r.IntN(30))
			got, want := m.merge(nil, v, []byte(piece)), o.merge(piece)
			if !slices.Equal(got, want) {
				t.Fatalf("round %d, %q\n got %v\nwant %v\nmerges %q", round, piece, got, want, merges)
			}
			used += len(piece) - len(v.appendUnits(nil, []byte(piece)))
		}
	}
	if used < 40000 {
		t.Errorf("units saved %d merges in all: the test shows little", used)
	}
}

// Pretokens made of Qwen2.5's own tokens bring the parts at the ends of units together with what merges with them.
func TestUnitsChangeNoIDsOfQwen(t *testing.T) {
	tok := qwen(t)
	o, r := newOracle(tok), rand.New(rand.NewPCG(9, 10))
	var m merger
	for range 12000 {
		var piece []byte
		for range 1 + r.IntN(6) {
			if token := tok.v.bytes(int32(r.IntN(qwenVocabulary))); utf8.Valid(token) {
				piece = append(piece, token...)
			}
		}
		if got, want := m.merge(nil, tok.v, piece), o.merge(string(piece)); !slices.Equal(got, want) {
			t.Fatalf("%q\n got %v\nwant %v", piece, got, want)
		}
	}
}
