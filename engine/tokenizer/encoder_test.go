package tokenizer

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

func TestIllFormedUTF8BecomesReplacementCharacters(t *testing.T) {
	tok := small(t)
	for in, want := range map[string]string{
		"a\xffb":                         "a\uFFFDb",
		"\xe6\x97":                       "\uFFFD",
		"\xe6\x97\xe6\x97\xa5":           "\uFFFD\u65e5",
		"\xf0\x9f\x98":                   "\uFFFD",
		"\xed\xa0\x80":                   "\uFFFD\uFFFD\uFFFD", // a surrogate
		"\xc0\xaf":                       "\uFFFD\uFFFD",
		"\xf5\x80":                       "\uFFFD\uFFFD",
		"\xe0\x80\x80":                   "\uFFFD\uFFFD\uFFFD",
		"e\xcc":                          "e\uFFFD",
		"<|im_\xffend|>":                 "<|im_\uFFFDend|>",
		strings.Repeat("x", 40) + "\x80": strings.Repeat("x", 40) + "\uFFFD",
	} {
		e := tok.NewEncoder()
		got := e.Encode(nil, in, false)
		if !slices.Equal(got, tok.Encode(nil, want, false)) {
			t.Errorf("%q: %v", in, got)
		}
		if n := strings.Count(want, "\uFFFD"); e.Replaced() != int64(n) {
			t.Errorf("%q: counted %d, want %d", in, e.Replaced(), n)
		}
	}
}

func FuzzRepairGivesValidText(f *testing.F) {
	for _, s := range []string{"", "a\xf0\x90\x80", "\xed\xbf\xbf\xee\x80\x80", "\xf4\x90\x80\x80"} {
		f.Add([]byte(s))
	}
	tok := small(f)
	f.Fuzz(func(t *testing.T, s []byte) {
		out, n := appendValid(nil, s)
		if !utf8.Valid(out) || (n == 0) != utf8.Valid(s) || n == 0 && !bytes.Equal(out, s) {
			t.Fatalf("%q: %q, %d replaced", s, out, n)
		}
		ids := tok.Encode(nil, string(s), false)
		if again := tok.Encode(nil, string(tok.Decode(nil, ids, false)), false); !slices.Equal(again, ids) {
			t.Fatalf("%q: %v, and again %v", s, ids, again)
		}
	})
}

// TestCacheNeverChangesIDs runs encoders side by side through far more pretokens than their
// cache holds.
func TestCacheNeverChangesIDs(t *testing.T) {
	tok := small(t)
	tok.v.cache.most = firstLines << 2
	var group sync.WaitGroup
	for seed := range uint64(4) {
		group.Go(func() {
			e, alone, r := tok.NewEncoder(), small(t), rand.New(rand.NewPCG(7, seed/2))
			for range 20 {
				var b strings.Builder
				for range 1000 {
					for range 2 + r.IntN(4)*r.IntN(2)*r.IntN(5) + r.IntN(3) {
						b.WriteByte(byte('a' + r.IntN(26)))
					}
					b.WriteByte('\n')
				}
				alone.v.cache = newPieceCache()
				if got, want := e.Encode(nil, b.String(), false), alone.Encode(nil, b.String(), false); !slices.Equal(got, want) {
					t.Error("an encoder with a full cache gives other ids than one with an empty cache")
				}
			}
		})
	}
	group.Wait()
	if n := len(tok.v.cache.table.Load().lines); n > tok.v.cache.most {
		t.Errorf("the cache has %d lines, at most %d are allowed", n, tok.v.cache.most)
	}
}

// A long pretoken is known by its text, not by the hash of it.
func TestCacheComparesTheTextOfLongPretokens(t *testing.T) {
	c := newPieceCache()
	one, other := []byte(strings.Repeat("a", 20)), []byte(strings.Repeat("b", 20))
	w := wantedLong(one)
	c.add(&w, one, []int32{1, 2})
	if ids, found := c.table.Load().find(nil, &w, other); found {
		t.Errorf("another text of the same hash has the ids %d", ids)
	}
	if ids, found := c.table.Load().find(nil, &w, one); !found || !slices.Equal(ids, []int32{1, 2}) {
		t.Errorf("ids %d, %v", ids, found)
	}
}

