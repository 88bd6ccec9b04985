package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Value is a value of a file that is not yet rows: what stands in a column.
type Value struct {
	Shape Shape
	// Text is the text itself, or a number or bool as JSON writes it, or the JSON of a list or object that
	// came from JSON.
	Text   string
	List   []Value
	Fields []Field // of an object, in the file's order
}

// Shape says what a Value is.
type Shape uint8

// The shapes. The zero one is null: a column that the row lacks.
const (
	Null Shape = iota
	Text
	Number
	Bool
	List
	Object
)

func (s Shape) String() string {
	return [...]string{"null", "a text", "a number", "true or false", "a list", "an object"}[s]
}

// Field is a named value.
type Field struct {
	Name  string
	Value Value
}

// Record is one row of a file, column by column, in the file's order.
type Record []Field

// Get is the value of a column, null if the row lacks it.
func (r Record) Get(name string) Value { return Value{Fields: r, Shape: Object}.Get(name) }

// Has says whether the row has the column at all, be it null.
func (r Record) Has(name string) bool {
	for i := range r {
		if r[i].Name == name {
			return true
		}
	}
	return false
}

// Get is the member name of an object, null if there is none. Of two the last counts, as in JSON readers.
func (v Value) Get(name string) Value {
	for i := len(v.Fields) - 1; i >= 0; i-- {
		if v.Fields[i].Name == name {
			return v.Fields[i].Value
		}
	}
	return Value{}
}

// String is a text as it is, a number or bool as JSON writes it, "" for null, and JSON for the rest.
func (v Value) String() string {
	if v.Shape == Null {
		return ""
	}
	if v.Shape < List || v.Text != "" {
		return v.Text
	}
	return string(v.appendJSON(nil))
}

// JSON is the value as JSON.
func (v Value) JSON() json.RawMessage { return v.appendJSON(nil) }

func (v Value) appendJSON(b []byte) []byte {
	switch v.Shape {
	case Null:
		return append(b, "null"...)
	case Text:
		return appendString(b, v.Text)
	case List:
		if v.Text != "" {
			return append(b, v.Text...)
		}
		b = append(b, '[')
		for i, item := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.appendJSON(b)
		}
		return append(b, ']')
	case Object:
		if v.Text != "" {
			return append(b, v.Text...)
		}
		b = append(b, '{')
		for i, f := range v.Fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, f.Name), ':')
			b = f.Value.appendJSON(b)
		}
		return append(b, '}')
	}
	return append(b, v.Text...)
}

// value reads a JSON value.
func (s *scanner) value(depth int) (Value, error) {
	if depth > maxDepth {
		return Value{}, errJSONDeep
	}
	c := s.peek()
	start := s.i
	switch c {
	case '"':
		text, err := s.text()
		return Value{Shape: Text, Text: text}, err
	case '{':
		v := Value{Shape: Object}
		err := s.object(func(name string) error {
			item, err := s.value(depth + 1)
			v.Fields = append(v.Fields, Field{name, item})
			return err
		})
		v.Text = alias(s.src[start:s.i])
		return v, err
	case '[':
		v := Value{Shape: List}
		err := s.list(func() error {
			item, err := s.value(depth + 1)
			v.List = append(v.List, item)
			return err
		})
		v.Text = alias(s.src[start:s.i])
		return v, err
	}
	raw, err := s.skip(depth)
	if err != nil {
		return Value{}, err
	}
	switch c {
	case 'n':
		return Value{}, nil
	case 't', 'f':
		return Value{Shape: Bool, Text: alias(raw)}, nil
	}
	return Value{Shape: Number, Text: alias(raw)}, nil
}

// record reads a JSON object whose columns outside want (nil: all) are skipped.
func (s *scanner) record(want map[string]bool) (Record, error) {
	var r Record
	if c := s.peek(); c != '{' && c != 0 {
		return nil, fmt.Errorf("the row is no JSON object: it begins with %q", c)
	}
	err := s.object(func(name string) error {
		if want != nil && !want[name] {
			_, err := s.skip(1)
			return err
		}
		v, err := s.value(1)
		r = append(r, Field{name, v})
		return err
	})
	if err == nil {
		err = s.end()
	}
	return r, err
}

// RowOf makes a row of a record that has a row's columns.
func RowOf(r Record) (Row, error) {
	var row Row
	for _, f := range r {
		var err error
		switch f.Name {
		case "id":
			row.ID = f.Value.String()
		case "answer":
			row.Answer = f.Value.String()
		case "source":
			row.Source = f.Value.String()
		case "license":
			row.License = f.Value.String()
		case "messages":
			row.Messages, err = MessagesOf(f.Value)
		case "tools":
			row.Tools = rawOf(f.Value)
		case "flags":
			for _, flag := range f.Value.List {
				row.Flags = append(row.Flags, flag.String())
			}
		case "meta":
			row.Meta, err = metaOf(f.Value)
		}
		if err != nil {
			return Row{}, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return row, nil
}

// rawOf is JSON that a text column may hold, or that stands in the file itself, without its line breaks.
func rawOf(v Value) json.RawMessage {
	raw := v.JSON()
	switch {
	case v.Shape == Null, v.Shape == Text && strings.TrimSpace(v.Text) == "":
		return nil
	case v.Shape == Text && json.Valid([]byte(v.Text)):
		raw = json.RawMessage(v.Text)
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil { // NaN, which Python writes
		return nil
	}
	return bytes.ToValidUTF8(line.Bytes(), []byte("\uFFFD"))
}

// MessagesOf reads a list of objects with role, content and perhaps tool_calls. A null content is empty. A
// list of content parts, as some chat formats have it, is the text of its parts.
func MessagesOf(v Value) ([]Message, error) {
	switch v.Shape {
	case Null:
		return nil, nil
	case List:
	default:
		return nil, fmt.Errorf("is %s, not a list of messages", v.Shape)
	}
	messages := make([]Message, len(v.List))
	for i, item := range v.List {
		if item.Shape != Object {
			return nil, fmt.Errorf("message %d is %s, not an object with role and content", i+1, item.Shape)
		}
		m := &messages[i]
		for _, f := range item.Fields {
			switch f.Name {
			case "role":
				m.Role = f.Value.String()
			case "content":
				m.Content = contentOf(f.Value)
			case "tool_calls":
				m.ToolCalls = rawOf(f.Value)
			}
		}
	}
	return messages, nil
}

func contentOf(v Value) string {
	if v.Shape != List {
		return v.String()
	}
	var b strings.Builder
	for _, part := range v.List {
		if part.Shape == Object {
			part = part.Get("text")
		}
		b.WriteString(part.String())
	}
	return b.String()
}

// metaOf reads an object of texts, or Parquet's map: a list of key and value.
func metaOf(v Value) ([]Pair, error) {
	var pairs []Pair
	switch v.Shape {
	case Null:
	case Text: // as Parquet files of ours have it
		var s scanner
		s.reset(bytesOf(v.Text))
		inner, err := s.value(1)
		if err != nil || inner.Shape == Text {
			return nil, fmt.Errorf("is %q, not an object", v.Text)
		}
		return metaOf(inner)
	case Object:
		for _, f := range v.Fields {
			pairs = append(pairs, Pair{f.Name, f.Value.String()})
		}
	case List:
		for _, item := range v.List {
			pairs = append(pairs, Pair{item.Get("key").String(), item.Get("value").String()})
		}
	default:
		return nil, fmt.Errorf("is %s, not an object", v.Shape)
	}
	sort.SliceStable(pairs, func(a, b int) bool { return pairs[a].Name < pairs[b].Name })
	return pairs, nil
}
