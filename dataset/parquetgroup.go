package dataset

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetGroup reads the wanted columns of a row group page by page and puts the rows together from their levels, as in
// the Dremel paper (Melnik and others, 2010): of a file with messages and a copy of them it reads one.
type parquetGroup struct {
	path     string
	group    parquet.RowGroup
	wanted   []*parquet.Column       // top-level
	elements []*format.SchemaElement // of all leaves
	row      int64                   // number of the next row in the file, from 1
	left     int64                   // rows of the group
	nodes    []*parquetNode          // of the wanted columns; nil before the first row
	leaves   []*leaf                 // of those, all
	arena    []byte
	invalid  bool // a text of the row in hand was not UTF-8
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

func (g *parquetGroup) node(c *parquet.Column) *parquetNode {
	n := &parquetNode{
		name:       c.Name(),
		repetition: c.MaxRepetitionLevel(),
		definition: c.MaxDefinitionLevel(),
		repeated:   c.Repeated(),
		optional:   c.Optional(),
	}
	if c.Leaf() {
		n.leaf = &leaf{column: c, buf: make([]parquet.Value, min(512, max(16, 4*g.left)))}
		n.text = textOf(c, g.elements[c.Index()])
		g.leaves = append(g.leaves, n.leaf)
		return n
	}
	for _, child := range c.Columns() {
		n.children = append(n.children, g.node(child))
	}
	n.list = !n.repeated && len(n.children) == 1 && n.children[0].repeated && len(n.children[0].children) > 0
	return n
}

// read hands on all batches, or an error behind the last good one, and closes to.
func (g *parquetGroup) read(to chan<- groupBatch, stop <-chan struct{}) {
	defer close(to)
	defer g.close()
	for {
		b, err := g.next()
		if b == nil && err == nil {
			return
		}
		select {
		case to <- groupBatch{b, err}:
		case <-stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// next is the next batch; none and no error behind the last.
func (g *parquetGroup) next() (b *Batch, err error) {
	defer func() {
		if r := recover(); r != nil { // a damaged page
			b, err = nil, g.failure(fmt.Errorf("damaged page: %v", r))
		}
	}()
	g.arena = nil
	if g.nodes == nil {
		g.open()
	}
	b = &Batch{unit: "row", first: g.row}
	for size := 0; g.left > 0 && len(b.records) < batchRows && size < batchBytes; {
		record, n, err := g.record()
		if err != nil {
			return nil, g.failure(fmt.Errorf("%w (is the file cut off or damaged?)", err))
		}
		size += n
		g.left--
		g.row++
		b.records = append(b.records, record)
		b.noteReplaced(g.invalid)
	}
	if len(b.records) == 0 {
		return nil, nil
	}
	return b, nil
}

func (g *parquetGroup) failure(err error) error {
	return &RowError{Path: g.path, Unit: "row", Number: g.row, Err: err}
}

// open opens the wanted columns.
func (g *parquetGroup) open() {
	chunks := g.group.ColumnChunks()
	for _, column := range g.wanted {
		g.nodes = append(g.nodes, g.node(column))
	}
	for _, l := range g.leaves {
		l.pages = chunks[l.column.Index()].Pages()
	}
}

func (g *parquetGroup) close() {
	for _, l := range g.leaves {
		l.release()
		if l.pages != nil {
			l.pages.Close()
		}
	}
}

// record is the next row and about how many bytes it has.
func (g *parquetGroup) record() (Record, int, error) {
	g.invalid = false
	before := len(g.arena)
	r := make(Record, 0, len(g.nodes))
	for _, n := range g.nodes {
		v, err := g.assemble(n)
		if err != nil {
			return nil, 0, fmt.Errorf("column %s: %w", n.name, err)
		}
		r = append(r, Field{n.name, v})
	}
	return r, max(len(g.arena)-before, 0) + 64, nil
}

// assemble reads a node's value from its leaves, which all stand at it.
func (g *parquetGroup) assemble(n *parquetNode) (Value, error) {
	if n.repeated {
		return g.repeat(n, false)
	}
	return g.single(n)
}

// single is assemble for a node, or one item of a repeated one.
func (g *parquetGroup) single(n *parquetNode) (Value, error) {
	if n.leaf != nil {
		v, err := n.leaf.take()
		if err != nil || v.IsNull() || v.DefinitionLevel() < n.definition {
			return Value{}, err
		}
		return g.convert(n, v), nil
	}
	if len(n.children) == 0 {
		return Value{}, nil
	}
	level, err := n.firstLeaf().level()
	if err != nil {
		return Value{}, err
	}
	if level < n.definition {
		return Value{}, g.consume(n)
	}
	if n.list {
		return g.repeat(n.children[0], true)
	}
	v := Value{Shape: Object, Fields: make([]Field, 0, len(n.children))}
	for _, child := range n.children {
		item, err := g.assemble(child)
		if err != nil {
			return Value{}, err
		}
		v.Fields = append(v.Fields, Field{child.name, item})
	}
	return v, nil
}

// repeat reads the items of a repeated node. Inside a LIST the one child is the item; a MAP has two.
func (g *parquetGroup) repeat(n *parquetNode, inList bool) (Value, error) {
	first := n.firstLeaf()
	level, err := first.level()
	if err != nil {
		return Value{}, err
	}
	v := Value{Shape: List}
	if level < n.definition {
		return v, g.consume(n)
	}
	for {
		item, err := g.single(n)
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
func (g *parquetGroup) consume(n *parquetNode) error {
	if n.leaf != nil {
		_, err := n.leaf.take()
		return err
	}
	for _, child := range n.children {
		if err := g.consume(child); err != nil {
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
func (g *parquetGroup) convert(n *parquetNode, v parquet.Value) Value {
	if n.text != nil {
		return n.text(v)
	}
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		raw := v.ByteArray()
		if !utf8.Valid(raw) {
			g.invalid = true
			return Value{Shape: Text, Text: strings.ToValidUTF8(string(raw), "\uFFFD")}
		}
		if cap(g.arena)-len(g.arena) < len(raw) {
			g.arena = make([]byte, 0, max(len(raw), 256<<10))
		}
		at := len(g.arena)
		g.arena = append(g.arena, raw...)
		return Value{Shape: Text, Text: alias(g.arena[at:])}
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
