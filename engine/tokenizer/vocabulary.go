package tokenizer

import (
	"fmt"
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
	units   *unitTables
	inOrder bool // the n-th merge makes the n-th id behind the first's
	added   addedTokens
	both    map[int32]bool // added tokens that are entries of the vocabulary too
	nfc     bool
	tables  *classTables
	pre     *pretokenizer
	whole   *tokenIndex // ignore_merges: a pretoken that is a token is that token, else nil
	cache   *pieceCache
	pool    sync.Pool // of *Encoder
}

type span struct{ from, to uint32 }

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

// merged returns what the merge of a rank makes.
func (v *vocabulary) merged(rank uint32) int32 {
	if v.inOrder {
		return v.pairs[0].to + int32(rank)
	}
	return v.pairs[rank].to
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

// rules names what decides ids besides tokens and merges; Qwen2's are its pattern alone.
func (v *vocabulary) rules() string {
	text := splitPattern
	if v.pre.digits != 1 {
		text = string(v.pre.source)
	}
	if v.whole != nil {
		text += "\nignore_merges"
	}
	for _, a := range v.added.list {
		if a.addedRules != (addedRules{}) {
			text += fmt.Sprintf("\n%d %v", a.ID, a.addedRules)
		}
	}
	return text
}

// cut is Tokenizer.Cut where no added token matters.
func (v *vocabulary) cut(s []byte, size int) int {
	for i := size; i+1 < len(s); i++ {
		c := s[i+1] | 0x20
		if s[i] == '\n' && (c >= 'a' && c <= 'z' || s[i+1] >= '0' && s[i+1] <= '9') {
			return i + 1
		}
	}
	return len(s)
}
