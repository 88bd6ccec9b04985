package dataset

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	blockSize = 1 << 20 // of a batch of lines
	maxLine   = 1 << 30
)

// lineSource cuts JSONL into blocks of whole lines. It decodes nothing.
type lineSource struct {
	path   string
	from   io.Reader
	file   *counter
	done   func()
	want   map[string]bool
	rest   []byte // the beginning of a line, behind the last batch
	number int64  // of the next line, from 1
	ended  bool
}

// counter counts the bytes read of the file itself: of a compressed one the compressed bytes.
type counter struct {
	from io.Reader
	n    int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.n += int64(n)
	return n, err
}

func openLines(path string, file *os.File, want map[string]bool) (*lineSource, error) {
	s := &lineSource{path: path, file: &counter{from: file}, want: want, number: 1, done: func() {}}
	var err error
	if s.from, s.done, err = unpack(path, s.file); err != nil {
		return nil, err
	}
	return s, s.mark()
}

// unpack undoes a compression that the file's name tells.
func unpack(path string, from io.Reader) (io.Reader, func(), error) {
	switch lower := strings.ToLower(path); {
	case strings.HasSuffix(lower, ".gz"):
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: not a whole gzip file: %w", path, err)
		}
		return z, func() {}, nil
	case strings.HasSuffix(lower, ".zst"):
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: not a zstd file: %w", path, err)
		}
		return z, z.Close, nil
	}
	return from, func() {}, nil
}

// mark reads the first bytes: a UTF-8 byte order mark is passed over, other encodings are refused.
func (s *lineSource) mark() error {
	head := make([]byte, 4)
	n, err := io.ReadFull(s.from, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) {
		return fmt.Errorf("%s is UTF-16: make it UTF-8 (iconv -f UTF-16 -t UTF-8)", s.path)
	}
	if bytes.Equal(head, []byte(parquetMagic)) {
		return fmt.Errorf("%s is a Parquet file: give it the extension .parquet", s.path)
	}
	s.rest = bytes.TrimPrefix(head, []byte("\xef\xbb\xbf"))
	return nil
}

func (s *lineSource) next() (*Batch, error) {
	for {
		if s.ended && len(s.rest) == 0 {
			return nil, io.EOF
		}
		block, err := s.block()
		if err != nil {
			return nil, err
		}
		first := s.number
		s.number += int64(bytes.Count(block, []byte{'\n'}))
		if blank(block) {
			continue
		}
		return &Batch{Read: s.file.n, unit: "line", first: first, lines: block, want: s.want}, nil
	}
}

// block is some whole lines, in memory of their own; the last line may lack its newline.
func (s *lineSource) block() ([]byte, error) {
	buf := make([]byte, len(s.rest), max(blockSize, 2*len(s.rest)))
	copy(buf, s.rest)
	searched := 0
	for {
		for len(buf) < cap(buf) && !s.ended {
			n, err := s.from.Read(buf[len(buf):cap(buf)])
			buf = buf[:len(buf)+n]
			if errors.Is(err, io.EOF) {
				s.ended = true
			} else if err != nil {
				return nil, fmt.Errorf("read %s near line %d: %w", s.path, s.number, err)
			}
		}
		if s.ended {
			s.rest = nil
			return buf, nil
		}
		if cut := bytes.LastIndexByte(buf[searched:], '\n'); cut >= 0 {
			cut += searched + 1
			s.rest = buf[cut:]
			return buf[:cut:cut], nil
		}
		if len(buf) >= maxLine {
			return nil, fmt.Errorf("%s line %d is longer than 1 GiB: is this JSONL?", s.path, s.number)
		}
		searched = len(buf)
		buf = append(make([]byte, 0, 2*len(buf)), buf...)
	}
}

func (s *lineSource) close() error {
	s.done()
	return nil
}

func indexNewline(b []byte) int { return bytes.IndexByte(b, '\n') }

func blank(b []byte) bool { return len(bytes.TrimSpace(b)) == 0 }
