package stages

import (
	"fmt"
	"math/bits"
	"sync"
	"unicode"
	"unicode/utf8"

	"lpipe/dataset"
)

// findRepetition finds a phrase that stands Times times in a row or more.
func findRepetition(k *Checks, r *view) string {
	for i := range r.Messages {
		if r.Messages[i].Role != dataset.Assistant {
			continue
		}
		text := r.Messages[i].Content
		if at, times, n := loopIn(text, k.Repetition.Times, k.Repetition.Span); times > 0 {
			return fmt.Sprintf("%d times in a row: %s", times, excerpt(text[at:at+n], 0, 80))
		}
		if share, at := repeatedShare(text, k.Repetition.Share); at >= 0 {
			return fmt.Sprintf("%.0f %% of the words stand in phrases that came before: %s", 100*share, excerpt(text, at, 80))
		}
	}
	return ""
}

// foreign says whether the response holds something else than ASCII.
func (v *view) foreign() bool {
	for i := range v.marks {
		if v.marks[i].foreign && v.Messages[i].Role == dataset.Assistant {
			return true
		}
	}
	return false
}

// loopSpace is what loopIn needs, to be used again.
type loopSpace struct {
	starts []int32
	hashes []uint64
	last   lastSeen
}

var loopSpaces = sync.Pool{New: func() any { return &loopSpace{} }}

// lastSeen maps the hash of a phrase to where it stood last: open addressing, for at most half as many phrases as places.
// What an earlier text left counts as empty by its generation.
type lastSeen struct {
	slots      []lastSlot
	mask       uint64
	generation uint32
}

type lastSlot struct {
	hash       uint64
	at         int32
	generation uint32
}

// begin empties the map and makes room for n phrases.
func (l *lastSeen) begin(n int) {
	size := 64
	for size < 2*n {
		size *= 2
	}
	if l.generation++; size > len(l.slots) || l.generation == 0 {
		l.slots, l.generation = make([]lastSlot, size), 1
	}
	l.mask = uint64(size - 1)
}

// put notes that a phrase stands at a place, and returns where it stood before.
func (l *lastSeen) put(hash uint64, at int32) (before int32, seen bool) {
	for i := hash ^ hash>>32; ; i++ {
		slot := &l.slots[i&l.mask]
		if slot.generation != l.generation {
			*slot = lastSlot{hash, at, l.generation}
			return 0, false
		}
		if slot.hash == hash {
			before, slot.at = slot.at, at
			return before, true
		}
	}
}

// loopIn finds the first place where the words have a period: the n-gram at i equals the one period words
// before, for so long that the phrase stands at least times times and span bytes. It takes linear time: each
// n-gram is compared with its last occurrence only.
func loopIn(text string, times, span int) (at, found, length int) {
	if len(text) < span {
		return 0, 0, 0
	}
	s := loopSpaces.Get().(*loopSpace)
	defer loopSpaces.Put(s)
	s.words(text)
	s.last.begin(len(s.hashes))
	const gram = 3
	period, run := int32(0), int32(0)
	for i := 0; i+gram <= len(s.hashes); i++ {
		h := s.gram(i)
		before, seen := s.last.put(h, int32(i))
		switch distance := int32(i) - before; {
		case !seen:
			period, run = 0, 0
		case distance == period:
			run++
		default:
			period, run = distance, 1
		}
		if period == 0 || int(run) < (times-1)*int(period) {
			continue
		}
		first, end := i-int(run)+1-int(period), i
		for end+1+gram <= len(s.hashes) && s.gram(end+1) == s.gram(end+1-int(period)) {
			end++
		}
		start, stop := int(s.starts[first]), len(text)
		if end+gram < len(s.starts) {
			stop = int(s.starts[end+gram])
		}
		if stop-start >= span {
			return start, (end - first + gram) / int(period), int(s.starts[first+int(period)]) - start
		}
	}
	return 0, 0, 0
}

// repeatedShare is the share of a text's words that stand in ten-word phrases which it had before (Rae and others 2021, table
// A1), and the place of the first such phrase; at is -1 if the share is within limit, or limit is 0.
func repeatedShare(text string, limit float64) (share float64, at int) {
	const phrase = 10
	if limit == 0 {
		return 0, -1
	}
	s := loopSpaces.Get().(*loopSpace)
	defer loopSpaces.Put(s)
	s.words(text)
	s.last.begin(len(s.hashes))
	at = -1
	repeated, covered := 0, 0 // words of phrases that came before, up to word number covered
	for i := 0; i+phrase <= len(s.hashes); i++ {
		h := uint64(0)
		for _, w := range s.hashes[i : i+phrase] {
			h = mix(h ^ w)
		}
		if _, seen := s.last.put(h, int32(i)); !seen {
			continue
		}
		if at < 0 {
			at = int(s.starts[i])
		}
		repeated += i + phrase - max(i, covered)
		covered = i + phrase
	}
	if share = float64(repeated) / float64(max(len(s.hashes), 1)); share <= limit {
		return share, -1
	}
	return share, at
}

// gram is a hash of the three words at i.
func (s *loopSpace) gram(i int) uint64 {
	return s.hashes[i]*3 + s.hashes[i+1]*5 + s.hashes[i+2]*7
}

