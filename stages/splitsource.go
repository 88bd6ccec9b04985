package stages

import (
	"context"
	"fmt"
	"path/filepath"

	"lpipe/dataset"
	"lpipe/runner"
)

// splitSource is what split reads: a file of rows or a token folder.
type splitSource interface {
	name() string
	unit() string
	bytes() int64 // about how many, prompts and all
	// each runs work over all batches on many goroutines, and emit over the results in order.
	each(ctx context.Context, message string, done, share float64, work func(*splitBatch) (any, error), emit func(any) error) error
	create(path string) (splitSink, error)
}

// splitSink is one of the sets.
type splitSink interface {
	take(b *splitBatch, i int) error
	Close() error
	Abandon()
}

// splitBatch is some rows, or some sequences of a token folder.
type splitBatch struct {
	rows   []dataset.Row
	batch  *dataset.Batch
	tokens *dataset.Tokens
	seqs   []dataset.Sequence // without ids and mask
	from   int                // the first sequence
	env    *runner.Env
}

// splitItem is what decides where a row goes.
type splitItem struct {
	number             int64 // from 1
	id, prompt, source string
	answer, license    string
	meta               []dataset.Pair
	batch              *splitBatch
	index              int
}

func (b *splitBatch) len() int { return len(b.rows) + len(b.seqs) }

func (b *splitBatch) item(i int) splitItem {
	if b.tokens != nil {
		s := &b.seqs[i]
		return splitItem{int64(b.from + i + 1), s.ID, s.Prompt, s.Source, s.Answer, s.License, s.Meta, b, i}
	}
	r := &b.rows[i]
	return splitItem{b.batch.Number(i), r.ID, r.Prompt(), r.Source, r.Answer, r.License, r.Meta, b, i}
}

func (b *splitBatch) where(i int) string {
	if b.tokens != nil {
		return fmt.Sprintf("sequence %d", b.from+i+1)
	}
	return b.batch.Where(i)
}

func (i splitItem) where() string { return i.batch.where(i.index) }

func (i splitItem) column(name string) (string, bool) {
	row := dataset.Row{ID: i.id, Source: i.source, License: i.license, Answer: i.answer, Meta: i.meta}
	return row.Column(name)
}

// rowSource is a file of rows.
type rowSource struct{ env *runner.Env }

func (s *rowSource) name() string { return shown(s.env, one(s.env, "data")) }
func (s *rowSource) unit() string { return "rows" }
func (s *rowSource) bytes() int64 { return fileSize(one(s.env, "data")) }

func (s *rowSource) each(ctx context.Context, message string, done, share float64, work func(*splitBatch) (any, error), emit func(any) error) error {
	rows := &pass[any]{
		env: s.env, files: paths(s.env, "data"), columns: dataset.RowColumns(), message: message, done: done, share: share,
		work: func(_ int, b *dataset.Batch) (any, error) {
			rows, err := b.Rows()
			if err != nil {
				return nil, err
			}
			return work(&splitBatch{rows: rows, batch: b, env: s.env})
		},
		emit: emit,
	}
	return rows.run(ctx)
}

func (s *rowSource) create(path string) (splitSink, error) {
	w, err := dataset.CreateRows(path)
	if err != nil {
		return nil, err
	}
	return rowSink{w}, nil
}

type rowSink struct{ *dataset.RowWriter }

func (s rowSink) take(b *splitBatch, i int) error { return s.Write(&b.rows[i]) }

// tokenSource is a token folder.
type tokenSource struct {
	env    *runner.Env
	tokens *dataset.Tokens
}

func (s *tokenSource) name() string { return shown(s.env, one(s.env, "tokens")) }
func (s *tokenSource) unit() string { return "sequences" }
func (s *tokenSource) bytes() int64 {
	return fileSize(filepath.Join(one(s.env, "tokens"), "rows.jsonl"))
}

func (s *tokenSource) each(ctx context.Context, message string, done, share float64, work func(*splitBatch) (any, error), emit func(any) error) error {
	const size = 256
	total := s.tokens.Len()
	type worked struct {
		value any
		upTo  int
	}
	return ordered(ctx, s.env.CPUs,
		func(send func(int) bool) error {
			for at := 0; at < total; at += size {
				if !send(at) {
					break
				}
			}
			return nil
		},
		func(at int) (worked, error) {
			b := &splitBatch{tokens: s.tokens, from: at, env: s.env}
			for i := at; i < min(at+size, total); i++ {
				b.seqs = append(b.seqs, s.tokens.Sequence(i))
			}
			value, err := work(b)
			return worked{value, at + len(b.seqs)}, err
		},
		func(w worked) error {
			if w.upTo%(64*size) == 0 {
				s.tokens.Forget(w.upTo)
			}
			tell(s.env, runner.Event{Done: float64(total) * (done + share*float64(w.upTo)/float64(total)), Total: float64(total), Unit: "sequences", Message: message})
			return emit(w.value)
		})
}

func (s *tokenSource) create(path string) (splitSink, error) {
	w, err := dataset.CreateTokens(path, s.tokens.Manifest())
	if err != nil {
		return nil, err
	}
	w.Manifest().Dropped = nil // counted where rows became tokens
	return &tokenSink{TokensWriter: w}, nil
}

type tokenSink struct {
	*dataset.TokensWriter
	ids  []int32
	mask []bool
}

func (s *tokenSink) take(b *splitBatch, i int) error {
	seq := b.seqs[i]
	s.ids = b.tokens.IDs(b.from+i, s.ids[:0])
	s.mask = b.tokens.Mask(b.from+i, s.mask[:0])
	seq.IDs, seq.Mask = s.ids, s.mask
	return s.Append(seq)
}
