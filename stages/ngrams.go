package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"lpipe/dataset"
	"lpipe/runner"
)

// appendWords appends a hash for each word of a text, blind for case and the marks that end phrases. Other
// marks are words, since 2+3 is not 2-3; so is each letter of a script without blanks.
func appendWords(dst []uint64, text string) []uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset) // of the word in hand; offset itself: there is none
	for i := 0; i < len(text); {
		c, size := wordBytes[text[i]], 1
		if c >= leastLetter {
			h = (h ^ uint64(c)) * prime
			i++
			continue
		}
		letter, alone := rune(0), rune(0)
		switch c {
		case aloneMark:
			alone = rune(text[i])
		case fullStop:
			if h != offset && i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9' {
				letter = '.'
			}
		case beyondASCII:
			letter, alone, size = wideLetter(text[i:])
		}
		if i += size; letter != 0 {
			h = (h ^ uint64(letter)) * prime
			continue
		}
		if h != offset {
			dst = append(dst, mix(h))
			h = offset
		}
		if alone != 0 {
			dst = append(dst, mix((offset^uint64(alone))*prime))
		}
	}
	if h != offset {
		dst = append(dst, mix(h))
	}
	return dst
}

// What a byte is to appendWords: from leastLetter on a letter or digit, in lower case.
const (
	wordEnd = iota
	aloneMark
	fullStop
	beyondASCII
	leastLetter
)

var wordBytes = func() (kinds [256]byte) {
	for i := range kinds {
		switch c := byte(i); {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z':
			kinds[i] = c
		case c >= 'A' && c <= 'Z':
			kinds[i] = c | 0x20
		case c >= utf8.RuneSelf:
			kinds[i] = beyondASCII
		case c == '.':
			kinds[i] = fullStop
		case c <= ' ', c == ',', c == ';', c == ':', c == '?', c == '"', c == '\'':
			kinds[i] = wordEnd
		default:
			kinds[i] = aloneMark
		}
	}
	return kinds
}()

// wideLetter is the character beyond ASCII at the beginning of s: part of a word, a word alone, or, neither, the end of one.
func wideLetter(s string) (letter, alone rune, size int) {
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == '’' || r == '“' || r == '”' || unicode.IsSpace(r):
		return 0, 0, size
	case r >= 0x2e80:
		return 0, r, size
	}
	return unicode.ToLower(r), 0, size
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// shingles replaces words, in place, by the hashes of their n-grams: one for all if they are fewer than n. An n-gram is the
// polynomial of its words, which rolls from one to the next (Karp and Rabin 1987), mixed.
func shingles(words []uint64, n int) []uint64 {
	if len(words) == 0 {
		return words
	}
	const base = 0x9e3779b97f4a7c15
	n = min(n, len(words))
	h, highest := uint64(0), uint64(1) // highest is the factor of the first word
	for _, w := range words[:n-1] {
		h = h*base + w
		highest *= base
	}
	words, ends := words[:len(words)-n+1], words[n-1:]
	for i, first := range words {
		h = h*base + ends[i]
		words[i] = mix(h + uint64(n))
		h -= first * highest
	}
	return words
}

// ngrams is an index of the n-grams of test sets: n-gram -> the set it came from.
type ngrams struct {
	n     int
	sets  []string
	index map[uint64]uint32
}

// promptColumns are the columns that a test set may have its questions in, the first found counts.
var promptColumns = []string{"messages", "conversations", "problem", "question", "prompt", "instruction", "query", "input", "text"}

// readNGrams indexes the questions of files: rows of lpipe's, or of the usual test sets.
func readNGrams(ctx context.Context, env *runner.Env, files []string, n int) (*ngrams, error) {
	g := &ngrams{n: n, index: map[uint64]uint32{}}
	for i, path := range files {
		g.sets = append(g.sets, fmt.Sprintf("test set %d", i+1))
		count, err := g.read(ctx, env, path, uint32(i))
		if err != nil {
			return nil, err
		}
		logf(env, "comparing with %d questions of %s", count, shown(env, path))
	}
	return g, nil
}

func (g *ngrams) read(ctx context.Context, env *runner.Env, path string, set uint32) (count int, err error) {
	r, err := dataset.OpenAs(path, shown(env, path), promptColumns...)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var words []uint64
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return count, err
		}
		records, err := b.Records()
		if err != nil {
			return count, err
		}
		for i, record := range records {
			question, ok := questionOf(record)
			if !ok {
				return count, fmt.Errorf("%s has no question: a file of against needs one of the columns %v", b.Where(i), promptColumns)
			}
			words = appendWords(words[:0], question)
			for _, h := range shingles(words, g.n) {
				if _, ok := g.index[h]; !ok {
					g.index[h] = set
				}
			}
			count++
		}
	}
	if count == 0 {
		return 0, fmt.Errorf("%s: no rows in it to compare with", shown(env, path))
	}
	return count, nil
}

func questionOf(r dataset.Record) (string, bool) {
	for _, name := range promptColumns {
		v := r.Get(name)
		switch {
		case v.Shape == dataset.Text:
			return v.Text, true
		case v.Shape == dataset.List && name == "messages":
			messages, err := dataset.MessagesOf(v)
			return (&dataset.Row{Messages: messages}).Prompt(), err == nil
		case v.Shape == dataset.List && name == "conversations":
			row, dropped := sharegptRow(r)
			return row.Prompt(), dropped == ""
		}
	}
	return "", false
}

func (g *ngrams) find(k *Checks, r *view) string {
	if g == nil {
		return ""
	}
	words := appendWords(nil, r.prompt)
	total, hits, set := 0, 0, uint32(0)
	for _, h := range shingles(words, g.n) {
		total++
		if from, ok := g.index[h]; ok {
			hits++
			set = from
		}
	}
	if share := float64(hits) / float64(max(total, 1)); hits > 0 && share >= k.Contamination.Share {
		return fmt.Sprintf("%.0f %% of the prompt stands in %s", 100*share, g.sets[set])
	}
	return ""
}
