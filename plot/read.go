package plot

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Curve is a number that was written again and again: Y over X, of equal length. A Y that is NaN is a gap. Axis is the field
// that X is, "row" where it is the row's number.
type Curve struct {
	Name string
	X, Y []float64
	Axis string
}

// Axes are the names that a row's place on the x axis may have, in order of preference; no curves are made of them.
func Axes() []string { return []string{"step", "iteration", "iter", "epoch", "tokens"} }

// LossFirst orders curves' names: what is called a loss comes first, all else stays as it was.
func LossFirst(a, b string) int {
	return btoi(strings.Contains(b, "loss")) - btoi(strings.Contains(a, "loss"))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// longestLine bounds what is held in memory of a file that is no JSONL at all.
const longestLine = 16 << 20

// Read returns the curves in a file, in the order in which their names come up. With the extension .jsonl each line is an
// object of numbers; with .json the file is a list of such objects, or an object with lists of numbers or of objects.
// Names within objects are joined by dots. The x axis is the field of that name; "" takes the first of Axes that is
// there, else the number of the row, from 1. What is no number is passed over, null and NaN are gaps.
func Read(r io.Reader, extension, axis string) ([]Curve, error) {
	t := &rows{index: map[string]int{}}
	var err error
	switch extension {
	case ".jsonl", ".ndjson":
		err = t.readLines(r)
	case ".json":
		err = t.readWhole(r)
	default:
		return nil, fmt.Errorf("curves are read from .jsonl and .json, not from %q", extension)
	}
	if err != nil {
		return nil, err
	}
	return t.curves(axis), nil
}

// rows collects the columns of a table whose rows need not have all of them.
type rows struct {
	index   map[string]int
	columns []column
	count   int // rows so far
	order   int // of the field within its row, to find its column without the map
}

type column struct {
	name   string
	rows   []int
	values []float64
}

func (t *rows) add(name string, value float64) {
	i := t.order
	if i >= len(t.columns) || t.columns[i].name != name {
		var known bool
		if i, known = t.index[name]; !known {
			i = len(t.columns)
			t.index[name] = i
			t.columns = append(t.columns, column{name: name})
		}
	}
	t.order = i + 1
	c := &t.columns[i]
	c.rows, c.values = append(c.rows, t.count), append(c.values, value)
}

func (t *rows) end() { t.count, t.order = t.count+1, 0 }

// readLines reads JSONL. A last line without an end that is no JSON is one that is being written, and no error.
func (t *rows) readLines(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), longestLine)
	ended := true
	lines.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		advance, token, err := bufio.ScanLines(data, atEOF)
		ended = advance > 0 && data[advance-1] == '\n'
		return advance, token, err
	})
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := t.readObject(line); err != nil {
			if !ended {
				return nil
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line has more than %d bytes: this is no curve", longestLine)
	}
	return lines.Err()
}

// readObject adds one row. Flat objects of numbers, which nearly all are, need no general reader: a twentieth of the time.
func (t *rows) readObject(line []byte) error {
	marks := make([]int, 0, 16)
	for _, c := range t.columns {
		marks = append(marks, len(c.rows))
	}
	if t.readFlat(line) {
		t.end()
		return nil
	}
	for i := range t.columns { // what the attempt has added goes
		keep := 0
		if i < len(marks) {
			keep = marks[i]
		}
		t.columns[i].rows, t.columns[i].values = t.columns[i].rows[:keep], t.columns[i].values[:keep]
	}
	t.order = 0
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	t.addFields("", fields)
	t.end()
	return nil
}

