package dataset

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
)

// Rows of a batch of the formats that are decoded while reading.
const (
	batchRows  = 512
	batchBytes = 1 << 20
)

// jsonSource reads a list of objects, one at a time.
type jsonSource struct {
	path string
	file *counter
	dec  *json.Decoder
	want map[string]bool
	row  int64
	done bool // the list's bracket was read
}

// openJSON opens a .json file: a list of objects, or, as some tools write it, JSONL under this name.
func openJSON(path string, file *os.File, want map[string]bool) (source, error) {
	count := &counter{from: file}
	from, done, err := unpack(path, count)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewReaderSize(from, 1<<16)
	first, err := firstByte(buf)
	if errors.Is(err, io.EOF) {
		done()
		return openEmpty{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if first == '{' {
		return &lineSource{path: path, from: buf, file: count, done: done, want: want, number: 1}, nil
	}
	dec := json.NewDecoder(buf)
	if tok, err := dec.Token(); err != nil || tok != json.Delim('[') {
		return nil, fmt.Errorf("%s: begins with %q: a .json file of rows is a list of objects", path, first)
	}
	return &jsonSource{path: path, file: count, dec: dec, want: want}, nil
}

// firstByte is the first one that is no space, left unread, a byte order mark passed over.
func firstByte(r *bufio.Reader) (byte, error) {
	if mark, _ := r.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = r.Discard(3)
	}
	for {
		c, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c, r.UnreadByte()
		}
	}
}

// openEmpty is a file without rows.
type openEmpty struct{}

func (openEmpty) next() (*Batch, error) { return nil, io.EOF }
func (openEmpty) close() error          { return nil }

func (s *jsonSource) next() (*Batch, error) {
	b := &Batch{unit: "row", first: s.row + 1}
	for size := 0; !s.done && len(b.records) < batchRows && size < batchBytes; {
		if !s.dec.More() {
			if _, err := s.dec.Token(); err != nil {
				if errors.Is(err, io.EOF) { // to the caller EOF would be the end
					err = io.ErrUnexpectedEOF
				}
				return nil, fmt.Errorf("%s: the list ends after row %d without its bracket (is the file cut off?): %w", s.path, s.row, err)
			}
			s.done = true
			break
		}
		s.row++
		var raw json.RawMessage
		if err := s.dec.Decode(&raw); err != nil {
			return nil, &RowError{Path: s.path, Unit: "row", Number: s.row, Err: err}
		}
		size += len(raw)
		var scan scanner
		scan.reset(raw)
		record, err := scan.record(s.want)
		if err != nil {
			return nil, &RowError{Path: s.path, Unit: "row", Number: s.row, Err: err}
		}
		b.records = append(b.records, record)
		b.noteReplaced(scan.replaced > 0)
	}
	if b.Read = s.file.n; len(b.records) == 0 {
		return nil, io.EOF
	}
	return b, nil
}

func (s *jsonSource) close() error { return nil }

// csvSource reads RFC 4180 with a header line.
type csvSource struct {
	path   string
	file   *counter
	done   func()
	in     *csv.Reader
	header []string
	want   map[string]bool
	row    int64
}

func openCSV(path string, file *os.File, tabs bool, want map[string]bool) (*csvSource, error) {
	count := &counter{from: file}
	from, done, err := unpack(path, count)
	if err != nil {
		return nil, err
	}
	buf := bufio.NewReaderSize(from, 1<<16)
	if mark, _ := buf.Peek(3); string(mark) == "\xef\xbb\xbf" {
		_, _ = buf.Discard(3)
	}
	s := &csvSource{path: path, file: count, done: done, in: csv.NewReader(buf), want: want}
	if tabs {
		s.in.Comma = '\t'
		s.in.LazyQuotes = true
	}
	s.header, err = s.in.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read header of %s: %w", path, err)
	}
	for i, name := range s.header {
		if slices.Contains(s.header[:i], name) && (want == nil || want[name]) {
			return nil, errTwice(path, name)
		}
	}
	return s, nil
}

func (s *csvSource) next() (*Batch, error) {
	b := &Batch{unit: "line"}
	for size := 0; len(b.records) < batchRows && size < batchBytes; {
		fields, err := s.in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		s.row++
		if err != nil {
			var bad *csv.ParseError
			if errors.As(err, &bad) {
				return nil, &RowError{Path: s.path, Unit: "line", Number: int64(bad.Line), Err: bad.Err}
			}
			return nil, fmt.Errorf("read %s: %w", s.path, err)
		}
		line, _ := s.in.FieldPos(0)
		record := make(Record, 0, len(fields))
		replaced := false
		for i, text := range fields {
			size += len(text)
			if s.want != nil && !s.want[s.header[i]] {
				continue
			}
			if !utf8.ValidString(text) {
				text, replaced = strings.ToValidUTF8(text, "\uFFFD"), true
			}
			record = append(record, Field{s.header[i], Value{Shape: Text, Text: text}})
		}
		b.records = append(b.records, record)
		b.numbers = append(b.numbers, int64(line))
		b.noteReplaced(replaced)
	}
	if b.Read = s.file.n; len(b.records) == 0 {
		return nil, io.EOF
	}
	return b, nil
}

func (s *csvSource) close() error {
	s.done()
	return nil
}
