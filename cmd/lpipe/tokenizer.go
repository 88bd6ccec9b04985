package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/engine/tokenizer"
)

func (p *program) tokenizerCommand() *cli.Command {
	return &cli.Command{
		Name: "tokenizer", Category: categoryEngine, Usage: "make tokenizers",
		Subcommands: []*cli.Command{{
			Name: "train", Usage: "learn a byte-level BPE vocabulary", ArgsUsage: "[FILE...]",
			Description: "Reads .txt files (each paragraph is a text) and .jsonl files ({\"text\"} or {\"messages\"} a line; of other\n" +
				"objects every string), writes the files that Hugging Face's libraries read. Equal input gives equal output.",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "vocab-size", Usage: "`N` entries, control tokens included", Required: true},
				&cli.StringSliceFlag{Name: "input", Usage: "learn from `FILE` (again for more, or as arguments)"},
				&cli.StringFlag{Name: "pattern", Usage: "cut text as `NAME` does (" + strings.Join(tokenizer.Patterns[:], ", ") + "), or by a regex", Value: tokenizer.Patterns[0]},
				&cli.StringFlag{Name: "out", Usage: "folder `DIR` to write", Required: true},
			},
			Action: p.trainTokenizer,
		}},
	}
}

func (p *program) trainTokenizer(c *cli.Context) error {
	files := append(c.StringSlice("input"), c.Args().Slice()...)
	if len(files) == 0 {
		return usagef("name at least one text with --input FILE")
	}
	for i := range files {
		files[i] = p.path(files[i])
		if info, err := os.Stat(files[i]); err != nil {
			return usageError{err}
		} else if info.IsDir() {
			return usagef("%s is a folder; name the files", files[i])
		}
	}
	out := p.path(c.String("out"))
	if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return usagef("%s is not empty; choose a new folder", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return usageError{err}
	}
	t, err := tokenizer.Train(c.Context, tokenizer.TrainOptions{VocabSize: c.Int("vocab-size"), Texts: texts(files), Pattern: c.String("pattern")})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o777); err != nil {
		return err
	}
	if err := t.Save(out); err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "vocab_size": t.VocabSize(), "fingerprint": t.Fingerprint(), "out": out})
	}
	p.result("%s: %d entries, fingerprint %s", out, t.VocabSize(), t.Fingerprint())
	return nil
}

// texts gives the texts of all files, in order.
func texts(files []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				yield("", err)
				return
			}
			split := paragraphs
			if filepath.Ext(name) == ".jsonl" {
				split = stringsOfLines
			}
			more, err := split(f, func(text string) bool { return yield(text, nil) })
			f.Close()
			if err != nil {
				yield("", fmt.Errorf("read %s: %w", name, err))
				return
			}
			if !more {
				return
			}
		}
	}
}

// paragraphs cuts a text behind empty lines. Very long ones are cut at a line's end.
func paragraphs(r io.Reader, yield func(string) bool) (more bool, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	var text []byte
	for {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		text = append(text, line...)
		end := err != nil
		if len(text) > 0 && (end || len(bytes.TrimSpace(line)) == 0 || len(text) > 1<<20) {
			if !yield(string(text)) {
				return false, nil
			}
			text = text[:0]
		}
		if end {
			return true, nil
		}
	}
}

// stringsOfLines gives every string value of every line's JSON object.
func stringsOfLines(r io.Reader, yield func(string) bool) (more bool, err error) {
	in := bufio.NewReaderSize(r, 1<<20)
	for number := 1; ; number++ {
		line, err := in.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			var v any
			if err := json.Unmarshal(line, &v); err != nil {
				return false, fmt.Errorf("line %d: not JSON: %w", number, err)
			}
			var b strings.Builder
			collectStrings(v, &b)
			if b.Len() > 0 && !yield(b.String()) {
				return false, nil
			}
		}
		if err != nil {
			return true, nil
		}
	}
}

// collectStrings joins the strings in v by newlines; the roles of messages are left out.
func collectStrings(v any, b *strings.Builder) {
	switch v := v.(type) {
	case string:
		b.WriteString(v)
		b.WriteByte('\n')
	case []any:
		for _, inner := range v {
			collectStrings(inner, b)
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if name != "role" {
				collectStrings(v[name], b)
			}
		}
	}
}
