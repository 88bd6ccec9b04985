package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonReader walks a JSON text once, without building values: a tokenizer.json
// holds 300,000 strings, and encoding/json takes ten times as long for them.
// Small members are handed to encoding/json as they stand.
type jsonReader struct {
	data    []byte
	pos     int
	scratch []byte
}

// errJSON is the cause of every syntax error; fail adds where.
var errJSON = errors.New("damaged JSON")

func (r *jsonReader) fail(want string) error {
	if r.pos >= len(r.data) {
		return fmt.Errorf("%w: the file ends at byte %d, where %s must follow", errJSON, len(r.data), want)
	}
	line := 1 + strings.Count(string(r.data[:r.pos]), "\n")
	return fmt.Errorf("%w: byte %d (line %d): found %q, where %s must stand", errJSON, r.pos, line, r.data[r.pos], want)
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *jsonReader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

func (r *jsonReader) expect(c byte) error {
	if r.peek() != c {
		return r.fail(fmt.Sprintf("%q", c))
	}
	r.pos++
	return nil
}

// end fails when something follows the value.
func (r *jsonReader) end() error {
	if r.peek(); r.pos < len(r.data) {
		return r.fail("the end of the file")
	}
	return nil
}

// object calls member for each key, positioned before its value, which member reads.
// The key is good until the next string is read.
func (r *jsonReader) object(member func(key []byte) error) error {
	return r.sequence('{', '}', func() error {
		key, err := r.string()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		return member(key)
	})
}

// array calls item before each element, which item reads.
func (r *jsonReader) array(item func() error) error { return r.sequence('[', ']', item) }

func (r *jsonReader) sequence(open, closing byte, item func() error) error {
	if err := r.expect(open); err != nil {
		return err
	}
	if r.peek() == closing {
		r.pos++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if r.peek() == closing {
			r.pos++
			return nil
		}
		if r.peek() != ',' {
			return r.fail(fmt.Sprintf("a comma or %q", closing))
		}
		r.pos++
	}
}

// string reads a string; the result is good until the next one is read.
func (r *jsonReader) string() ([]byte, error) {
	if r.peek() != '"' {
		return nil, r.fail("a string")
	}
	from := r.pos + 1
	for i := from; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.pos = i + 1
			return r.data[from:i], nil
		case c == '\\':
			r.scratch = append(r.scratch[:0], r.data[from:i]...)
			r.pos = i
			return r.escaped()
		case c < ' ':
			r.pos = i
			return nil, r.fail("no control character")
		}
	}
	r.pos = len(r.data)
	return nil, r.fail("the end of a string")
}

// escaped reads on from the first backslash of a string.
func (r *jsonReader) escaped() ([]byte, error) {
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		switch {
		case c == '"':
			return r.scratch, nil
		case c < ' ':
			r.pos--
			return nil, r.fail("no control character")
		case c != '\\':
			r.scratch = append(r.scratch, c)
		default:
			if err := r.escape(); err != nil {
				return nil, err
			}
		}
	}
	return nil, r.fail("the end of a string")
}

func (r *jsonReader) escape() error {
	if r.pos >= len(r.data) {
		return r.fail("an escape")
	}
	c := r.data[r.pos]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		r.scratch = append(r.scratch, "\"\\/\b\f\n\r\t"[i])
		r.pos++
		return nil
	}
	if c != 'u' {
		return r.fail("an escape")
	}
	r.pos++
	u, err := r.hex()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(u) {
		u, err = r.surrogate(u)
		if err != nil {
			return err
		}
	}
	r.scratch = utf8.AppendRune(r.scratch, u)
	return nil
}

// surrogate joins a pair; a lone half becomes U+FFFD.
func (r *jsonReader) surrogate(high rune) (rune, error) {
	if r.pos+1 >= len(r.data) || r.data[r.pos] != '\\' || r.data[r.pos+1] != 'u' {
		return utf8.RuneError, nil
	}
	back := r.pos
	r.pos += 2
	low, err := r.hex()
	if err != nil {
		return 0, err
	}
	u := utf16.DecodeRune(high, low)
	if u == utf8.RuneError {
		r.pos = back
	}
	return u, nil
}

func (r *jsonReader) hex() (rune, error) {
	u := rune(0)
	for range 4 {
		if r.pos >= len(r.data) {
			return 0, r.fail("four hexadecimal digits")
		}
		i := strings.IndexByte("0123456789abcdef", r.data[r.pos]|0x20)
		if c := r.data[r.pos]; i < 0 || c < '0' {
			return 0, r.fail("four hexadecimal digits")
		}
		u = u<<4 | rune(i)
		r.pos++
	}
	return u, nil
}

// int reads a number that is an id.
func (r *jsonReader) int() (int32, error) {
	r.peek()
	from, n := r.pos, int64(0)
	for r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9' {
		if n = n*10 + int64(r.data[r.pos]-'0'); n > maxID {
			return 0, fmt.Errorf("byte %d: id above %d", from, maxID)
		}
		r.pos++
	}
	if r.pos == from {
		return 0, r.fail("an id (a whole number)")
	}
	return int32(n), nil
}

// raw skips a value of any kind and returns its text, checked.
func (r *jsonReader) raw() (json.RawMessage, error) {
	r.peek()
	from := r.pos
	depth := 0
	for {
		switch c := r.peek(); c {
		case 0:
			return nil, r.fail("a value")
		case '"':
			if _, err := r.string(); err != nil {
				return nil, err
			}
		case '{', '[':
			depth++
			r.pos++
		case '}', ']':
			depth--
			r.pos++
		default:
			r.pos++
			for r.pos < len(r.data) && strings.IndexByte(" \t\r\n,:]}", r.data[r.pos]) < 0 && depth == 0 {
				r.pos++
			}
		}
		if depth <= 0 {
			break
		}
	}
	text := r.data[from:r.pos]
	if !json.Valid(text) {
		r.pos = from
		return nil, r.fail("a value")
	}
	return text, nil
}
