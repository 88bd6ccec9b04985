package tokenizer

import (
	"sync"
	"unicode/utf8"
)

// Merging need not begin with bytes. A unit is a character, a character behind a space, or two
// ASCII characters, whose bytes become one token before any merge reaches across their ends.
// A pretoken that begins with that token ends with the same ids, in half of the merges where
// characters have two bytes, in a third where they have three.
//
// When is this so? Let every merge stand behind those that make its parts: then ranks never fall
// while a pretoken is merged. As long as nothing has reached across its ends, a unit merges as it
// does alone. So a neighbour can take a part at one of its ends only by a merge whose rank is not
// above that of the unit's own merge that takes this part. Where no merge of such a rank joins the
// part with what may end the character before the unit, or begin the one behind it, the unit is on
// its own until it is one token. And no merge with this token was due before, for its rank is above
// those that made it. newUnits goes through all these merges, and keeps which neighbours they concern.

// unit is the token of one, and the classes of the characters before and behind it beside which
// it has to begin with bytes after all.
type unit struct {
	id            int32
	before, after uint64
}

const noUnit = -1

// classOf is the class of a character, one of 64, by its last byte.
func classOf(last byte) uint64 { return 1 << (last & 63) }

// unitTables find units, in pages of 64 characters that differ in their last byte. An index gives
// the page by the rest of the character; page 0 has no units.
type unitTables struct {
	pages  [][64]unit
	alone  [unitBlocks]uint16
	spaced [unitBlocks]uint16 // behind a space
	ascii  [1 << 8]uint16     // ASCII behind ASCII: by 2 × the first one + the second one's block
}

const unitBlocks = 1 << 11 // up to U+1FFFF

// at returns what may be a unit at s[i] and where it ends.
func (t *unitTables) at(s []byte, i int) (u *unit, end int) {
	c := s[i]
	if c >= utf8.RuneSelf {
		block, low, size := blockAt(s, i)
		return &t.pages[t.alone[block]][low], i + size
	}
	if i+1 == len(s) {
		return &t.pages[0][0], i + 1
	}
	next := s[i+1]
	if next < utf8.RuneSelf {
		return &t.pages[t.ascii[c<<1|next>>6]][next&63], i + 2
	}
	if c != ' ' {
		return &t.pages[0][0], i + 1
	}
	block, low, size := blockAt(s, i+1)
	return &t.pages[t.spaced[block]][low], i + 1 + size
}

// charSizes is the length of a character by the upper half of its first byte.
var charSizes = [16]uint8{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4}

// blockAt decodes the character at s[i], which is not ASCII, as the number of its block of 64 and
// its place there. The block is 0 where it is beyond unitBlocks.
func blockAt(s []byte, i int) (block uint, low uint8, size int) {
	c, rest := s[i], s[i+1:]
	switch size = int(charSizes[c>>4]); {
	case len(rest) < size-1: // not UTF-8
		return 0, 0, 1
	case size == 2:
		return uint(c & 31), rest[0] & 63, 2
	case size == 3:
		return uint(c&15)<<6 | uint(rest[0]&63), rest[1] & 63, 3
	case size == 4:
		if block = uint(c&7)<<12 | uint(rest[0]&63)<<6 | uint(rest[1]&63); block < unitBlocks {
			return block, rest[2] & 63, 4
		}
	}
	return 0, 0, size
}

// appendUnits appends the tokens that merging a pretoken begins with: of its units, and of
// single bytes elsewhere.
func (v *vocabulary) appendUnits(ids []int32, piece []byte) []int32 {
	before := uint64(0)
	for i := 0; i < len(piece); before = classOf(piece[i-1]) {
		u, end := v.units.at(piece, i)
		forbidden := u.before & before
		if end < len(piece) {
			last := min(end+int(charSizes[piece[end]>>4]), len(piece)) - 1
			forbidden |= u.after & classOf(piece[last])
		}
		if forbidden == 0 && u.id != noUnit {
			ids = append(ids, u.id)
			i = end
			continue
		}
		if piece[i] < utf8.RuneSelf {
			end = i + 1
		}
		for ; i < end; i++ {
			ids = append(ids, v.byteIDs[piece[i]])
		}
	}
	return ids
}

