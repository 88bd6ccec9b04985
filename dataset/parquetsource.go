package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

const parquetMagic = "PAR1"

// parquetSource reads the wanted columns page by page and puts the rows together from their levels, as in
// the Dremel paper (Melnik and others, 2010): of a file with messages and a copy of them it reads one.
type parquetSource struct {
	path    string
	size    int64
	file    *parquet.File
	columns []string
	nodes   []*parquetNode // of the wanted top-level columns
	leaves  []*leaf        // of those, all
	group   int            // row group that is open, -1 before the first
	left    int64          // rows of it
	rows    int64          // rows read of the file
	total   int64
	arena   []byte
	invalid bool // a text of the row in hand was not UTF-8
}

// parquetNode is a node of the schema with what assembly needs of it.
type parquetNode struct {
	name               string
	repetition         int // level of this node, counted as Parquet does
	definition         int
	repeated, optional bool
	list               bool // a LIST or MAP group, whose one child repeats
	leaf               *leaf
	text               func(parquet.Value) Value // of a leaf; nil: as its physical type says
	children           []*parquetNode
}

// leaf is a column chunk being read.
type leaf struct {
	column *parquet.Column
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    []parquet.Value
	at, n  int
	ended  bool
}

func openParquet(path string, file *os.File, size int64, want map[string]bool) (*parquetSource, error) {
	if size == 0 {
		return nil, fmt.Errorf("%s is empty: a Parquet file without rows has a footer", path)
	}
	f, err := openParquetFile(file, size)
	if err != nil {
		head := make([]byte, 4)
		if _, e := file.ReadAt(head, 0); e == nil && string(head) == parquetMagic {
			return nil, fmt.Errorf("%s begins as a Parquet file but has no footer at its end: it was cut off; fetch or write it again (%w)", path, err)
		}
		return nil, fmt.Errorf("%s is no Parquet file: %w", path, err)
	}
	s := &parquetSource{path: path, size: size, file: f, group: -1, total: f.NumRows()}
	elements := leafElements(f)
	for _, column := range f.Root().Columns() {
		if slices.Contains(s.columns, column.Name()) && (want == nil || want[column.Name()]) {
			return nil, errTwice(path, column.Name())
		}
		s.columns = append(s.columns, column.Name())
		if want == nil || want[column.Name()] {
			s.nodes = append(s.nodes, s.node(column, elements))
		}
	}
	return s, nil
}

// openParquetFile turns a panic over a damaged footer into an error.
func openParquetFile(file *os.File, size int64) (f *parquet.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("damaged footer: %v", r)
		}
	}()
	return parquet.OpenFile(file, size, &parquet.FileConfig{SkipPageIndex: true, SkipBloomFilters: true, ReadBufferSize: 256 << 10, ReadMode: parquet.ReadModeSync})
}

// errTwice says of a column that is wanted that the file has two of them.
func errTwice(path, column string) error {
	return fmt.Errorf("%s has two columns %q: which one is meant? Name them apart", path, column)
}

// leafElements are the schema's leaves, in the order of their columns.
func leafElements(f *parquet.File) []*format.SchemaElement {
	var leaves []*format.SchemaElement
	for i := range f.Metadata().Schema {
		if element := &f.Metadata().Schema[i]; element.Type.Valid {
			leaves = append(leaves, element)
		}
	}
	return leaves
}

func (s *parquetSource) node(c *parquet.Column, elements []*format.SchemaElement) *parquetNode {
	n := &parquetNode{
		name:       c.Name(),
		repetition: c.MaxRepetitionLevel(),
		definition: c.MaxDefinitionLevel(),
		repeated:   c.Repeated(),
		optional:   c.Optional(),
	}
	if c.Leaf() {
		n.leaf = &leaf{column: c, buf: make([]parquet.Value, 512)}
		n.text = textOf(c, elements[c.Index()])
		s.leaves = append(s.leaves, n.leaf)
		return n
	}
	for _, child := range c.Columns() {
		n.children = append(n.children, s.node(child, elements))
	}
	n.list = !n.repeated && len(n.children) == 1 && n.children[0].repeated && len(n.children[0].children) > 0
	return n
}

