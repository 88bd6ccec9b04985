package tokenizer

import (
	"math/bits"
	"unicode/utf8"
)

// The scanner for Qwen2's and Llama 3's patterns works on 64 bytes at once: a mask for each
// class, one bit a byte, and from these by a few operations a mask of the bytes that begin a
// pretoken. All bytes of a character have its class. pretokenEnd (scan.go) is its plain twin.

// blockScanner finds the pretokens of one text, from left to right.
type blockScanner struct {
	digits int
	tables *classTables
	masks  [batchBlocks]classMasks
	begins [batchBlocks]uint64 // by block: which bytes begin a pretoken
	at     [65]uint32          // where each character begins, in mixed

	// What stood before the block: bit 0 says it of the last character.
	letter, number, blank, newline, other uint64
	otherStart                            uint64 // it began a pretoken
	attached                              uint64 // a newline that belongs to other characters before it
	run                                   uint64 // digits of the pretoken that was going on
	forced                                int    // position behind a contraction, where a pretoken begins
	overLetter, overNumber                uint64 // bytes of the block whose character began before it
}

// batchBlocks is how many blocks are classified at once.
const batchBlocks = 16

func (b *blockScanner) reset(digits int, tables *classTables) {
	*b = blockScanner{digits: digits, tables: tables}
}

// scan finds where pretokens begin in s[i:], appends these positions and returns how far it
// came. It stops when there are at least few of them, or at the end. The text begins at s[0],
// and i is 0 or what the last call returned.
func (b *blockScanner) scan(s []byte, i int, dst []uint32, few int) ([]uint32, int) {
	for i < len(s) && len(dst) < few {
		blocks := b.masks[:min(batchBlocks, (len(s)-i-1)/64)]
		b.tables.classify(blocks, s[i:])
		from, done := i, 0
		for ; done < len(blocks); done++ {
			m := &blocks[done]
			m.letter |= b.overLetter
			m.number |= b.overNumber
			b.overLetter, b.overNumber = m.over, 0
			if m.open != 0 && !b.resolve(m, s, i) {
				break
			}
			b.begins[done] = b.starts(m, 64, s, i, i+64, nil) &^ m.tail
			i += 64
		}
		dst = appendPositions(dst, b.begins[:done], uint32(from))
		if done == 0 || done < len(blocks) {
			dst, i = b.mixed(s, i, dst)
		}
	}
	return dst, i
}

// positionsPlain appends the positions of the bits of masks, the first of which is that of byte from.
func positionsPlain(dst []uint32, masks []uint64, from uint32) []uint32 {
	for _, m := range masks {
		for ; m != 0; m &= m - 1 {
			dst = append(dst, from+uint32(bits.TrailingZeros64(m)))
		}
		from += 64
	}
	return dst
}

// resolve adds the open characters of the block at s[i:]. Where these are white space, or make
// threes of digits, bytes do not do for characters, and the answer is no.
func (b *blockScanner) resolve(m *classMasks, s []byte, i int) bool {
	var low, high uint64 // the bits of the classes
	var class, width uint64
	k := 0
	for rest := m.open; rest != 0; rest &= rest - 1 {
		k = bits.TrailingZeros64(rest)
		var p uint8
		switch c := s[i+k:]; {
		case c[0] < 0xE0:
			r := uint(c[0]&0x1F)<<6 | uint(c[1]&0x3F)
			p, width = propBlocks[uint(propIndex[r>>8])<<8|r&255], 0b11
		case c[0] < 0xF0:
			r := uint(c[0]&0x0F)<<12 | uint(c[1]&0x3F)<<6 | uint(c[2]&0x3F)
			p, width = propBlocks[uint(propIndex[r>>8])<<8|r&255], 0b111
		default:
			p, _ = classAt(s, i+k)
			width = 0b1111
		}
		class = uint64(p & classMask)
		low |= width & -(class & 1) << k
		high |= width & -(class >> 1) << k
	}
	if low&high != 0 || b.digits > 1 && high != 0 {
		return false
	}
	m.letter |= low
	m.number |= high
	if k > 64-4 {
		width >>= 64 - k
		b.overLetter |= width & -(class & 1)
		b.overNumber = width & -(class >> 1)
	}
	return true
}

// mixed scans up to 64 characters one by one.
func (b *blockScanner) mixed(s []byte, i int, dst []uint32) ([]uint32, int) {
	b.overLetter, b.overNumber = 0, 0
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++ // the last block had the beginning of this one
	}
	if i == len(s) {
		return dst, i
	}
	var of [4]uint64 // by class; newlines are in that of white space
	var m classMasks
	n := 0
	for bit := uint64(1); bit != 0 && i < len(s); bit <<= 1 {
		b.at[n] = uint32(i)
		n++
		switch s[i] {
		case ' ':
			m.blank |= bit
		case '\'':
			m.quote |= bit
		case '\r', '\n':
			m.newline |= bit
		}
		var class uint8
		class, i = classAt(s, i)
		of[class] |= bit
	}
	m.letter, m.number, m.space = of[classLetter], of[classNumber], of[classSpace]&^m.newline
	starts := b.starts(&m, n, s, 0, i, &b.at)
	for ; starts != 0; starts &= starts - 1 {
		dst = append(dst, b.at[bits.TrailingZeros64(starts)])
	}
	return dst, i
}

