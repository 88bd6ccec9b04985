package stages

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lpipe/dataset"
)

// mapping is how a text of a row follows from columns: a column's name as it stands, or a text with places in braces. A
// place names a column and a way into it, items[0].text, [-1] being the last; of alternatives, a|b, the first that is
// not empty counts. {{ and }} stand for braces. As in Python's format strings, as far as those go.
type mapping struct {
	column string // set: the column itself
	parts  []mappingPart
}

// mappingPart is literal text, or a place with alternatives.
type mappingPart struct {
	literal string
	paths   []columnPath
}

// columnPath is a column and the steps into it: a member's name, or "[n]".
type columnPath struct {
	column string
	steps  []string
}

func parseMapping(s string) (*mapping, error) {
	if !strings.ContainsAny(s, "{}") {
		return &mapping{column: s}, nil
	}
	m := &mapping{}
	literal := ""
	for rest := s; rest != ""; {
		at := strings.IndexAny(rest, "{}")
		if at < 0 {
			literal, rest = literal+rest, ""
			break
		}
		literal += rest[:at]
		mark := rest[at]
		if rest = rest[at+1:]; rest != "" && rest[0] == mark {
			literal, rest = literal+string(mark), rest[1:]
			continue
		}
		place, behind, closed := strings.Cut(rest, "}")
		if mark == '}' || !closed || strings.Contains(place, "{") {
			return nil, fmt.Errorf("%q has a brace without its other; {{ and }} stand for braces themselves", s)
		}
		rest = behind
		part := mappingPart{}
		for _, one := range strings.Split(place, "|") {
			path, err := parsePath(strings.TrimSpace(one))
			if err != nil {
				return nil, fmt.Errorf("%q: %w", s, err)
			}
			part.paths = append(part.paths, path)
		}
		m.parts = append(m.parts, mappingPart{literal: literal}, part)
		literal = ""
	}
	m.parts = append(m.parts, mappingPart{literal: literal})
	return m, nil
}

func parsePath(s string) (columnPath, error) {
	end := strings.IndexAny(s, ".[")
	if end < 0 {
		end = len(s)
	}
	p := columnPath{column: s[:end]}
	if p.column == "" {
		return p, errors.New("a place names no column")
	}
	for rest := s[end:]; rest != ""; {
		if rest[0] == '[' {
			number, behind, ok := strings.Cut(rest[1:], "]")
			if _, err := strconv.Atoi(number); !ok || err != nil || behind != "" && !strings.ContainsAny(behind[:1], ".[") {
				return p, fmt.Errorf("%s: behind [ stands a number and ]", s)
			}
			p.steps, rest = append(p.steps, "["+number), behind
			continue
		}
		name := rest[1:]
		if end := strings.IndexAny(name, ".["); end >= 0 {
			name, rest = name[:end], name[end:]
		} else {
			rest = ""
		}
		if name == "" {
			return p, fmt.Errorf("%s: a name is missing behind a dot", s)
		}
		p.steps = append(p.steps, name)
	}
	return p, nil
}

// columns are those that the mapping reads; needed says whether a row must have the column.
func (m *mapping) columns() []string {
	if m.column != "" {
		return []string{m.column}
	}
	var names []string
	for _, part := range m.parts {
		for _, path := range part.paths {
			names = append(names, path.column)
		}
	}
	return names
}

// missing is a place of which a record has no column, "" if there is none.
func (m *mapping) missing(r dataset.Record) string {
	if m.column != "" {
		if r.Has(m.column) {
			return ""
		}
		return m.column
	}
	for _, part := range m.parts {
		has := len(part.paths) == 0
		for _, path := range part.paths {
			has = has || r.Has(path.column)
		}
		if !has {
			return part.paths[0].column
		}
	}
	return ""
}

// value is the column's own value, of a place alone the value that stands there, else the text without blanks at its ends:
// what stands around an empty place shall leave nothing behind.
func (m *mapping) value(r dataset.Record) dataset.Value {
	if m.column != "" {
		return r.Get(m.column)
	}
	if len(m.parts) == 3 && m.parts[0].literal == "" && m.parts[2].literal == "" {
		return m.parts[1].value(r)
	}
	var b strings.Builder
	for _, part := range m.parts {
		b.WriteString(part.literal)
		if part.paths != nil {
			b.WriteString(part.value(r).String())
		}
	}
	return dataset.Value{Shape: dataset.Text, Text: strings.TrimSpace(b.String())}
}

func (p mappingPart) value(r dataset.Record) dataset.Value {
	for _, path := range p.paths {
		if v := path.value(r); v.Shape != dataset.Null && v.String() != "" {
			return v
		}
	}
	return dataset.Value{}
}

func (p columnPath) value(r dataset.Record) dataset.Value {
	v := r.Get(p.column)
	for _, step := range p.steps {
		number, isIndex := strings.CutPrefix(step, "[")
		if !isIndex {
			v = v.Get(step)
			continue
		}
		i, err := strconv.Atoi(number)
		if i < 0 {
			i += len(v.List)
		}
		if err != nil || i < 0 || i >= len(v.List) {
			return dataset.Value{}
		}
		v = v.List[i]
	}
	return v
}
