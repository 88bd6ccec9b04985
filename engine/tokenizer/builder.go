package tokenizer

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// builder collects a vocabulary from its files. Tokens come first, merges refer
// to them.
type builder struct {
	v     *vocabulary
	index tokenIndex
	raw   map[int32]bool // entries that are not spelled byte-level
	// ignoreMerges: a pretoken that is an entry of the vocabulary is not merged.
	ignoreMerges bool
}

func newBuilder() *builder {
	return &builder{v: &vocabulary{nfc: true, tables: newClassTables(), cache: newPieceCache()}}
}

// tokenIndex finds a token by its bytes: open addressing by their hash; a slot has the
// hash's upper half, and the id plus one.
type tokenIndex struct {
	slots []uint64
	v     *vocabulary
}

// token adds a vocabulary entry as the file spells it.
func (b *builder) token(spelled []byte, id int32) error {
	v := b.v
	from := len(v.arena)
	arena, ok := appendSpelled(v.arena, spelled)
	if !ok {
		// Not byte-level: an added token that stands in the vocabulary too, such
		// as one with a space. No merge can make it.
		arena = append(arena[:from], spelled...)
		if b.raw == nil {
			b.raw = map[int32]bool{}
		}
		b.raw[id] = true
	}
	v.arena = arena
	if len(arena) == from {
		return errors.New("an empty token")
	}
	if v.kind(id) != absent {
		return fmt.Errorf("id %d stands for both %q and %q", id, spell(v.bytes(id)), spelled)
	}
	v.set(id, from, regular)
	return nil
}

// finishTokens builds the index and the table of single bytes.
func (b *builder) finishTokens() error {
	v := b.v
	size := 16
	for size < len(v.spans)*3/2 {
		size *= 2
	}
	b.index = tokenIndex{make([]uint64, size), v}
	for id := range v.spans {
		if v.kinds[id] == absent {
			continue
		}
		token := v.bytes(int32(id))
		at, found := b.index.slot(token)
		if found {
			return fmt.Errorf("token %q stands twice, as %d and %d", spell(token), uint32(b.index.slots[at])-1, id)
		}
		b.index.slots[at] = hashBytes(token)&^(1<<32-1) | uint64(id+1)
	}
	for c := range 256 {
		id, found := b.index.find([]byte{byte(c)})
		if !found {
			return fmt.Errorf("the vocabulary has no token for byte 0x%02X (%q): it is not a whole byte-level one", c, byteChar(byte(c)))
		}
		v.byteIDs[c] = id
	}
	return nil
}

// find returns a token's id. Half of the hash stands in the slot, so that other
// tokens' bytes are hardly ever looked at.
func (x *tokenIndex) find(token []byte) (id int32, found bool) {
	at, found := x.slot(token)
	return int32(uint32(x.slots[at])) - 1, found
}

// slot returns where a token stands in the index, or the free slot where it would.
func (x *tokenIndex) slot(token []byte) (at int, found bool) {
	mask, hash := len(x.slots)-1, hashBytes(token)
	for i := int(hash) & mask; ; i = (i + 1) & mask {
		switch slot := x.slots[i]; {
		case slot == 0:
			return i, false
		case slot>>32 == hash>>32 && bytes.Equal(x.v.bytes(int32(uint32(slot))-1), token):
			return i, true
		}
	}
}

// forget takes a token out: its slot stays taken, with a hash that is not its own.
func (x *tokenIndex) forget(token []byte) {
	if at, found := x.slot(token); found {
		x.slots[at] ^= 1 << 63
	}
}

func (b *builder) id(token []byte) (int32, bool) {
	if len(token) == 1 {
		return b.v.byteIDs[token[0]], true
	}
	return b.index.find(token)
}

// add makes added tokens; one that the vocabulary has must have the same id there.
func (b *builder) add(list []addedToken) error {
	v, ids := b.v, map[string]int32{}
	for _, t := range list {
		if id, twice := ids[t.Content]; twice {
			return fmt.Errorf("added token %q has the ids %d and %d", t.Content, min(id, t.ID), max(id, t.ID))
		}
		ids[t.Content] = t.ID
		if err := b.checkAdded(t); err != nil {
			return err
		}
		if v.kind(t.ID) == regular {
			if v.both == nil {
				v.both = map[int32]bool{}
			}
			v.both[t.ID] = true
		}
		from, k := len(v.arena), added
		if v.arena = append(v.arena, t.Content...); t.Special {
			k = special
		}
		v.set(t.ID, from, k)
	}
	v.added = newAddedTokens(list)
	return nil
}

// checkAdded says why a token cannot be added.
func (b *builder) checkAdded(t addedToken) error {
	if t.Content == "" || !utf8.ValidString(t.Content) {
		return fmt.Errorf("added token %d has no text", t.ID)
	}
	if t.ID < 0 || t.ID > maxID {
		return fmt.Errorf("added token %q: id %d is outside 0…%d", t.Content, t.ID, maxID)
	}
	switch old := b.v.bytes(t.ID); b.v.kind(t.ID) {
	case added, special:
		return fmt.Errorf("added tokens %q and %q have the same id %d", old, t.Content, t.ID)
	case regular:
		if string(old) != t.Content {
			return fmt.Errorf("added token %q has id %d, which is the vocabulary's %q", t.Content, t.ID, spell(old))
		}
	default:
		if id, found := b.index.find([]byte(t.Content)); found {
			return fmt.Errorf("added token %q has id %d here and %d in the vocabulary", t.Content, t.ID, id)
		}
	}
	return nil
}

// unmade counts the tokens of several bytes that no merge makes. A whole vocabulary
// has hardly any; a text file of merges that was cut short shows by nothing else.
func (b *builder) unmade() int {
	made := make([]bool, len(b.v.spans))
	for _, p := range b.v.pairs {
		made[p.to] = true
	}
	n := 0
	for id, s := range b.v.spans {
		if b.v.kinds[id] == regular && s.to-s.from > 1 && !made[id] {
			n++
		}
	}
	return n
}

// finish builds what merging needs.
func (b *builder) finish() *vocabulary {
	v := b.v
	if b.ignoreMerges {
		v.whole = &b.index
		for id := range b.raw {
			v.whole.forget(v.bytes(id))
		}
	}
	v.merges = newMergeTable(len(v.pairs), len(v.spans))
	v.inOrder = true
	for rank, p := range v.pairs {
		v.merges.add(p.left, p.right, uint32(rank))
		v.inOrder = v.inOrder && p.to-v.pairs[0].to == int32(rank)
	}
	v.units = newUnits(v)
	return v
}
