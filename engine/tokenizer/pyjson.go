package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Jinja's tojson in transformers is Python's json.dumps(value, ensure_ascii=False)
// of a value that json.loads made: ", " and ": " between, keys in their order, a
// key that stands twice at its first place with its last value, numbers as
// Python's int and float print them. Models saw exactly this text.

// pyValue is a JSON value: nil, bool, json.Number, string, []any or pyObject.
type pyObject struct {
	keys   []string
	values map[string]any
}

// parsePython reads a JSON value, keeping the order of keys.
func parsePython(raw []byte) (any, error) {
	if !json.Valid(raw) {
		var v any
		return nil, json.Unmarshal(raw, &v)
	}
	r := &jsonReader{data: raw}
	return r.value(0)
}

// deepest is where Python itself gives up on nested JSON.
const deepest = 1000

// value reads a value of JSON that is known to be valid.
func (r *jsonReader) value(depth int) (any, error) {
	if depth > deepest {
		return nil, fmt.Errorf("JSON nested deeper than %d", deepest)
	}
	switch r.peek() {
	case '{':
		o := pyObject{values: map[string]any{}}
		err := r.object(func(key []byte) error {
			k := string(key)
			if _, ok := o.values[k]; !ok {
				o.keys = append(o.keys, k)
			}
			v, err := r.value(depth + 1)
			o.values[k] = v
			return err
		})
		return o, err
	case '[':
		list := []any{}
		err := r.array(func() error {
			v, err := r.value(depth + 1)
			list = append(list, v)
			return err
		})
		return list, err
	case '"':
		s, err := r.string()
		return strings.ToValidUTF8(string(s), "\uFFFD"), err
	}
	raw, err := r.raw()
	switch string(raw) {
	case "null":
		return nil, err
	case "true", "false":
		return raw[0] == 't', err
	}
	return json.Number(raw), err
}

// appendPython writes a value as json.dumps(v, ensure_ascii=False) does.
func appendPython(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return append(dst, pyNumber(string(v))...)
	case string:
		return appendPyString(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, x := range v {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = appendPython(dst, x)
		}
		return append(dst, ']')
	case pyObject:
		dst = append(dst, '{')
		for i, k := range v.keys {
			if i > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(appendPyString(dst, k), ": "...)
			dst = appendPython(dst, v.values[k])
		}
		return append(dst, '}')
	}
	panic("tokenizer: value of another type than parsePython makes")
}

// pyNumber prints a JSON number as Python would print what it reads: int of any
// length, float by repr.
func pyNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			return "0"
		}
		return s
	}
	f, _ := strconv.ParseFloat(s, 64) // an overflow gives the infinity that Python has too
	return pyFloat(f)
}

// pyFloat is Python's repr of a float, as JSON has it.
func pyFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(text, "e")
	if e, _ := strconv.Atoi(exponent); e < -4 || e >= 16 {
		return text
	}
	text = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

func appendPyString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		c := s[i]
		if at := slices.Index([]byte("\"\\\b\f\n\r\t"), c); at >= 0 {
			dst = append(dst, '\\', `"\bfnrt`[at])
		} else if c < ' ' {
			dst = fmt.Appendf(dst, `\u%04x`, c)
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
