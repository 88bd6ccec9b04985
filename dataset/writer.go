package dataset

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// RowWriter writes rows as JSONL or Parquet, by the extension. The file stands at its path only after Close.
type RowWriter struct {
	path    string
	file    *eagerFile
	buf     *bufio.Writer
	parquet *parquet.GenericWriter[parquetRow]
	scratch []byte
	pending int // bytes of the row group being made
	rows    int64
}

// parquetRow is a row in Parquet.
type parquetRow struct {
	ID       string           `parquet:"id"`
	Messages []parquetMessage `parquet:"messages,list"`
	Answer   *string          `parquet:"answer,optional"`
	Source   *string          `parquet:"source,optional,dict"`
	License  *string          `parquet:"license,optional,dict"`
	Tools    *string          `parquet:"tools,optional"`
	Meta     *string          `parquet:"meta,optional"`
	Flags    []string         `parquet:"flags,list"`
}

type parquetMessage struct {
	Role      string  `parquet:"role,dict"`
	Content   string  `parquet:"content"`
	ToolCalls *string `parquet:"tool_calls,optional"`
}

// groupBytes bounds a row group: it is what the writer keeps in memory.
const groupBytes = 32 << 20

// CreateRows makes a file of rows at path: .jsonl, .ndjson or .parquet.
func CreateRows(path string) (*RowWriter, error) {
	ext := strings.ToLower(filepath.Ext(path))
	if ext != ".jsonl" && ext != ".ndjson" && ext != ".parquet" {
		return nil, fmt.Errorf("write rows: %s: rows are written as .jsonl or .parquet, not %q", path, ext)
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("write rows: %w", err)
	}
	const enough = 64 << 10 // what stages write at once is larger, and mostly passes by
	w := &RowWriter{path: path, file: &eagerFile{File: file}}
	w.buf = bufio.NewWriterSize(w.file, enough)
	if ext == ".parquet" {
		w.parquet = parquet.NewGenericWriter[parquetRow](w.buf,
			parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
			parquet.CreatedBy("lpipe", "1", "rows"),
			parquet.PageBufferSize(1<<20))
	}
	return w, nil
}

// Lines says whether the file is JSONL, which WriteLines takes.
func (w *RowWriter) Lines() bool { return w.parquet == nil }

// Rows is how many rows were written.
func (w *RowWriter) Rows() int64 { return w.rows }

// Write adds a row.
func (w *RowWriter) Write(r *Row) error {
	if w.parquet == nil {
		w.scratch = AppendRow(w.scratch[:0], r)
		return w.WriteLines(w.scratch, 1)
	}
	w.rows++
	if _, err := w.parquet.Write([]parquetRow{toParquet(r)}); err != nil {
		return fmt.Errorf("write rows %s: %w", w.path, err)
	}
	if w.pending += r.Bytes(); w.pending >= groupBytes {
		w.pending = 0
		if err := w.parquet.Flush(); err != nil {
			return fmt.Errorf("write rows %s: %w", w.path, err)
		}
	}
	return nil
}

// WriteLines adds rows that AppendRow made. Only for JSONL.
func (w *RowWriter) WriteLines(lines []byte, rows int) error {
	w.rows += int64(rows)
	if _, err := w.buf.Write(lines); err != nil {
		return fmt.Errorf("write rows %s: %w", w.path, err)
	}
	return nil
}

func toParquet(r *Row) parquetRow {
	p := parquetRow{ID: r.ID, Flags: r.Flags, Answer: optional(r.Answer), Source: optional(r.Source), License: optional(r.License), Tools: optional(string(r.Tools))}
	for i := range r.Messages {
		m := &r.Messages[i]
		p.Messages = append(p.Messages, parquetMessage{m.Role, m.Content, optional(string(m.ToolCalls))})
	}
	if len(r.Meta) > 0 {
		const prefix = `,"meta":`
		p.Meta = optional(string(appendMeta(nil, r.Meta)[len(prefix):]))
	}
	return p
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Close puts the file, synced, at its path.
func (w *RowWriter) Close() error {
	var err error
	if w.parquet != nil {
		err = w.parquet.Close()
	}
	if err == nil {
		err = w.buf.Flush()
	}
	if err == nil {
		err = w.file.Chmod(0o644)
	}
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	if err == nil {
		err = os.Rename(w.file.Name(), w.path)
	}
	if err != nil {
		os.Remove(w.file.Name())
		return fmt.Errorf("write rows %s: %w", w.path, err)
	}
	return nil
}

// Abandon removes what was written. After Close it does nothing.
func (w *RowWriter) Abandon() {
	if w.file.Close() == nil {
		os.Remove(w.file.Name())
	}
}
