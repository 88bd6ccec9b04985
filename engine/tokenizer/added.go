package tokenizer

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
)

// addedToken is a text that stands for one id wherever it is recognised.
type addedToken struct {
	Content string
	ID      int32
	Special bool
	addedRules
}

// addedRules say where an added token is recognised (Hugging Face tokenizers' AddedToken).
type addedRules struct {
	SingleWord bool `json:"single_word"` // only where no word goes on at either end
	LStrip     bool `json:"lstrip"`      // takes white space before it along
	RStrip     bool `json:"rstrip"`
	Normalized bool `json:"normalized"` // looked for in normalised text
}

// addedTokens finds added tokens in a text, leftmost first and of those the longest.
// Those that are looked for in normalised text are kept apart.
type addedTokens struct {
	list       []addedToken // by id
	raw, later tokenFinder
}

// tokenFinder finds some of the added tokens.
type tokenFinder struct {
	byFirst *[256][]addedToken // nil where there are none
	first   []byte             // the first bytes that occur
}

func newAddedTokens(list []addedToken) addedTokens {
	a := addedTokens{list: slices.SortedFunc(slices.Values(list), func(x, y addedToken) int { return cmp.Compare(x.ID, y.ID) })}
	for _, t := range a.list {
		if t.Normalized {
			a.later.add(t)
		} else {
			a.raw.add(t)
		}
	}
	return a
}

func (f *tokenFinder) add(t addedToken) {
	if f.byFirst == nil {
		f.byFirst = &[256][]addedToken{}
	}
	c := t.Content[0]
	if len(f.byFirst[c]) == 0 {
		f.first = append(f.first, c)
	}
	at, _ := slices.BinarySearchFunc(f.byFirst[c], t, func(x, y addedToken) int { return len(y.Content) - len(x.Content) })
	f.byFirst[c] = slices.Insert(f.byFirst[c], at, t)
}

// find returns the first added token in s[from:] and the stretch that it takes, which
// white space may belong to; at is len(s) when there is none. Special ones count only
// where mode says so, and then hide what is within them.
func (f *tokenFinder) find(s []byte, from int, mode Mode) (at, end int, token *addedToken) {
	if f.byFirst == nil || mode == Plain {
		return len(s), len(s), nil
	}
	for i := from; i < len(s); {
		if i += f.nextFirst(s[i:]); i >= len(s) {
			break
		}
		c := f.longest(s[i:])
		if c == nil {
			i++
			continue
		}
		at, end := i, i+len(c.Content)
		if mode == KeepAdded && c.Special || c.SingleWord && !(endsWord(s[:at]) && startsWord(s[end:])) {
			i = end
			continue
		}
		if c.LStrip {
			at = max(from, len(bytes.TrimRightFunc(s[:at], isSpace)))
		}
		if c.RStrip {
			end = len(s) - len(bytes.TrimLeftFunc(s[end:], isSpace))
		}
		return at, end, c
	}
	return len(s), len(s), nil
}

// longest returns the longest added token that s begins with.
func (f *tokenFinder) longest(s []byte) *addedToken {
	candidates := f.byFirst[s[0]]
	for k := range candidates {
		if c := &candidates[k]; len(s) >= len(c.Content) && string(s[:len(c.Content)]) == c.Content {
			return c
		}
	}
	return nil
}

// nextFirst returns the offset of the next byte that begins an added token.
func (f *tokenFinder) nextFirst(s []byte) int {
	if len(f.first) == 1 {
		if i := bytes.IndexByte(s, f.first[0]); i >= 0 {
			return i
		}
		return len(s)
	}
	for i, c := range s {
		if len(f.byFirst[c]) > 0 {
			return i
		}
	}
	return len(s)
}

func isSpace(r rune) bool { return property(r)&classMask == classSpace }

// wordCharacter is `\w` of Rust's regex: alphabetic characters, marks, decimal digits,
// connecting punctuation, joiners (UTS #18, Annex C).
func wordCharacter(r rune) bool {
	switch {
	case r == 0x200C || r == 0x200D:
		return true
	case r >= 0x24B6 && r <= 0x24E9, r >= 0x1F130 && r <= 0x1F149, r >= 0x1F150 && r <= 0x1F169, r >= 0x1F170 && r <= 0x1F189:
		return true // circled and squared letters, which are alphabetic symbols
	}
	return 1<<category(r)&(categoryMask("L")|categoryMask("M")|categoryMask("Nd")|categoryMask("Nl")|categoryMask("Pc")) != 0
}

// endsWord says whether no word goes on behind s, startsWord whether none begins s.
func endsWord(s []byte) bool {
	r, _ := utf8.DecodeLastRune(s)
	return len(s) == 0 || !wordCharacter(r)
}

func startsWord(s []byte) bool {
	r, _ := utf8.DecodeRune(s)
	return len(s) == 0 || !wordCharacter(r)
}

// next returns the first added token in s[i:] wherever it is looked for, and where it
// begins; nil if there is none.
func (a *addedTokens) next(s []byte, i int) (at int, token *addedToken) {
	at, _, token = a.raw.find(s, i, Parse)
	if later, _, other := a.later.find(s, i, Parse); other != nil && (token == nil || later < at) {
		return later, other
	}
	return at, token
}

// reachAcrossLines says whether a line's end can decide if an added token is one.
func (a *addedTokens) reachAcrossLines() bool {
	return slices.ContainsFunc(a.list, func(t addedToken) bool {
		return t.SingleWord || t.LStrip || t.RStrip || strings.ContainsAny(t.Content, "\r\n")
	})
}

func (a *addedTokens) byName(name string) (addedToken, bool) {
	for _, t := range a.list {
		if t.Content == name {
			return t, true
		}
	}
	return addedToken{}, false
}
