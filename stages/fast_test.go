package stages

import (
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// pieceOf are what random texts of these tests are made of: what the fast paths look for, and what they must not stumble over.
var pieceOf = []string{
	"word", "Two words", " ", "  ", "\n", "\n\n", "\n\n\n", "\t", "\n    indent", "é", "’", "–", "\u00a0", "\u2003", "\u0085", "\u2028", "\u200b", "\u200d", "\u00ad", "\ufeff",
	"日本", "\r\n", "\r", "\x00", "\x1b[31m", "`a  b`", "$x  y$", "\\(a  \n b\\)", "```\ncode  \n```", "<think>", "</think>", "<|im_end|>", "\\boxed{1}", "[INST]", "figure below", "Ã©", "",
}

func randomText(rng *rand.Rand) string {
	var b strings.Builder
	for range rng.IntN(12) {
		b.WriteString(pieceOf[rng.IntN(len(pieceOf))])
	}
	return b.String()
}

// What needs no work is told without doing it: exactly so for control characters, never wrongly for white space.
func TestFastRejectsAgreeWithTheWork(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	passed := 0
	for range 20_000 {
		s := randomText(rng)
		if plain := strings.Map(func(r rune) rune {
			if r == '\u2028' || r == '\u2029' || r == '\u200c' || r == '\u200d' || invisible(r) {
				return 'X'
			}
			return 'o'
		}, s); hasControl(s) != strings.Contains(plain, "X") {
			t.Fatalf("hasControl(%q) is %v", s, hasControl(s))
		}
		if isCollapsed(s) {
			passed++
			if slow := collapseSlowly(s); slow != s {
				t.Fatalf("%q is taken for collapsed, and becomes %q", s, slow)
			}
		}
		var words []byte
		for word := range strings.FieldsSeq(s) {
			words = append(append(words, strings.ToLower(word)...), ' ')
		}
		if got := appendPlain([]byte("before"), s); string(got) != "before"+string(words) {
			t.Fatalf("%q: %q, want %q", s, got, words)
		}
	}
	if passed < 1000 {
		t.Errorf("only %d texts pass without work", passed)
	}
}

// Duplicates told on the way and in a pass of their own are the same, examples too.
func TestDuplicatesOnTheWayAndInTheirOwnPass(t *testing.T) {
	rows := problems(3000)
	for i := range rows {
		if i%7 == 0 {
			rows[i].Messages[1].Content += "  \n"
		}
	}
	for _, ext := range []string{".jsonl", ".parquet"} {
		var before [2]string
		for round, crowded := range []bool{false, true} {
			b := newBench(t)
			b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
			b.out = map[string]string{"data": b.path("out" + ext), "report": b.path("report.json")}
			p := stageOf[*Preprocess](t, "preprocess")
			env := b.env()
			if crowded {
				if err := p.run(t.Context(), env, &duplicates{seen: newHashSet(100)}); !errors.Is(err, errCrowded) {
					t.Fatal(err)
				}
				found, err := p.findRepeated(t.Context(), env)
				if err == nil {
					err = p.run(t.Context(), env, found)
				}
				if err != nil {
					t.Fatal(err)
				}
			} else {
				b.must(p)
			}
			for i, name := range []string{"out" + ext, "report.json"} {
				raw, err := os.ReadFile(b.path(name))
				if err != nil {
					t.Fatal(err)
				}
				if round == 0 {
					before[i] = string(raw)
				} else if string(raw) != before[i] {
					t.Errorf("%s differs", name)
				}
			}
		}
	}
}

func TestHashSet(t *testing.T) {
	s := newHashSet(10_000)
	for round := range 2 {
		for i := range uint64(10_000) {
			if there, err := s.add(i/3, i+2); err != nil || there != (round == 1) {
				t.Fatal(round, i, there, err)
			}
		}
	}
	if _, err := s.add(99, 1<<40); !errors.Is(err, errCrowded) {
		t.Fatal(err)
	}
}

// Words are the same whichever way they were read, and so are the marks of a text.
func TestFastWordsAgreeWithTheSlowWay(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for range 20_000 {
		s := randomText(rng) + strings.Repeat("x", rng.IntN(30)) + randomText(rng)
		var fast, slow loopSpace
		fast.words(s)
		for i := 0; i < len(s); {
			i = slow.slowWord(s, i)
		}
		if !slices.Equal(fast.hashes, slow.hashes) || !slices.Equal(fast.starts, slow.starts) {
			t.Fatalf("%q: %v %v, slowly %v %v", s, fast.starts, fast.hashes, slow.starts, slow.hashes)
		}
		m := marksOf(s)
		if m.opens != strings.Count(s, thinkOpen) || m.closes != strings.Count(s, thinkClose) || m.opens > 0 && m.open != strings.Index(s, thinkOpen) ||
			m.closes > 0 && (m.close != strings.Index(s, thinkClose) || m.lastClose != strings.LastIndex(s, thinkClose)) {
			t.Fatalf("%q: %+v", s, m)
		}
		remarkable := strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f })
		if m.remarkable != remarkable || m.foreign != strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) || m.characters(s) != len([]rune(s)) {
			t.Fatalf("%q: %+v", s, m)
		}
		if fast, slow := pictureIn(s), pictureSlowly(s); fast != slow {
			t.Fatalf("%q: a picture at %d, slowly at %d", s, fast, slow)
		}
	}
	for _, words := range pictures {
		if text := "What is it, " + strings.ToUpper(words) + "?"; pictureIn(text) != 12 {
			t.Errorf("%q is not found", text)
		}
	}
}

