package dataset

import (
	"fmt"
	"unicode/utf8"
)

// row reads a row without going through a Record: this is what every stage does with every row.
func (s *scanner) row() (Row, error) {
	var row Row
	if c := s.peek(); c != '{' && c != 0 {
		return row, fmt.Errorf("the row is no JSON object: it begins with %q", c)
	}
	err := s.object(func(name string) error {
		var err error
		switch name {
		case "id":
			row.ID, err = s.scalar()
		case "answer":
			row.Answer, err = s.scalar()
		case "source":
			row.Source, err = s.scalar()
		case "license":
			row.License, err = s.scalar()
		case "messages":
			err = s.messages(&row)
		case "tools", "meta", "flags":
			var v Value
			if v, err = s.value(1); err == nil {
				err = row.set(name, v)
			}
		default:
			_, err = s.skip(1)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	return row, err
}

func (r *Row) set(name string, v Value) error {
	part, err := RowOf(Record{{name, v}})
	switch name {
	case "tools":
		r.Tools = part.Tools
	case "meta":
		r.Meta = part.Meta
	case "flags":
		r.Flags = part.Flags
	}
	return err
}

// scalar reads a text; a number, bool or anything else becomes its JSON, null becomes "".
func (s *scanner) scalar() (string, error) {
	if s.peek() == '"' {
		return s.text()
	}
	v, err := s.value(1)
	return v.String(), err
}

func (s *scanner) messages(row *Row) error {
	if s.peek() != '[' {
		v, err := s.value(1)
		if err == nil {
			row.Messages, err = MessagesOf(v)
		}
		if err != nil {
			return fmt.Errorf("messages: %w", err)
		}
		return nil
	}
	row.Messages = make([]Message, 0, 2)
	return s.list(func() error {
		if c := s.peek(); c != '{' {
			return fmt.Errorf("messages: message %d is no object with role and content", len(row.Messages)+1)
		}
		var m Message
		err := s.object(func(name string) error {
			var err error
			switch name {
			case "role":
				m.Role, err = s.scalar()
			case "content":
				if s.peek() == '"' {
					m.Content, err = s.text()
					break
				}
				var v Value
				v, err = s.value(3)
				m.Content = contentOf(v)
			case "tool_calls":
				var v Value
				v, err = s.value(3)
				m.ToolCalls = rawOf(v)
			default:
				_, err = s.skip(3)
			}
			return err
		})
		row.Messages = append(row.Messages, m)
		return err
	})
}

// AppendRow appends the row as a line of JSONL, newline and all.
func AppendRow(b []byte, r *Row) []byte {
	b = appendString(append(b, `{"id":`...), r.ID)
	b = append(b, `,"messages":[`...)
	for i := range r.Messages {
		m := &r.Messages[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"role":`...), m.Role)
		b = appendString(append(b, `,"content":`...), m.Content)
		if len(m.ToolCalls) > 0 {
			b = append(append(b, `,"tool_calls":`...), m.ToolCalls...)
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if r.Answer != "" {
		b = appendString(append(b, `,"answer":`...), r.Answer)
	}
	if r.Source != "" {
		b = appendString(append(b, `,"source":`...), r.Source)
	}
	if r.License != "" {
		b = appendString(append(b, `,"license":`...), r.License)
	}
	if len(r.Tools) > 0 {
		b = append(append(b, `,"tools":`...), r.Tools...)
	}
	b = appendMeta(b, r.Meta)
	if len(r.Flags) > 0 {
		b = append(b, `,"flags":[`...)
		for i, f := range r.Flags {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, f)
		}
		b = append(b, ']')
	}
	return append(b, "}\n"...)
}

func appendMeta(b []byte, meta []Pair) []byte {
	if len(meta) == 0 {
		return b
	}
	b = append(b, `,"meta":{`...)
	for i, p := range meta {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, p.Name), ':')
		b = appendString(b, p.Value)
	}
	return append(b, '}')
}

// appendString appends a JSON text: UTF-8 as it is, escapes only where JSON demands them (and for U+2028 and
// U+2029, which some readers take for line ends). Invalid bytes become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for len(s) > 0 {
		n := plainString(s)
		b = append(b, s[:n]...)
		if s = s[n:]; s == "" {
			break
		}
		c := s[0]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s)
			if r == '\u2028' || r == '\u2029' {
				b = append(b, `\u202`...)
				b = append(b, '8'+byte(r-'\u2028'))
			} else {
				b = utf8.AppendRune(b, r)
			}
			s = s[size:]
			continue
		}
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			const digits = "0123456789abcdef"
			b = append(b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
		s = s[1:]
	}
	return append(b, '"')
}

func plainString(s string) int {
	return plain(bytesOf(s))
}
