package stages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"lpipe/dataset"
	"lpipe/runner"
)

// pass reads files of rows batch by batch, works on the batches on several goroutines, and hands the results
// on in the order of the rows: the output does not depend on the number of processors.
type pass[T any] struct {
	env     *runner.Env
	files   []string
	columns []string // to be read; nil: all
	message string   // what the person watching reads
	// share is the part of the stage's progress that this pass is, from done on: 0..1. Zero share means all.
	done, share float64
	// opened, if set, looks at each file before its first batch.
	opened func(r *dataset.Reader) error
	// work runs on many goroutines. file is the index in files.
	work func(file int, b *dataset.Batch) (T, error)
	// emit runs on one, in order.
	emit func(T) error
}

type fileBatch struct {
	file  int
	batch *dataset.Batch
	read  float64 // share of the bytes of all files
}

// worked is a batch's result with the progress that it stands for.
type worked[T any] struct {
	value T
	read  float64
}

// run does the pass. It returns the first error in the order of the rows.
func (p *pass[T]) run(ctx context.Context) error {
	reported := -1
	return ordered(ctx, p.env.CPUs,
		func(send func(fileBatch) bool) error { return p.read(ctx, send) },
		func(b fileBatch) (worked[T], error) {
			value, err := p.work(b.file, b.batch)
			return worked[T]{value, b.read}, err
		},
		func(w worked[T]) error {
			if err := p.emit(w.value); err != nil {
				return err
			}
			if percent := int(w.read * 100); percent != reported {
				reported = percent
				p.report(w.read)
			}
			return nil
		})
}

// read hands on the batches of all files until one cannot be read or send says no.
func (p *pass[T]) read(ctx context.Context, send func(fileBatch) bool) error {
	var sizes []int64
	var total, before int64
	for _, path := range p.files {
		size := fileSize(path)
		sizes = append(sizes, size)
		total += size
	}
	for i, path := range p.files {
		err := p.readFile(i, path, func(b *dataset.Batch) bool {
			read := float64(before+b.Read) / float64(max(total, 1))
			return send(fileBatch{i, b, read})
		})
		if err != nil || ctx.Err() != nil {
			return err
		}
		before += sizes[i]
	}
	return nil
}

func (p *pass[T]) readFile(i int, path string, send func(*dataset.Batch) bool) (err error) {
	r, err := dataset.OpenAs(path, shown(p.env, path), p.columns...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if p.opened != nil {
		if err := p.opened(r); err != nil {
			return err
		}
	}
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !send(b) {
			return nil
		}
	}
}

func (p *pass[T]) report(read float64) {
	share := p.share
	if share == 0 {
		share = 1
	}
	var total int64
	for _, path := range p.files {
		total += fileSize(path)
	}
	all := float64(total) / share // of the stage's passes together
	tell(p.env, runner.Event{Done: all * (p.done + share*read), Total: all, Unit: "B", Message: p.message})
}

// kept is the rows of a batch that go on, as the writer takes them.
type kept struct {
	lines []byte
	rows  []dataset.Row
	n     int
}

func (k *kept) add(w *dataset.RowWriter, r *dataset.Row) {
	if k.n++; w.Lines() {
		k.lines = dataset.AppendRow(k.lines, r)
	} else {
		k.rows = append(k.rows, *r)
	}
}

// expect makes room for rows.
func (k *kept) expect(w *dataset.RowWriter, rows []dataset.Row) {
	if !w.Lines() {
		return
	}
	size := 0
	for i := range rows {
		size += rows[i].Bytes() + 160
	}
	k.lines = slices.Grow(lineSpaces.take(), size+size/16)
}

// lineSpaces are the lines of batches that were written.
var lineSpaces spaces

// spaces hands out buffers again: of a size they come and go by the thousand.
type spaces struct{ pool sync.Pool }

func (s *spaces) take() []byte {
	if b, ok := s.pool.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return nil
}

// give takes a buffer that nobody uses any more. One that a single huge row made goes.
func (s *spaces) give(b []byte) {
	const most = 8 << 20
	if cap(b) > 0 && cap(b) <= most {
		s.pool.Put(&b)
	}
}

// remove takes out the rows of these indexes, which rise; end tells where the line of row i ends.
func (k *kept) remove(gone []int, end func(i int) int) {
	if len(gone) == 0 {
		return
	}
	if k.rows != nil {
		for n, i := range gone {
			k.rows = slices.Delete(k.rows, i-n, i-n+1)
		}
	}
	if k.lines != nil {
		to, from := 0, 0
		for _, i := range gone {
			begin := 0
			if i > 0 {
				begin = end(i - 1)
			}
			to += copy(k.lines[to:], k.lines[from:begin])
			from = end(i)
		}
		to += copy(k.lines[to:], k.lines[from:])
		k.lines = k.lines[:to]
	}
	k.n -= len(gone)
}

func (k *kept) write(w *dataset.RowWriter) error {
	if w.Lines() {
		defer lineSpaces.give(k.lines)
		return w.WriteLines(k.lines, k.n)
	}
	for i := range k.rows {
		if err := w.Write(&k.rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func tell(env *runner.Env, e runner.Event) {
	if env.Report != nil {
		env.Report(e)
	}
}

// shown is a path as messages name it: relative to the workspace where it lies inside.
func shown(env *runner.Env, path string) string {
	if rel, err := filepath.Rel(env.Dir, path); err == nil && filepath.IsLocal(rel) {
		return filepath.ToSlash(rel)
	}
	return path
}

func paths(env *runner.Env, port string) []string {
	var list []string
	for _, in := range env.In[port] {
		list = append(list, in.Path)
	}
	return list
}

func logf(env *runner.Env, format string, args ...any) {
	if env.Log != nil {
		fmt.Fprintf(env.Log, format+"\n", args...)
	}
}
