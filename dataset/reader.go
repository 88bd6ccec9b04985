package dataset

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Reader reads a file of rows in batches: JSONL (.jsonl, .ndjson; also compressed, .gz or .zst behind it),
// a JSON list (.json), CSV with a header (.csv, .tsv), or Parquet (.parquet). Its memory does not grow with
// the file. Next must be called from one goroutine; the batches may be decoded by others.
type Reader struct {
	path    string
	size    int64
	columns []string
	from    source
	file    *os.File
}

// source makes the batches of one format.
type source interface {
	next() (*Batch, error)
	close() error
}

// Extensions that Open knows, for messages.
const Extensions = ".jsonl, .ndjson, .json, .csv, .tsv or .parquet"

// Open opens path. With columns named, a Parquet file's other columns are not read; the other formats pass
// over them.
func Open(path string, columns ...string) (*Reader, error) {
	return OpenAs(path, path, columns...)
}

// OpenAs is Open for a file that messages call by another name than its path.
func OpenAs(path, name string, columns ...string) (*Reader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open rows: %w", err)
	}
	r := &Reader{path: name, file: file}
	if err := r.open(columns); err != nil {
		file.Close()
		return nil, err
	}
	return r, nil
}

func (r *Reader) open(columns []string) error {
	info, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("open rows: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("open rows: %s is no file: give a file (%s) or a list of them", r.path, Extensions)
	}
	r.size = info.Size()
	var want map[string]bool
	if len(columns) > 0 {
		want = map[string]bool{}
		for _, c := range columns {
			want[c] = true
		}
	}
	switch ext := r.extension(); ext {
	case ".jsonl", ".ndjson":
		r.from, err = openLines(r.path, r.file, want)
	case ".json":
		r.from, err = openJSON(r.path, r.file, want)
	case ".csv", ".tsv":
		var t *csvSource
		if t, err = openCSV(r.path, r.file, ext == ".tsv", want); err == nil {
			r.from, r.columns = t, t.header
		}
	case ".parquet":
		var t *parquetSource
		if t, err = openParquet(r.path, r.file, r.size, want); err == nil {
			r.from, r.columns = t, t.columns
		}
	default:
		return fmt.Errorf("open rows: %s: rows are read from %s, not from %q", r.path, Extensions, ext)
	}
	return err
}

// extension is the file's, without that of a compression; a name without any is judged by its first bytes.
func (r *Reader) extension() string {
	name := strings.ToLower(filepath.Base(r.path))
	for _, packed := range []string{".gz", ".zst"} {
		name = strings.TrimSuffix(name, packed)
	}
	if ext := filepath.Ext(name); ext != "" {
		return ext
	}
	magic := make([]byte, 4)
	if n, _ := r.file.ReadAt(magic, 0); n == 4 && string(magic) == parquetMagic {
		return ".parquet"
	}
	return ".jsonl"
}

// Name is what messages call the file.
func (r *Reader) Name() string { return r.path }

// Size is the file's size in bytes.
func (r *Reader) Size() int64 { return r.size }

// Columns names the file's columns where the format fixes them (CSV, Parquet); nil for JSON, where each row
// has its own.
func (r *Reader) Columns() []string { return slices.Clone(r.columns) }

// Next is the next batch, io.EOF behind the last.
func (r *Reader) Next() (*Batch, error) {
	b, err := r.from.next()
	if err != nil {
		return nil, err
	}
	b.path, b.size = r.path, r.size
	return b, nil
}

// Close closes the file. Batches and their rows stay valid.
func (r *Reader) Close() error {
	err := r.from.close()
	if e := r.file.Close(); err == nil {
		err = e
	}
	return err
}

// Batch is some rows of a file, not yet decoded.
type Batch struct {
	// Read is how many bytes of the file were read up to the batch's end.
	Read int64

	path    string
	size    int64
	unit    string // "line" or "row"
	first   int64  // number of the first row, from 1, in that unit
	lines   []byte // JSONL
	records []Record
	want    map[string]bool
	numbers []int64 // of the rows, in unit; nil: counted on from first

	replaced      int64 // rows in which invalid bytes became U+FFFD
	firstReplaced int   // index of the first of them
}

func (b *Batch) markReplaced(i int) {
	if b.replaced == 0 {
		b.firstReplaced = i
	}
	b.replaced++
}

// noteReplaced is markReplaced for the record added last.
func (b *Batch) noteReplaced(yes bool) {
	if yes {
		b.markReplaced(len(b.records) - 1)
	}
}

