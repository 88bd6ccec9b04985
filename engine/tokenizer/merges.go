package tokenizer

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
)

// mergeReader reads merges of tokens that a builder has all of. Several may read parts of a file at once.
type mergeReader struct {
	b       *builder
	pairs   []pair
	guess   int32 // what the next merge probably makes
	scratch []byte
}

func newMergeReader(b *builder, room int) *mergeReader {
	return &mergeReader{b: b, guess: 256, pairs: make([]pair, 0, room)}
}

// merge reads the next merge, as the file spells it.
func (r *mergeReader) merge(left, right []byte) error {
	s, okLeft := appendSpelled(r.scratch[:0], left)
	cut := len(s)
	s, okRight := appendSpelled(s, right)
	r.scratch = s
	if !okLeft || !okRight || cut == 0 || len(s) == cut {
		return fmt.Errorf("merge %q %q is not spelled byte-level", left, right)
	}
	from, ok := r.b.id(s[:cut])
	if !ok {
		return fmt.Errorf("merge %q %q: the vocabulary has no token %q", left, right, left)
	}
	with, ok := r.b.id(s[cut:])
	if !ok {
		return fmt.Errorf("merge %q %q: the vocabulary has no token %q", left, right, right)
	}
	// The n-th merge nearly always makes the n-th token.
	to := r.guess
	if !bytes.Equal(r.b.v.bytes(to), s) {
		if to, ok = r.b.id(s); !ok {
			return fmt.Errorf("merge %q %q: the vocabulary has no token for the two together", left, right)
		}
	}
	r.guess = to + 1
	r.pairs = append(r.pairs, pair{from, with, to})
	return nil
}

// spaced reads a merge written as two spellings with a space between.
func (r *mergeReader) spaced(line []byte) error {
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return fmt.Errorf("merge %q has no space between two tokens", line)
	}
	return r.merge(line[:i], line[i+1:])
}

// lines reads one merge a line; n is the number of the line that goes wrong.
func (r *mergeReader) lines(data []byte) (n int, err error) {
	for n = 1; len(data) > 0; n++ {
		line, rest, _ := bytes.Cut(data, []byte{'\n'})
		data = rest
		if line = bytes.TrimSuffix(line, []byte{'\r'}); len(line) > 0 {
			if err := r.spaced(line); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// readMerges reads merges.txt: one merge a line; a first line "#version…" is a comment. Every processor reads a part.
func readMerges(data []byte, b *builder) error {
	from := 0
	if bytes.HasPrefix(data, []byte("#version")) {
		from = lineEnd(data, 0)
	}
	size := (len(data)-from)/runtime.GOMAXPROCS(0) + 1
	type part struct {
		*mergeReader
		from, wrong int
		err         error
	}
	var parts []*part
	var wg sync.WaitGroup
	for from < len(data) {
		p, end := &part{mergeReader: newMergeReader(b, size/10), from: from}, lineEnd(data, min(from+size, len(data)))
		parts = append(parts, p)
		wg.Go(func() { p.wrong, p.err = p.lines(data[p.from:end]) })
		from = end
	}
	wg.Wait()
	for _, p := range parts {
		if p.err != nil {
			return fmt.Errorf("line %d: %w", bytes.Count(data[:p.from], []byte{'\n'})+p.wrong, p.err)
		}
		b.v.pairs = append(b.v.pairs, p.pairs...)
	}
	return nil
}

// lineEnd is where the line that holds data[at] ends, behind its newline.
func lineEnd(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(data)
}
