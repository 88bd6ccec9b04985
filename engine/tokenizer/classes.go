package tokenizer

import "unicode/utf8"

// classMasks are the classes of 64 bytes. What is in none of letter, number, space and newline
// is other; blank is U+0020, which is in space too, quote the apostrophe. Characters that are
// not ASCII go on in tail; those whose class is to be looked up one by one begin in open. over
// has the bytes of the next block that belong to a letter of this one.
type classMasks struct {
	letter, number, space, newline, blank, quote, open, tail, over uint64
}

// classTables are what classify and settled know, as bitmaps. For classify: for ASCII a bit for
// each class of classMasks, in their order; for characters of two bytes whether they are letters,
// and whether they are numbers or white space; for each 64 characters of three bytes whether all
// are letters; and what those of two bytes have for the scripts whose letters and signs are
// mixed, U+0800 to U+0FFF (of India, Thai, Tibetan) and U+3000 to U+37FF (kana). For settled: for characters of two bytes, and for each 64 of three, whether NFC
// must look closer.
type classTables struct {
	ascii        [128]uint8
	two          [256]uint8
	open         [256]uint8
	three        [128]uint8
	doubtfulTwo  [256]uint8
	doubtfulMore [128]uint8
	windows      [2]classWindow
}

// classWindow are 2,048 characters of three bytes, whose first byte is the same: whether they are
// letters, and whether they are numbers or white space.
type classWindow struct{ letter, open [256]uint8 }

// windowsAt is where the windows begin.
var windowsAt = [2]int32{0x0800, 0x3000}

// windowOf returns the window that has the characters of three bytes that begin with these two, nil if none has.
func (t *classTables) windowOf(first, second byte) *classWindow {
	switch {
	case first == 0xE0:
		return &t.windows[0]
	case first == 0xE3 && second < 0xA0:
		return &t.windows[1]
	}
	return nil
}

func newClassTables() *classTables {
	t := &classTables{}
	for c := range int32(128) {
		t.ascii[c] = [4]uint8{classLetter: 1, classNumber: 2, classSpace: 4}[property(c)&classMask]
	}
	t.ascii['\r'], t.ascii['\n'] = 8, 8
	t.ascii[' '] |= 16
	t.ascii['\''] |= 32
	for r := range int32(1 << 11) {
		p, bit := property(r), uint8(1)<<(r%8)
		addClass(&t.two, &t.open, r, r)
		for k := range t.windows {
			addClass(&t.windows[k].letter, &t.windows[k].open, r, windowsAt[k]+r)
		}
		if p&(propMark|propMaybe) != 0 {
			t.doubtfulTwo[r/8] |= bit
		}
	}
	for i := range int32(1 << 10) {
		bit := uint8(1) << (i % 8)
		t.three[i/8] |= bit
		for r := i * 64; r < i*64+64; r++ {
			p := property(r)
			if p&classMask != classLetter {
				t.three[i/8] &^= bit
			}
			if p&(propMark|propMaybe) != 0 {
				t.doubtfulMore[i/8] |= bit
			}
		}
	}
	return t
}

// addClass adds a character to bitmaps, as bit at.
func addClass(letter, open *[256]uint8, at, r int32) {
	switch bit := uint8(1) << (at % 8); property(r) & classMask {
	case classLetter:
		letter[at/8] |= bit
	case classNumber, classSpace:
		open[at/8] |= bit
	}
}

// classifyPlain fills masks with the classes of 64 bytes each, behind which one more stands.
func (t *classTables) classifyPlain(masks []classMasks, s []byte) {
	for k := range masks {
		m := &masks[k]
		*m = classMasks{}
		for j := k * 64; j < k*64+64; j++ {
			bit := uint64(1) << (j % 64)
			c, next := s[j], s[j+1]
			at, flag := (c&0x1F)<<3|next>>3&7, uint8(1)<<(next&7) // of bitmaps
			if w := t.windowOf(c, next); w != nil && j%64 < 63 {
				at, flag := next&0x1F<<3|s[j+2]>>3&7, uint8(1)<<(s[j+2]&7)
				if w.open[at]&flag != 0 {
					m.open |= bit
				}
				if w.letter[at]&flag != 0 {
					m.addLetter(j%64, 3)
				}
				continue
			}
			switch {
			case c >= 0xF0:
				m.open |= bit
			case c >= 0xE0 && t.three[at&127]&flag != 0:
				m.addLetter(j%64, 3)
			case c >= 0xE0:
				m.open |= bit
			case c >= 0xC0 && t.open[at]&flag != 0:
				m.open |= bit
			case c >= 0xC0 && t.two[at]&flag != 0:
				m.addLetter(j%64, 2)
			case c >= 0xC0:
			case c >= utf8.RuneSelf:
				m.tail |= bit
			default:
				of, k := uint64(t.ascii[c]), j%64
				m.letter |= of & 1 << k
				m.number |= of >> 1 & 1 << k
				m.space |= of >> 2 & 1 << k
				m.newline |= of >> 3 & 1 << k
				m.blank |= of >> 4 & 1 << k
				m.quote |= of >> 5 & 1 << k
			}
		}
	}
}

func (m *classMasks) addLetter(at, size int) {
	bytes := uint64(1)<<size - 1
	m.letter |= bytes << at
	m.over |= bytes >> (64 - at)
}
