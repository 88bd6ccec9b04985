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
	h, inside := uint64(offset), false
	end := func() {
		if inside {
			dst = append(dst, mix(h))
			h, inside = offset, false
		}
	}
	for i := 0; i < len(text); {
		r, size := rune(text[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[i:])
		}
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z':
			h, inside = (h^uint64(r))*prime, true
		case r >= 'A' && r <= 'Z':
			h, inside = (h^uint64(r|0x20))*prime, true
		case r <= ' ', r == ',' || r == ';' || r == ':' || r == '?' || r == '"' || r == '\'' || r == '’' || r == '“' || r == '”':
			end()
		case r == '.':
			if i+1 < len(text) && inside && text[i+1] >= '0' && text[i+1] <= '9' {
				h = (h ^ '.') * prime
			} else {
				end()
			}
		case r >= 0x2e80 || r < utf8.RuneSelf:
			end()
			h, inside = (h^uint64(r))*prime, true
			end()
		case unicode.IsSpace(r):
			end()
		default:
			h, inside = (h^uint64(unicode.ToLower(r)))*prime, true
		}
		i += size
	}
	end()
	return dst
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// shingles replaces words, in place, by the hashes of their n-grams: one for all if they are fewer than n.
func shingles(words []uint64, n int) []uint64 {
	if len(words) == 0 {
		return words
	}
	n = min(n, len(words))
	count := len(words) - n + 1
	for i := range count {
		h := uint64(n)
		for _, w := range words[i : i+n] {
			h = mix(h ^ w)
		}
		words[i] = h
	}
	return words[:count]
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