func (s *parquetSource) next() (b *Batch, err error) {
	defer func() {
		if r := recover(); r != nil { // a damaged page
			b, err = nil, &RowError{Path: s.path, Unit: "row", Number: s.rows + 1, Err: fmt.Errorf("damaged page: %v", r)}
		}
	}()
	s.arena = nil
	b = &Batch{unit: "row", first: s.rows + 1}
	for size := 0; len(b.records) < batchRows && size < batchBytes; {
		if s.left == 0 {
			if more, err := s.openGroup(); err != nil {
				return nil, fmt.Errorf("read %s: row group %d: %w", s.path, s.group+1, err)
			} else if !more {
				break
			}
			continue
		}
		record, n, err := s.record()
		if err != nil {
			return nil, &RowError{Path: s.path, Unit: "row", Number: s.rows + 1, Err: fmt.Errorf("%w (is the file cut off or damaged?)", err)}
		}
		size += n
		s.left--
		s.rows++
		b.records = append(b.records, record)
		b.noteReplaced(s.invalid)
	}
	if len(b.records) == 0 {
		return nil, io.EOF
	}
	b.Read = int64(float64(s.size) * float64(s.rows) / float64(max(s.total, 1)))
	return b, nil
}

// openGroup opens the wanted columns of the next row group.
func (s *parquetSource) openGroup() (bool, error) {
	s.closeGroup()
	groups := s.file.RowGroups()
	if s.group++; s.group >= len(groups) {
		s.group = len(groups)
		return false, nil
	}
	s.left = groups[s.group].NumRows()
	chunks := groups[s.group].ColumnChunks()
	for _, l := range s.leaves {
		l.pages, l.ended, l.at, l.n = chunks[l.column.Index()].Pages(), false, 0, 0
	}
	return true, nil
}

func (s *parquetSource) closeGroup() {
	for _, l := range s.leaves {
		l.release()
		if l.pages != nil {
			l.pages.Close()
			l.pages = nil
		}
	}
}

func (s *parquetSource) close() error {
	s.closeGroup()
	return nil
}

// record is the next row and about how many bytes it has.
func (s *parquetSource) record() (Record, int, error) {
	s.invalid = false
	before := len(s.arena)
	r := make(Record, 0, len(s.nodes))
	for _, n := range s.nodes {
		v, err := s.assemble(n)
		if err != nil {
			return nil, 0, fmt.Errorf("column %s: %w", n.name, err)
		}
		r = append(r, Field{n.name, v})
	}
	return r, max(len(s.arena)-before, 0) + 64, nil
}

// assemble reads a node's value from its leaves, which all stand at it.
func (s *parquetSource) assemble(n *parquetNode) (Value, error) {
	if n.repeated {
		return s.repeat(n, false)
	}
	return s.single(n)
}

// single is assemble for a node, or one item of a repeated one.
func (s *parquetSource) single(n *parquetNode) (Value, error) {
	if n.leaf != nil {
		v, err := n.leaf.take()
		if err != nil || v.IsNull() || v.DefinitionLevel() < n.definition {
			return Value{}, err
		}
		return s.convert(n, v), nil
	}
	if len(n.children) == 0 {
		return Value{}, nil
	}
	level, err := n.firstLeaf().level()
	if err != nil {
		return Value{}, err
	}
	if level < n.definition {
		return Value{}, s.consume(n)
	}
	if n.list {
		return s.repeat(n.children[0], true)
	}
	v := Value{Shape: Object, Fields: make([]Field, 0, len(n.children))}
	for _, child := range n.children {
		item, err := s.assemble(child)
		if err != nil {
			return Value{}, err
		}
		v.Fields = append(v.Fields, Field{child.name, item})
	}
	return v, nil
}