// starts returns which of n characters begin a pretoken. They end at s[end]; the k-th is at
// s[at[k]]. Where at is nil, it is bytes, of which the k-th is at s[from+k], and what it says of
// tails is meaningless.
func (b *blockScanner) starts(m *classMasks, n int, s []byte, from, end int, at *[65]uint32) uint64 {
	valid := ^uint64(0) >> (64 - uint(n))
	letter, number, space, newline := m.letter, m.number, m.space, m.newline
	other := valid &^ (letter | number | space | newline)
	letter1, number1 := letter<<1|b.letter, number<<1|b.number
	other1, blank1 := other<<1|b.other, m.blank<<1|b.blank
	newline1 := newline<<1 | b.newline

	// Characters other than letters, numbers and white space begin one unless they go on
	// with such, or stand behind a blank.
	otherStart := other &^ other1 &^ blank1
	if m.tail != 0 {
		// The tails behind such a character are part of it: adding its first one to all of them
		// carries through them.
		first := (otherStart<<1 | b.otherStart) & m.tail
		otherStart |= m.tail &^ (first + m.tail)
	}
	otherStart1 := otherStart<<1 | b.otherStart
	// A letter joins letters, white space, and another character that begins one.
	starts := otherStart | letter&(number1|newline1|other1&^otherStart1)
	starts |= newline & (letter1 | number1)
	if b.digits == 1 {
		starts |= number
	} else {
		starts |= b.threes(number, n)
	}
	starts |= number1 & valid &^ number

	// Newlines behind other characters belong to these.
	first := newline & (other1 | b.attached)
	attached := ((first + newline) ^ newline) & newline
	attached1 := attached<<1 | b.attached

	starts |= space & (letter1 | number1 | other1 | attached1)
	starts |= b.spaces(space, newline, space&newline1&^attached1, n, s, end)

	if b.forced >= 0 {
		starts |= b.behindContraction(n, from, at)
	}
	if quotes := m.quote & otherStart; quotes != 0 {
		starts |= b.contractions(quotes, n, s, from, at)
	}

	last := uint(n - 1)
	b.letter, b.number, b.newline = letter>>last&1, number>>last&1, newline>>last&1
	b.other, b.blank, b.otherStart, b.attached = other>>last&1, m.blank>>last&1, otherStart>>last&1, attached>>last&1
	return starts
}

// spaces returns the last character of each run of white space without newlines that other
// text follows, and of behind – the first ones behind a newline – those whose run no newline
// follows.
func (b *blockScanner) spaces(space, newline, behind uint64, n int, s []byte, end int) uint64 {
	last := space &^ (space >> 1) &^ (newline >> 1)
	top := uint64(1) << (n - 1)
	overNewline := false
	if space&top != 0 {
		next, following := spaceFollows(s, end)
		if !next {
			last &^= top
		}
		overNewline = following
	}
	// Adding the first bit of a run carries into the bit behind the run.
	ends := (space + behind) &^ space & newline
	if ends != 0 || overNewline {
		behind = dropFollowed(space, newline, behind, overNewline, n)
	}
	return last | behind
}

// dropFollowed takes those out of behind whose run ends before a newline.
func dropFollowed(space, newline, behind uint64, overNewline bool, n int) uint64 {
	for rest := behind; rest != 0; rest &= rest - 1 {
		k := bits.TrailingZeros64(rest)
		end := k + bits.TrailingZeros64(^(space >> k))
		if end >= n && overNewline || end < n && newline>>end&1 != 0 {
			behind &^= 1 << k
		}
	}
	return behind
}

// spaceFollows looks behind a block that ends with a space: does other text follow at once,
// and does a newline follow the run?
func spaceFollows(s []byte, i int) (text, newline bool) {
	for from := i; i < len(s); {
		class, next := classAt(s, i)
		if c := s[i]; c == '\r' || c == '\n' {
			return false, true
		}
		if class != classSpace {
			return i == from, false
		}
		i = next
	}
	return false, false
}

// contractions looks behind each apostrophe, and returns which characters follow a contraction.
func (b *blockScanner) contractions(quotes uint64, n int, s []byte, from int, at *[65]uint32) (starts uint64) {
	for ; quotes != 0; quotes &= quotes - 1 {
		k := bits.TrailingZeros64(quotes)
		p := from + k
		if at != nil {
			p = int(at[k])
		}
		size := contractionLen(s[p+1:])
		if size == 0 {
			continue
		}
		b.forced = p + 1 + size
		starts |= b.behindContraction(n, from, at)
	}
	return starts
}

// behindContraction returns the bit of the character at b.forced, if it is one of this block.
func (b *blockScanner) behindContraction(n, from int, at *[65]uint32) uint64 {
	k := b.forced - from
	if at != nil {
		for k = 0; k < n && int(at[k]) < b.forced; {
			k++
		}
	}
	if k >= n {
		return 0
	}
	b.forced = -1
	return 1 << k
}

// threes returns every third number of a run, beginning with its first.
func (b *blockScanner) threes(number uint64, n int) (starts uint64) {
	count := b.run
	for rest := number; rest != 0; {
		k := bits.TrailingZeros64(rest)
		size := bits.TrailingZeros64(^(number >> k))
		if k > 0 || b.number == 0 {
			count = 0
		}
		for j := k; j < k+size; j++ {
			if count == 0 {
				starts |= 1 << j
			}
			if count++; count == 3 {
				count = 0
			}
		}
		if k+size >= 64 {
			break
		}
		rest &^= 1<<(k+size) - 1
	}
	if number>>(n-1)&1 == 0 {
		count = 0
	}
	b.run = count
	return starts
}
