package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// class reads a bracketed class.
func (p *patternParser) class() (*charset, error) {
	from := p.pos
	p.pos++
	set := &charset{negated: p.take("^")}
	for first := true; ; first = false {
		switch {
		case !p.more():
			p.pos = from
			return nil, p.fail("a class that is not closed")
		case p.ahead("]") && !first:
			p.pos++
			return set, nil
		case p.ahead("["), p.ahead("&&"):
			return nil, p.fail("a class within a class")
		}
		before := len(set.items)
		if err := p.member(set); err != nil {
			return nil, err
		}
		if p.ahead("-") && !p.ahead("-]") {
			if err := p.rangeEnd(set, before); err != nil {
				return nil, err
			}
		}
	}
}

// member reads one character or escape of a class.
func (p *patternParser) member(set *charset) error {
	if p.ahead("\\") {
		return p.escape(set)
	}
	r, size := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += size
	set.addRange(r, r)
	return nil
}

// rangeEnd reads "-x" behind the member that stands at set.items[at].
func (p *patternParser) rangeEnd(set *charset, at int) error {
	p.pos++
	end := &charset{}
	if err := p.member(end); err != nil {
		return err
	}
	from, to := &set.items[at], end.items[0]
	if from.lo != from.hi || from.outside || to.lo != to.hi || to.outside || to.lo < from.lo {
		return p.fail("a range in a class that is none")
	}
	from.hi = to.hi
	return nil
}

// none is the range of an item that has none.
const none = 0x110000

// escapedClass returns what \s and \d stand for.
func escapedClass(c byte) (item charItem, ok bool) {
	switch c | 0x20 {
	case 's':
		item = charItem{space: true, lo: none}
	case 'd':
		item = charItem{categories: categoryMask("Nd"), lo: none}
	default:
		return item, false
	}
	item.outside = c&0x20 == 0
	return item, true
}

// escape reads what begins with a backslash.
func (p *patternParser) escape(set *charset) error {
	if p.pos++; !p.more() {
		return p.fail("a backslash at the end")
	}
	c := p.text[p.pos]
	class, known := escapedClass(c)
	switch {
	case c == 'p' || c == 'P':
		return p.property(set)
	case c == 'x' || c == 'u':
		return p.codePoint(set)
	case known:
		set.add(class)
	case strings.IndexByte("rntfv", c) >= 0:
		r := int32("\r\n\t\f\v"[strings.IndexByte("rntfv", c)])
		set.addRange(r, r)
	case c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= utf8.RuneSelf:
		return p.fail(`\` + string(rune(c)))
	default:
		set.addRange(int32(c), int32(c))
	}
	p.pos++
	return nil
}

// property reads \p{L}, \p{^L}, \P{L} and \pL.
func (p *patternParser) property(set *charset) error {
	from := p.pos
	outside := p.text[p.pos] == 'P'
	p.pos++
	name, size := "", 0
	if p.ahead("{") {
		if end := strings.IndexByte(p.text[p.pos:], '}'); end > 0 {
			name, size = p.text[p.pos+1:p.pos+end], end+1
		}
	} else if p.more() {
		name, size = p.text[p.pos:p.pos+1], 1
	}
	if rest, negated := strings.CutPrefix(name, "^"); negated {
		name, outside = rest, !outside
	}
	mask := categoryMask(name)
	if mask == 0 || len(name) > 2 {
		p.pos = from
		return p.fail(`the property \p{` + name + `}, which is no general category`)
	}
	p.pos += size
	set.add(charItem{categories: mask, lo: none, outside: outside})
	return nil
}

// codePoint reads \xHH, \x{H…} and \uHHHH.
func (p *patternParser) codePoint(set *charset) error {
	from, size := p.pos, 2
	if p.text[p.pos] == 'u' {
		size = 4
	}
	p.pos++
	digits, closing := p.text[p.pos:min(p.pos+size, len(p.text))], 0
	if p.ahead("{") {
		if end := strings.IndexByte(p.text[p.pos:], '}'); end > 0 {
			digits, closing = p.text[p.pos+1:p.pos+end], 2
		}
	}
	r, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || r > utf8.MaxRune || size == 2 && closing == 0 && r >= utf8.RuneSelf {
		p.pos = from
		return p.fail("a code point that is none")
	}
	p.pos += len(digits) + closing
	set.addRange(int32(r), int32(r))
	return nil
}