// The words of near duplicates and n-grams are the same by table and by cases.
func TestWordsAgreeWithTheirPlainTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	pieces := append([]string{"3.14", "end. Next", "1.", ".5", "x²", "2+3", "Größe", "don’t", "\x7f", "\xff", "İ", "ǅ", "٣", "\u0300"}, pieceOf...)
	for range 20_000 {
		var b strings.Builder
		for range rng.IntN(12) {
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
		if text := b.String(); !slices.Equal(appendWords(nil, text), wordsPlainly(text)) {
			t.Fatalf("%q: other words", text)
		}
	}
}

// wordsPlainly is appendWords, a case a character.
func wordsPlainly(text string) (dst []uint64) {
	const offset, prime = 14695981039346656037, 1099511628211
	h, inside := uint64(offset), false
	end := func() {
		if inside {
			dst = append(dst, mix(h))
			h, inside = offset, false
		}
	}
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z':
			h, inside = (h^uint64(r))*prime, true
		case r >= 'A' && r <= 'Z':
			h, inside = (h^uint64(r|0x20))*prime, true
		case r <= ' ', r == ',' || r == ';' || r == ':' || r == '?' || r == '"' || r == '\'' || r == '’' || r == '“' || r == '”':
			end()
		case r == '.':
			if i+1 < len(text) && inside && text[i+1] >= '0' && text[i+1] <= '9' {
				h = (h ^ '.') * prime
			} else {
				end()
			}
		case r >= 0x2e80 || r < utf8.RuneSelf:
			end()
			h, inside = (h^uint64(r))*prime, true
			end()
		case unicode.IsSpace(r):
			end()
		default:
			h, inside = (h^uint64(unicode.ToLower(r)))*prime, true
		}
		i += size
	}
	end()
	return dst
}

func TestMinimaAreTheSameWithoutVectors(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	m := newMinHasher(defaultNear())
	for n := 1; n < 200; n += 1 + n/7 {
		hashes := make([]uint64, n)
		for i := range hashes {
			hashes[i] = rng.Uint64()
		}
		var plain [permutations]uint32
		m.leastPlainly(&plain, hashes)
		if m.least(hashes) != plain {
			t.Fatalf("%d hashes: other minima", n)
		}
	}
}

// A rolling hash of words is the hash of those words alone, wherever they stand.
func TestShinglesRoll(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	words := make([]uint64, 60)
	for i := range words {
		words[i] = rng.Uint64()
	}
	for n := 1; n < 70; n++ {
		got := shingles(slices.Clone(words), n)
		if len(got) != max(len(words)-n+1, 1) {
			t.Fatalf("%d shingles of %d words", len(got), n)
		}
		for i, h := range got {
			if alone := shingles(slices.Clone(words[i:min(i+n, len(words))]), n); len(alone) != 1 || alone[0] != h {
				t.Fatalf("shingle %d of %d words differs from the same words alone", i, n)
			}
		}
	}
	if a, b := shingles([]uint64{1, 2}, 2)[0], shingles([]uint64{2, 1}, 2)[0]; a == b {
		t.Error("the order of words does not count")
	}
}
