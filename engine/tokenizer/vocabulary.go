package tokenizer

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
)

// vocabulary is what decides ids: byte sequences, merges, added tokens. It is
// shared by all tokenizers that differ in their template only.
type vocabulary struct {
	arena   []byte
	spans   []span // by id; empty where there is no such token
	kinds   []kind // by id
	byteIDs [256]int32
	pairs   []pair // merges, best rank first
	merges  mergeTable
	// bytePairs are the merges of two single bytes, where every pretoken begins.
	bytePairs []bytePair // by left<<8|right
	added     addedTokens
	both      map[int32]bool // added tokens that are entries of the vocabulary too
	nfc       bool
	pool      sync.Pool // of *Encoder
}

type span struct{ from, to uint32 }

// bytePair is a merge of two bytes; its rank is one more than the merge's, so that
// 0 says that there is none.
type bytePair struct {
	rank uint32
	to   int32
}

type pair struct{ left, right, to int32 }

// kind says what an id is.
type kind uint8

const (
	absent  kind = iota
	regular      // made by merges
	added        // added, and part of the text
	special      // added, and left out by skipSpecial
)

// maxID bounds ids: a cache entry packs a count into the upper byte of one.
const maxID = 1<<24 - 1

// bytes returns what an id stands for, nil if nothing.
func (v *vocabulary) bytes(id int32) []byte {
	if id < 0 || int(id) >= len(v.spans) {
		return nil
	}
	s := v.spans[id]
	return v.arena[s.from:s.to]
}

func (v *vocabulary) kind(id int32) kind {
	if id < 0 || int(id) >= len(v.kinds) {
		return absent
	}
	return v.kinds[id]
}

// set gives an id its bytes, which were appended to the arena at from.
func (v *vocabulary) set(id int32, from int, k kind) {
	if n := int(id) + 1 - len(v.spans); n > 0 {
		v.spans = append(v.spans, make([]span, n)...)
		v.kinds = append(v.kinds, make([]kind, n)...)
	}
	v.spans[id] = span{uint32(from), uint32(len(v.arena))}
	v.kinds[id] = k
}

// addedToken is a text that stands for one id wherever it is recognised.
type addedToken struct {
	Content string
	ID      int32
	Special bool
}

// addedTokens finds added tokens in raw text, leftmost first and of those the longest.
type addedTokens struct {
	list    []addedToken // by id
	byFirst [256][]addedToken
	first   []byte // the first bytes that occur
}

func newAddedTokens(list []addedToken) addedTokens {
	a := addedTokens{list: slices.SortedFunc(slices.Values(list), func(x, y addedToken) int { return cmp.Compare(x.ID, y.ID) })}
	for _, t := range a.list {
		c := t.Content[0]
		if len(a.byFirst[c]) == 0 {
			a.first = append(a.first, c)
		}
		a.byFirst[c] = append(a.byFirst[c], t)
	}
	for _, c := range a.first {
		slices.SortStableFunc(a.byFirst[c], func(x, y addedToken) int { return len(y.Content) - len(x.Content) })
	}
	return a
}

// find returns the first added token in s[i:], and where it begins; at is len(s)
// when there is none. Special ones count only where mode says so.
func (a *addedTokens) find(s []byte, i int, mode Mode) (at int, token *addedToken) {
	for i < len(s) && mode != Plain {
		i += a.nextFirst(s[i:])
		if i >= len(s) {
			break
		}
		candidates := a.byFirst[s[i]]
		for k := range candidates {
			c := &candidates[k]
			if (mode == Parse || !c.Special) && len(s)-i >= len(c.Content) && string(s[i:i+len(c.Content)]) == c.Content {
				return i, c
			}
		}
		i++
	}
	return len(s), nil
}

// nextFirst returns the offset of the next byte that begins an added token.
func (a *addedTokens) nextFirst(s []byte) int {
	switch len(a.first) {
	case 0:
		return len(s)
	case 1:
		if i := bytes.IndexByte(s, a.first[0]); i >= 0 {
			return i
		}
		return len(s)
	}
	for i, c := range s {
		if len(a.byFirst[c]) > 0 {
			return i
		}
	}
	return len(s)
}

func (a *addedTokens) byName(name string) (addedToken, bool) {
	for _, t := range a.list {
		if t.Content == name {
			return t, true
		}
	}
	return addedToken{}, false
}
