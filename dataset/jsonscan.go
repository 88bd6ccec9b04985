package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// scanner reads JSON texts. Strings without escapes alias src, the others lie in the arena: neither is ever
// written again, so that a batch of rows costs two allocations instead of one a string.
type scanner struct {
	src      []byte
	i        int
	arena    []byte
	replaced int // invalid bytes that became U+FFFD
}

var (
	errJSONEnd  = errors.New("the JSON text ends in the middle (is the line cut off?)")
	errJSONDeep = errors.New("JSON nested deeper than 200")
)

const maxDepth = 200

func (s *scanner) reset(src []byte) { s.src, s.i = src, 0 }

func (s *scanner) space() {
	for s.i < len(s.src) {
		switch s.src[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// end is an error unless nothing but blanks is left.
func (s *scanner) end() error {
	if s.space(); s.i < len(s.src) {
		return fmt.Errorf("invalid JSON at byte %d: %q behind the row", s.i+1, s.src[s.i])
	}
	return nil
}

// peek is the first byte of the next value or mark, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i >= len(s.src) {
		return 0
	}
	return s.src[s.i]
}

func (s *scanner) expect(c byte) error {
	switch got := s.peek(); {
	case s.i >= len(s.src):
		return errJSONEnd
	case got == c:
		s.i++
		return nil
	default:
		return fmt.Errorf("invalid JSON at byte %d: %q where %q should be", s.i+1, got, c)
	}
}

// object calls field for each member with s standing before the member's value, which field must consume.
func (s *scanner) object(field func(name string) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		if c := s.peek(); c != '"' {
			return s.expect('"')
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := field(name); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect('}')
		}
		s.i++
	}
}

// list calls item for each element with s standing before it.
func (s *scanner) list(item func() error) error {
	if err := s.expect('['); err != nil {
		return err
	}
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect(']')
		}
		s.i++
	}
}

// skip consumes one value and returns its bytes.
func (s *scanner) skip(depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, errJSONDeep
	}
	s.space()
	start := s.i
	var err error
	c := s.peek()
	if s.i >= len(s.src) {
		return nil, errJSONEnd
	}
	switch c {
	case '{':
		err = s.object(func(string) error { _, err := s.skip(depth + 1); return err })
	case '[':
		err = s.list(func() error { _, err := s.skip(depth + 1); return err })
	case '"':
		err = s.skipText()
	case 't':
		err = s.word("true")
	case 'f':
		err = s.word("false")
	case 'n':
		err = s.word("null")
	default:
		err = s.number()
	}
	if err != nil {
		return nil, err
	}
	return s.src[start:s.i], nil
}

func (s *scanner) word(w string) error {
	rest := s.src[s.i:]
	if len(rest) >= len(w) && string(rest[:len(w)]) == w {
		s.i += len(w)
		return nil
	}
	if bytes.HasPrefix([]byte(w), rest) {
		return errJSONEnd
	}
	return fmt.Errorf("invalid JSON at byte %d: %q is no value", s.i+1, rest[0])
}