// newUnits finds the units of a vocabulary.
func newUnits(v *vocabulary) *unitTables {
	t := &unitTables{pages: make([][64]unit, 1)}
	for i := range t.pages[0] {
		t.pages[0][i].id = noUnit
	}
	if !partsComeFirst(v) {
		return t
	}
	p := unitProver{v: v}
	var wg sync.WaitGroup
	wg.Go(func() { p.byLeft = ranksBy(v, func(p pair) int32 { return p.left }) })
	p.byRight = ranksBy(v, func(p pair) int32 { return p.right })
	wg.Wait()
	for id, kind := range v.kinds {
		text := v.bytes(int32(id))
		if kind == absent || len(text) < 2 || len(text) > 1+utf8.UTFMax || !utf8.Valid(text) {
			continue
		}
		page := t.pageOf(text)
		if page == nil {
			continue
		}
		u, ok := p.prove(text)
		if !ok {
			continue
		}
		if *page == 0 {
			*page = uint16(len(t.pages))
			t.pages = append(t.pages, t.pages[0])
		}
		t.pages[*page][text[len(text)-1]&63] = u
	}
	return t
}

// pageOf returns the place in an index where a text belongs, nil if it has not the form of a unit.
func (t *unitTables) pageOf(text []byte) *uint16 {
	index, from := &t.alone, 0
	if text[0] < utf8.RuneSelf {
		if len(text) == 2 {
			return &t.ascii[text[0]<<1|text[1]>>6]
		}
		index, from = &t.spaced, 1
		if text[0] != ' ' || text[1] < utf8.RuneSelf {
			return nil
		}
	}
	block, _, size := blockAt(text, from)
	if from+size != len(text) || block == 0 {
		return nil
	}
	return &index[block]
}

// partsComeFirst says whether each merge comes behind all that make its parts.
func partsComeFirst(v *vocabulary) bool {
	made := make([]int32, len(v.spans)) // by the merge before which the token was last made
	for rank, p := range v.pairs {
		made[p.to] = int32(rank) + 1
	}
	for rank, p := range v.pairs {
		if max(made[p.left], made[p.right]) > int32(rank) {
			return false
		}
	}
	return true
}

// unitProver tries out units.
type unitProver struct {
	v               *vocabulary
	byLeft, byRight ranksByToken
	ids             []int32
}

// prove merges a text on its own, and collects which neighbours could reach across its ends
// meanwhile. ok is false if it does not become one token.
func (p *unitProver) prove(text []byte) (u unit, ok bool) {
	ids := p.ids[:0]
	for _, c := range text {
		ids = append(ids, p.v.byteIDs[c])
	}
	for p.ids = ids; len(ids) > 1; {
		at, rank := 0, noRank
		for i := range ids[1:] {
			if r := p.v.merges.find(ids[i], ids[i+1]); r < rank {
				at, rank = i, r
			}
		}
		if rank == noRank {
			return unit{}, false
		}
		if at == 0 {
			u.before |= p.before(ids[0], rank)
		}
		if at == len(ids)-2 {
			u.after |= p.after(ids[at+1], rank)
		}
		ids[at] = p.v.merged(rank)
		ids = append(ids[:at+1], ids[at+2:]...)
	}
	u.id = ids[0]
	return u, true
}

// before returns the classes of the characters to the left of a token with whose end a merge of
// that rank, or of a lower one, can join it.
func (p *unitProver) before(id int32, rank uint32) (classes uint64) {
	for _, r := range p.byRight.of(id) {
		if r > rank {
			break
		}
		text := p.v.bytes(p.v.pairs[r].left)
		first := len(text) - 1
		for first >= 0 && !utf8.RuneStart(text[first]) {
			first--
		}
		if first < 0 || utf8.FullRune(text[first:]) { // else it ends within a character
			classes |= classOf(text[len(text)-1])
		}
	}
	return classes
}

// after is before on the right.
func (p *unitProver) after(id int32, rank uint32) (classes uint64) {
	for _, r := range p.byLeft.of(id) {
		if r > rank {
			break
		}
		switch text := p.v.bytes(p.v.pairs[r].right); {
		case !utf8.RuneStart(text[0]): // it begins within a character
		case !utf8.FullRune(text):
			return ^uint64(0)
		default:
			_, size := utf8.DecodeRune(text)
			classes |= classOf(text[size-1])
		}
	}
	return classes
}

// ranksByToken are the ranks of merges, grouped by one of their parts.
type ranksByToken struct{ from, ranks []uint32 }

func (r *ranksByToken) of(id int32) []uint32 { return r.ranks[r.from[id]:r.from[id+1]] }

func ranksBy(v *vocabulary, part func(pair) int32) ranksByToken {
	from := make([]uint32, len(v.spans)+2)
	for _, p := range v.pairs {
		from[part(p)+2]++
	}
	for i := 1; i < len(from); i++ {
		from[i] += from[i-1]
	}
	ranks := make([]uint32, len(v.pairs))
	for r, p := range v.pairs {
		next := &from[part(p)+1]
		ranks[*next] = uint32(r)
		*next++
	}
	return ranksByToken{from, ranks}
}