func TestHugePretokensAreNotQuadratic(t *testing.T) {
	tok := small(t)
	e := tok.NewEncoder()
	for _, s := range []string{"apples", "a", "=", " ", "\n", "\u0301", "語", "\u1100"} {
		text := strings.Repeat(s, 1<<18/len(s))
		ids := e.Encode(nil, text, false)
		if back := tok.Decode(nil, ids, false); string(back) != text {
			t.Errorf("%q × %d came back as another text", s, len(text)/len(s))
		}
	}
	if n := cap(e.merger.ids) + cap(e.nfc) + cap(e.valid); n > 3*keepScratch {
		t.Errorf("the encoder keeps %d elements of scratch", n)
	}
}

func TestTokenizerIsSafeForManyGoroutines(t *testing.T) {
	tok := small(t)
	text := strings.Repeat("Anna has 12 apples; e\u0301 <|im_end|>\n", 50)
	want := tok.Encode(nil, text, true)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 20 {
				if !slices.Equal(tok.Encode(nil, text, true), want) {
					t.Error("other ids in parallel")
				}
				if _, err := tok.Render(Chat{Messages: []Message{user(text)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestAddedTokens(t *testing.T) {
	tok := small(t)
	for _, name := range []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"} {
		id, ok := tok.Token(name)
		if !ok || string(tok.Bytes(id)) != name || tok.Special(id) != strings.HasPrefix(name, "<|") {
			t.Errorf("%s: %d, %v, %v", name, id, ok, tok.Special(id))
		}
	}
	if _, ok := tok.Token("Anna"); ok {
		t.Error("a vocabulary entry is no added token")
	}
	end, _ := tok.Token("<|im_end|>")
	if tok.EOS() != end {
		t.Errorf("EOS %d", tok.EOS())
	}
	if got := tok.Decode(nil, []int32{-1, end, 1 << 30, int32(tok.VocabSize())}, false); string(got) != "<|im_end|>" {
		t.Errorf("ids outside the vocabulary: %q", got)
	}
}

func TestLongestAddedTokenWins(t *testing.T) {
	list := []addedToken{{Content: "<a", ID: 10, Special: true}, {Content: "<ab>", ID: 11}, {Content: "x", ID: 12, Special: true}, {Content: "<a>", ID: 13, Special: true}}
	a := newAddedTokens(list)
	find := func(s string, mode Mode) int32 {
		if _, _, token := a.raw.find([]byte(s), 0, mode); token != nil {
			return token.ID
		}
		return -1
	}
	for _, c := range []struct {
		text string
		mode Mode
		want int32
	}{{"..<ab>", Parse, 11}, {"<ax", Parse, 10}, {"<a>", Parse, 13}, {"<ax", KeepAdded, -1}, {"<a<ab>", KeepAdded, 11}, {"<ab>", Plain, -1}, {"x", Parse, 12}, {"", Parse, -1}} {
		if got := find(c.text, c.mode); got != c.want {
			t.Errorf("%q in mode %d: %d, want %d", c.text, c.mode, got, c.want)
		}
	}
}

func TestNULAndLoneSurrogates(t *testing.T) {
	tok := small(t)
	text := "a\x00b \x00\x00\n\x00"
	if back := tok.Decode(nil, tok.Encode(nil, text, false), false); string(back) != text {
		t.Errorf("%q came back as %q", text, back)
	}
	e := tok.NewEncoder()
	lone := "x\xed\xa0\x80y" // how a half of a pair would be written
	if back := tok.Decode(nil, e.Encode(nil, lone, false), false); string(back) != "x\uFFFD\uFFFD\uFFFDy" || e.Replaced() != 3 {
		t.Errorf("%q came back as %q, %d replaced", lone, back, e.Replaced())
	}
	var chat Chat
	if err := json.Unmarshal([]byte(`{"messages":[{"role":"user","content":"x\ud800y\u0000"}]}`), &chat); err != nil {
		t.Fatal(err)
	}
	if got, err := tok.Render(chat); err != nil || !strings.Contains(got.Text, "x\uFFFDy\x00<|im_end|>") {
		t.Errorf("%q, %v", got.Text, err)
	}
}