// number takes a number as RFC 8259 writes it, and NaN and the infinities as Python writes them.
func (s *scanner) number() error {
	start := s.i
	for _, w := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(s.src[s.i:], []byte(w)) {
			s.i += len(w)
			return nil
		}
	}
	for s.i < len(s.src) {
		if c := s.src[s.i]; c < '0' && c != '-' && c != '+' && c != '.' || c > '9' && c != 'e' && c != 'E' {
			break
		}
		s.i++
	}
	text := s.src[start:s.i]
	if len(text) == 0 {
		return fmt.Errorf("invalid JSON at byte %d: %q is no value", start+1, s.src[start])
	}
	if _, err := strconv.ParseFloat(string(text), 64); err != nil && !errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("invalid JSON at byte %d: %q is no number", start+1, text)
	}
	return nil
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// plain is the number of bytes before the first quote, backslash, control byte or non-ASCII byte.
func plain(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote := x ^ lowBits*'"'
		slash := x ^ lowBits*'\\'
		found := (x | (x - lowBits*0x20) | (quote - lowBits) | (slash - lowBits)) & highBits
		if found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c < 0x20 || c >= 0x80 || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

// text consumes a string, s standing at its quote.
func (s *scanner) text() (string, error) {
	b := s.src[s.i+1:]
	for n := 0; ; {
		n += plain(b[n:])
		if n == len(b) {
			return "", errJSONEnd
		}
		switch c := b[n]; {
		case c == '"':
			s.i += n + 2
			return alias(b[:n]), nil
		case c == '\\':
			return s.escaped(n)
		case c < 0x20:
			return "", fmt.Errorf("invalid JSON at byte %d: control byte 0x%02x inside a text", s.i+n+2, c)
		default:
			r, size := utf8.DecodeRune(b[n:])
			if r == utf8.RuneError && size == 1 {
				return s.escaped(n)
			}
			n += size
		}
	}
}

// skipText is text for one that nobody wants: checked, but not copied.
func (s *scanner) skipText() error {
	b := s.src[s.i+1:]
	for n := 0; ; {
		n += plain(b[n:])
		if n == len(b) {
			return errJSONEnd
		}
		switch c := b[n]; {
		case c == '"':
			s.i += n + 2
			return nil
		case c == '\\':
			var err error
			var unwanted [8]byte
			before := s.replaced
			if _, n, err = s.escape(unwanted[:0], b, n); err != nil {
				return err
			}
			s.replaced = before
		case c < 0x20:
			return fmt.Errorf("invalid JSON at byte %d: control byte 0x%02x inside a text", s.i+n+2, c)
		default:
			n++
		}
	}
}

// escaped is text for a string whose first n bytes are as they should be.
func (s *scanner) escaped(n int) (string, error) {
	b := s.src[s.i+1:]
	// What is left of the line bounds the text, unless it holds invalid bytes: then append moves it.
	if left := len(b); cap(s.arena)-len(s.arena) < left {
		s.arena = make([]byte, 0, max(left, 256<<10))
	}
	start := len(s.arena)
	out := append(s.arena, b[:n]...)
	for {
		run := plain(b[n:])
		out = append(out, b[n:n+run]...)
		n += run
		if n == len(b) {
			return "", errJSONEnd
		}
		switch c := b[n]; {
		case c == '"':
			s.i += n + 2
			return s.keep(out, start), nil
		case c == '\\':
			var err error
			if out, n, err = s.escape(out, b, n); err != nil {
				return "", err
			}
		case c < 0x20:
			return "", fmt.Errorf("invalid JSON at byte %d: control byte 0x%02x inside a text", s.i+n+2, c)
		default:
			r, size := utf8.DecodeRune(b[n:])
			if r == utf8.RuneError && size == 1 {
				s.replaced++
			}
			out = utf8.AppendRune(out, r)
			n += size
		}
	}
}

// keep makes out[start:] a string and goes on behind it. If append moved out to fresh memory, that memory is
// the arena from now on; the strings before it keep the old one.
func (s *scanner) keep(out []byte, start int) string {
	s.arena = out
	return alias(out[start:])
}

// escape appends what the escape at b[n] stands for and returns the place behind it. A lone surrogate
// becomes U+FFFD, as in encoding/json.
func (s *scanner) escape(out, b []byte, n int) ([]byte, int, error) {
	if n+1 >= len(b) {
		return nil, 0, errJSONEnd
	}
	switch c := b[n+1]; c {
	case '"', '\\', '/':
		return append(out, c), n + 2, nil
	case 'n':
		return append(out, '\n'), n + 2, nil
	case 't':
		return append(out, '\t'), n + 2, nil
	case 'r':
		return append(out, '\r'), n + 2, nil
	case 'b':
		return append(out, '\b'), n + 2, nil
	case 'f':
		return append(out, '\f'), n + 2, nil
	case 'u':
		r, err := hex4(b, n)
		if err != nil {
			return nil, 0, err
		}
		n += 6
		if utf16.IsSurrogate(r) {
			low, err := rune(0), error(nil)
			if n+1 < len(b) && b[n] == '\\' && b[n+1] == 'u' {
				if low, err = hex4(b, n); err != nil {
					return nil, 0, err
				}
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				n += 6
			} else {
				s.replaced++
			}
		}
		return utf8.AppendRune(out, r), n, nil
	default:
		return nil, 0, fmt.Errorf("invalid JSON at byte %d: unknown escape \\%c", s.i+n+2, c)
	}
}

func hex4(b []byte, n int) (rune, error) {
	if n+6 > len(b) {
		return 0, errJSONEnd
	}
	v, err := strconv.ParseUint(string(b[n+2:n+6]), 16, 32)
	if err != nil {
		return 0, fmt.Errorf("invalid JSON: escape %q", b[n:n+6])
	}
	return rune(v), nil
}

// alias is a string over bytes that nobody writes again.
func alias(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(&b[0], len(b))
}

// bytesOf is the bytes of a string, to be read only.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