// readFlat reads {"name":number,...}; false where the line has anything else in it.
func (t *rows) readFlat(line []byte) bool {
	if len(line) < 2 || line[0] != '{' || line[len(line)-1] != '}' {
		return false
	}
	rest := line[1 : len(line)-1]
	for len(rest) > 0 {
		rest = bytes.TrimLeft(rest, " \t")
		if len(rest) == 0 || rest[0] != '"' {
			return false
		}
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 || !plainName(rest[1:1+end]) {
			return false
		}
		name := rest[1 : 1+end]
		rest = bytes.TrimLeft(rest[end+2:], " \t")
		if len(rest) == 0 || rest[0] != ':' {
			return false
		}
		text, after, more := bytes.Cut(rest[1:], []byte(","))
		if more && len(bytes.TrimSpace(after)) == 0 {
			return false
		}
		rest = after
		text = bytes.Trim(text, " \t") // JSON knows fewer blanks than Unicode
		value := math.NaN()
		if string(text) != "null" {
			var err error
			if len(text) == 0 || text[0] != '-' && (text[0] < '0' || text[0] > '9') || !json.Valid(text) {
				return false
			}
			if value, err = strconv.ParseFloat(string(text), 64); err != nil {
				return false
			}
		}
		t.addBytes(name, value)
	}
	return true
}

// plainName tells whether a name stands in JSON as it is.
func plainName(name []byte) bool {
	for _, b := range name {
		if b < ' ' || b >= 0x7f || b == '\\' {
			return false
		}
	}
	return true
}

// addBytes is add without a new string for a name that stands where it stood in the row before.
func (t *rows) addBytes(name []byte, value float64) {
	if i := t.order; i < len(t.columns) && t.columns[i].name == string(name) {
		t.order++
		c := &t.columns[i]
		c.rows, c.values = append(c.rows, t.count), append(c.values, value)
		return
	}
	t.add(string(name), value)
}

func (t *rows) addFields(prefix string, fields map[string]any) {
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		switch v := fields[name].(type) {
		case float64:
			t.add(prefix+name, v)
		case nil:
			t.add(prefix+name, math.NaN())
		case string:
			if f, err := strconv.ParseFloat(v, 64); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
				t.add(prefix+name, math.NaN()) // "NaN", as JSON writers without null have it
			}
		case map[string]any:
			t.addFields(prefix+name+".", v)
		}
	}
}

// readWhole reads a JSON file.
func (t *rows) readWhole(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	switch root := root.(type) {
	case []any:
		t.addList("", root)
	case map[string]any:
		names := make([]string, 0, len(root))
		for name := range root {
			names = append(names, name)
		}
		slices.Sort(names)
		longest := 0
		for _, name := range names {
			if list, ok := root[name].([]any); ok {
				t.count, t.order = 0, 0
				t.addList(name, list)
				longest = max(longest, t.count)
			}
		}
		t.count = longest
	}
	if len(t.columns) == 0 {
		return errors.New("there are no lists of numbers or of objects in it")
	}
	return nil
}

// addList adds a list of objects, or of numbers under the list's name.
func (t *rows) addList(name string, list []any) {
	for _, one := range list {
		switch v := one.(type) {
		case map[string]any:
			t.addFields("", v)
		case float64:
			t.add(name, v)
		case nil:
			t.add(name, math.NaN())
		}
		t.end()
	}
}

func (t *rows) curves(axis string) []Curve {
	place := make([]float64, t.count)
	for i := range place {
		place[i] = float64(i + 1)
	}
	candidates := Axes()
	if axis != "" {
		candidates = []string{axis}
	}
	over := "row"
	for _, name := range candidates {
		if i, known := t.index[name]; known && len(t.columns[i].rows) > 0 {
			for row := range place {
				place[row] = math.NaN()
			}
			for j, row := range t.columns[i].rows {
				place[row] = t.columns[i].values[j]
			}
			over = name
			break
		}
	}
	var all []Curve
	for _, c := range t.columns {
		if c.name == axis || slices.Contains(Axes(), c.name) || len(c.rows) == 0 {
			continue
		}
		curve := Curve{Name: c.name, X: make([]float64, 0, len(c.rows)), Y: c.values[:0], Axis: over}
		for i, row := range c.rows {
			if x := place[row]; !math.IsNaN(x) { // a row that is nowhere on the axis
				curve.X, curve.Y = append(curve.X, x), append(curve.Y, c.values[i])
			}
		}
		all = append(all, curve)
	}
	return all
}