// words cuts a text into words and hashes them; of scripts without blanks, and of a word beyond 20 letters,
// each letter counts as a word.
func (s *loopSpace) words(text string) {
	s.starts, s.hashes = s.starts[:0], s.hashes[:0]
	for i := 0; i < len(text); {
		if i+16 > len(text) {
			i = s.slowWord(text, i)
			continue
		}
		// Sixteen bytes: a word of ASCII that ends among them is two numbers. The lowest mark of a byte below 0x21 is right.
		x, y := word(text[i:]), word(text[i+8:])
		n, ends := 0, (x-lowBits*0x21)&highBits
		if ends == 0 {
			n, ends = 8, (y-lowBits*0x21)&highBits
		}
		if (x|y)&highBits != 0 || ends == 0 {
			i = s.slowWord(text, i)
			continue
		}
		n += bits.TrailingZeros64(ends) / 8
		if n > 0 {
			s.starts = append(s.starts, int32(i))
			s.hashes = append(s.hashes, wordHash(x, y, n))
		}
		i += n + 1
	}
}

// wordHash is the hash of a word of n bytes of ASCII, below 16, that stands in x and y; what stands behind it does not count.
func wordHash(x, y uint64, n int) uint64 {
	if n < 8 {
		return mix(x & (1<<(8*n) - 1))
	}
	return mix(x ^ mix(y&(1<<(8*(n-8))-1)+uint64(n)))
}

// slowWord takes the word that begins at i, of any script, or the blank that stands there, and returns the place behind it.
func (s *loopSpace) slowWord(text string, i int) int {
	var h, x, y uint64
	letters, length, ascii := 0, 0, true // of the run; of the word in hand
	for i < len(text) {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		if r <= ' ' || r >= 0x80 && unicode.IsSpace(r) {
			return i + size
		}
		if letters == 0 || letters >= 20 || r >= 0x2e80 {
			s.starts = append(s.starts, int32(i))
			s.hashes = append(s.hashes, 0)
			h, x, y, length, ascii = 14695981039346656037, 0, 0, 0, true
		}
		switch {
		case length < 8:
			x |= uint64(text[i]) << (8 * length)
		case length < 16:
			y |= uint64(text[i]) << (8 * (length - 8))
		}
		letters++
		length += size
		ascii = ascii && r < utf8.RuneSelf && length < 16
		h = (h ^ uint64(r)) * 1099511628211
		if s.hashes[len(s.hashes)-1] = h; ascii {
			s.hashes[len(s.hashes)-1] = wordHash(x, y, length)
		}
		i += size
	}
	return i
}

// writing is the writing systems that findLanguage tells apart. Greek is left out: mathematics writes it.
type writing uint8

const (
	otherWriting writing = iota
	latin
	han
	kana
	hangul
	cyrillic
	arabic
	hebrew
	thai
	indic
	writings
)

var writingNames = [writings]string{"other", "Latin", "Han", "Kana", "Hangul", "Cyrillic", "Arabic", "Hebrew", "Thai", "Indic"}

func writingOf(r rune) writing {
	switch {
	case r < 0x250:
		return latin
	case r >= 0x400 && r < 0x530:
		return cyrillic
	case r >= 0x590 && r < 0x600:
		return hebrew
	case r >= 0x600 && r < 0x700 || r >= 0x750 && r < 0x780:
		return arabic
	case r >= 0x900 && r < 0xe00:
		return indic
	case r >= 0xe00 && r < 0xe80:
		return thai
	case r >= 0x3040 && r < 0x3100:
		return kana
	case r >= 0x3400 && r < 0xa000 || r >= 0x20000 && r < 0x33480:
		return han
	case r >= 0xac00 && r < 0xd7b0 || r >= 0x1100 && r < 0x1200:
		return hangul
	}
	return otherWriting
}

// letters counts the letters of each writing system and tells where each stands first.
func letters(s string, count, first *[writings]int) {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c|0x20 >= 'a' && c|0x20 <= 'z' {
				count[latin]++
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if unicode.IsLetter(r) {
			w := writingOf(r)
			if count[w] == 0 {
				first[w] = i
			}
			count[w]++
		}
		i += size
	}
}

// findLanguage finds responses that change their writing system, as distilled reasoning does now and then.
// Latin letters pass always: names and formulas have them.
func findLanguage(k *Checks, r *view) string {
	if !r.foreign() {
		return ""
	}
	var prompt, response, first [writings]int
	text := r.response
	letters(text, &response, &first)
	total, foreign := 0, 0
	for _, n := range response {
		total += n
	}
	if total == response[latin]+response[otherWriting] {
		return ""
	}
	var unused [writings]int
	for i := range r.Messages {
		if r.Messages[i].Role != dataset.Assistant {
			letters(r.Messages[i].Content, &prompt, &unused)
		}
	}
	if prompt[kana] > 0 || prompt[hangul] > 0 { // Japanese and Korean write Han too
		prompt[han]++
	}
	most := otherWriting
	for w := han; w < writings; w++ {
		if prompt[w] == 0 {
			if foreign += response[w]; response[w] > response[most] || most == otherWriting && response[w] > 0 {
				most = w
			}
		}
	}
	const few = 10 // a quoted word or two
	if share := float64(foreign) / float64(total); foreign > few && share > k.Language.Share {
		return fmt.Sprintf("%.0f %% of the response's letters are %s: %s", 100*share, writingNames[most], excerpt(text, first[most], 60))
	}
	return ""
}