// repeat reads the items of a repeated node. Inside a LIST the one child is the item; a MAP has two.
func (s *parquetSource) repeat(n *parquetNode, inList bool) (Value, error) {
	first := n.firstLeaf()
	level, err := first.level()
	if err != nil {
		return Value{}, err
	}
	v := Value{Shape: List}
	if level < n.definition {
		return v, s.consume(n)
	}
	for {
		item, err := s.single(n)
		if err != nil {
			return Value{}, err
		}
		if inList && len(n.children) == 1 && len(item.Fields) == 1 {
			item = item.Fields[0].Value
		}
		v.List = append(v.List, item)
		more, err := first.continues(n.repetition)
		if err != nil || !more {
			return v, err
		}
	}
}

// consume passes over the null that stands in each leaf for a missing node.
func (s *parquetSource) consume(n *parquetNode) error {
	if n.leaf != nil {
		_, err := n.leaf.take()
		return err
	}
	for _, child := range n.children {
		if err := s.consume(child); err != nil {
			return err
		}
	}
	return nil
}

func (n *parquetNode) firstLeaf() *leaf {
	for n.leaf == nil {
		n = n.children[0]
	}
	return n.leaf
}

// convert copies a value: those of a page die with it.
func (s *parquetSource) convert(n *parquetNode, v parquet.Value) Value {
	if n.text != nil {
		return n.text(v)
	}
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		raw := v.ByteArray()
		if !utf8.Valid(raw) {
			s.invalid = true
			return Value{Shape: Text, Text: strings.ToValidUTF8(string(raw), "\uFFFD")}
		}
		if cap(s.arena)-len(s.arena) < len(raw) {
			s.arena = make([]byte, 0, max(len(raw), 256<<10))
		}
		at := len(s.arena)
		s.arena = append(s.arena, raw...)
		return Value{Shape: Text, Text: alias(s.arena[at:])}
	case parquet.Boolean:
		return Value{Shape: Bool, Text: strconv.FormatBool(v.Boolean())}
	case parquet.Float:
		return Value{Shape: Number, Text: strconv.FormatFloat(float64(v.Float()), 'g', -1, 32)}
	case parquet.Double:
		return Value{Shape: Number, Text: strconv.FormatFloat(v.Double(), 'g', -1, 64)}
	case parquet.Int32:
		return Value{Shape: Number, Text: strconv.FormatInt(int64(v.Int32()), 10)}
	case parquet.Int64:
		return Value{Shape: Number, Text: strconv.FormatInt(v.Int64(), 10)}
	}
	return Value{Shape: Text, Text: v.String()}
}

// fill makes sure that a value is at hand, unless the column chunk has ended.
func (l *leaf) fill() error {
	for l.at == l.n && !l.ended {
		if l.values == nil {
			page, err := l.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				l.ended = true
				return nil
			}
			if err != nil {
				return err
			}
			l.page, l.values = page, page.Values()
		}
		n, err := l.values.ReadValues(l.buf)
		l.at, l.n = 0, n
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			l.release()
		}
	}
	return nil
}

func (l *leaf) release() {
	if l.page != nil {
		parquet.Release(l.page)
		l.page, l.values = nil, nil
	}
}

var errShortColumn = errors.New("the column ends before the row group does")

func (l *leaf) take() (parquet.Value, error) {
	if err := l.fill(); err != nil {
		return parquet.Value{}, err
	}
	if l.at == l.n {
		return parquet.Value{}, errShortColumn
	}
	l.at++
	return l.buf[l.at-1], nil
}

// level is the definition level of the next value.
func (l *leaf) level() (int, error) {
	if err := l.fill(); err != nil {
		return 0, err
	}
	if l.at == l.n {
		return 0, errShortColumn
	}
	return l.buf[l.at].DefinitionLevel(), nil
}

// continues says whether the next value repeats at the level, in the same row.
func (l *leaf) continues(level int) (bool, error) {
	if err := l.fill(); err != nil || l.at == l.n {
		return false, err
	}
	return l.buf[l.at].RepetitionLevel() == level, nil
}