// Replaced is, after Rows or Records, how many rows held bytes that are not UTF-8 (they became U+FFFD), and
// the index of the first of them.
func (b *Batch) Replaced() (rows int64, first int) { return b.replaced, b.firstReplaced }

// Where names row i of the batch for a message: "data/qa.jsonl line 17". The name is the file's own path.
func (b *Batch) Where(i int) string {
	return fmt.Sprintf("%s %s %d", b.path, b.unit, b.Number(i))
}

// Unit says what Number counts: "line" or "row".
func (b *Batch) Unit() string { return b.unit }

// Number is the line or row number of row i, from 1.
func (b *Batch) Number(i int) int64 {
	if i < len(b.numbers) {
		return b.numbers[i]
	}
	return b.first + int64(i)
}

// Rows decodes the batch as rows. The error names file and line.
func (b *Batch) Rows() ([]Row, error) {
	rows, _, err := decode(b, false, (*scanner).row, RowOf)
	return rows, err
}

// Records decodes the batch column by column. The error names file and line.
func (b *Batch) Records() ([]Record, error) {
	records, _, err := b.RecordsAnd(false)
	return records, err
}

// RecordsAnd is Records that, with skip, passes over lines that cannot be read and returns their errors. What
// a file of another format than JSONL holds wrong ends the reading in any case.
func (b *Batch) RecordsAnd(skip bool) (records []Record, bad []error, err error) {
	return decode(b, skip,
		func(s *scanner) (Record, error) { return s.record(b.want) },
		func(r Record) (Record, error) { return r, nil })
}

func decode[T any](b *Batch, skip bool, line func(*scanner) (T, error), record func(Record) (T, error)) ([]T, []error, error) {
	if b.lines == nil {
		out, err := fromRecords(b, record)
		return out, nil, err
	}
	var bad []error
	b.numbers, b.replaced = b.numbers[:0], 0
	var out []T
	var s scanner
	number := b.first
	for rest := b.lines; len(rest) > 0; number++ {
		text := rest
		if end := indexNewline(rest); end >= 0 {
			text, rest = rest[:end], rest[end+1:]
		} else {
			rest = nil
		}
		if blank(text) {
			continue
		}
		s.reset(text)
		before := s.replaced
		row, err := line(&s)
		if err != nil {
			err = &RowError{Path: b.path, Unit: b.unit, Number: number, Err: err}
			if !skip {
				return nil, nil, err
			}
			bad = append(bad, err)
			continue
		}
		if s.replaced > before {
			b.markReplaced(len(out))
		}
		out = append(out, row)
		b.numbers = append(b.numbers, number)
	}
	return out, bad, nil
}

func fromRecords[T any](b *Batch, record func(Record) (T, error)) ([]T, error) {
	out := make([]T, 0, len(b.records))
	for i, r := range b.records {
		row, err := record(r)
		if err != nil {
			return nil, &RowError{Path: b.path, Unit: b.unit, Number: b.Number(i), Err: err}
		}
		out = append(out, row)
	}
	return out, nil
}

// RowError is an error of one row of a file.
type RowError struct {
	Path   string
	Unit   string // "line" or "row"
	Number int64  // from 1
	Err    error
}

func (e *RowError) Error() string {
	return fmt.Sprintf("%s %s %d: %v", e.Path, e.Unit, e.Number, e.Err)
}

func (e *RowError) Unwrap() error { return e.Err }

// RowReader reads rows one by one, for who needs no speed.
type RowReader struct {
	from  *Reader
	batch *Batch
	rows  []Row
	at    int
}

// OpenRows opens a file of rows.
func OpenRows(path string) (*RowReader, error) {
	r, err := Open(path, RowColumns()...)
	if err != nil {
		return nil, err
	}
	return &RowReader{from: r}, nil
}

// RowColumns names the columns of a row.
func RowColumns() []string {
	return []string{"id", "messages", "answer", "source", "license", "tools", "meta", "flags"}
}

// Next is the next row, io.EOF behind the last. The row stays valid.
func (r *RowReader) Next() (*Row, error) {
	for r.at == len(r.rows) {
		batch, err := r.from.Next()
		if err != nil {
			return nil, err
		}
		if r.rows, err = batch.Rows(); err != nil {
			return nil, err
		}
		r.batch, r.at = batch, 0
	}
	r.at++
	return &r.rows[r.at-1], nil
}

// Where names the row that Next returned last, for a message.
func (r *RowReader) Where() string {
	if r.batch == nil || r.at == 0 {
		return r.from.path
	}
	return r.batch.Where(r.at - 1)
}

// Close closes the file.
func (r *RowReader) Close() error { return r.from.Close() }

var _ io.Closer = (*RowReader)(nil)
