package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"lpipe/engine/tokenizer"
)

func (p *program) tokenizeCommand() *cli.Command {
	return &cli.Command{
		Name: "tokenize", Category: categoryEngine, Usage: "turn text or chats into token ids, or ids into text",
		Description: "A .txt input is one text, newlines and all. A .jsonl input (also standard input) holds {\"text\"}, or\n" +
			"{\"messages\", \"tools\", \"add_generation_prompt\"}, a line; with --decode {\"ids\"}. Output: JSONL, in order.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "tokenizer", Usage: "model folder `DIR` with tokenizer.json, or vocab.json and merges.txt", Required: true},
			&cli.StringFlag{Name: "input", Usage: "read `FILE` instead of standard input"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write `FILE` instead of standard output"},
			&cli.BoolFlag{Name: "parse-special", Usage: "read control-token text in content as control tokens"},
			&cli.BoolFlag{Name: "decode", Usage: "ids to text"},
			&cli.BoolFlag{Name: "skip-special", Usage: "with --decode: leave special tokens out"},
			&cli.IntFlag{Name: "threads", Usage: "encode with `N` threads", Value: 1},
			&cli.IntFlag{Name: "passes", Usage: "encode `N` times in one process, to measure", Value: 1},
			&cli.BoolFlag{Name: "stats-json", Usage: "print bytes, tokens and seconds as the last line of stdout"},
		},
		Action: p.tokenize,
	}
}

func (p *program) tokenize(c *cli.Context) error {
	if c.Int("threads") < 1 || c.Int("passes") < 1 {
		return usagef("--threads and --passes must be at least 1")
	}
	start := time.Now()
	t, err := tokenizer.Load(p.path(c.String("tokenizer")))
	if err != nil {
		return err
	}
	j := &tokenizeJob{
		tokenizer: t, decode: c.Bool("decode"), skipSpecial: c.Bool("skip-special"), parseSpecial: c.Bool("parse-special"),
		keep: c.Int("passes") > 1, stats: tokenizeStats{LoadSeconds: time.Since(start).Seconds()},
	}
	for range c.Int("threads") {
		j.encoders = append(j.encoders, t.NewEncoder())
	}
	in, name, err := p.tokenizeInput(c.String("input"))
	if err != nil {
		return err
	}
	defer in.Close()
	if err := p.writeTokens(c, j, in, name); err != nil {
		return err
	}
	if n := j.replaced(); n > 0 {
		p.warn("%s: %d ill-formed UTF-8 sequences became U+FFFD", name, n)
	}
	if err := j.repeat(c.Context, c.Int("passes")); err != nil {
		return err
	}
	if c.Bool("stats-json") {
		return p.printJSONLine(j.stats)
	}
	return nil
}

// tokenizeInput opens the input; a folder or a missing file is the user's mistake.
func (p *program) tokenizeInput(path string) (io.ReadCloser, string, error) {
	if path == "" || path == "-" {
		return io.NopCloser(p.stdin), "standard input", nil
	}
	f, err := os.Open(p.path(path))
	if err != nil {
		return nil, "", usageError{err}
	}
	return f, path, nil
}

// writeTokens reads, encodes and writes batch by batch, so that memory does not grow with the input.
func (p *program) writeTokens(c *cli.Context, j *tokenizeJob, in io.Reader, name string) error {
	out, done := io.Writer(p.stdout), func(error) error { return nil }
	if path := c.String("output"); path != "" {
		f, finish, err := atomicFile(p.path(path))
		if err != nil {
			return err
		}
		out, done = f, finish
	}
	w := bufio.NewWriterSize(out, 1<<20)
	err := j.run(c.Context, in, name, filepath.Ext(name) == ".txt", w)
	if err == nil {
		err = w.Flush()
	}
	if finished := done(err); err == nil {
		err = finished
	}
	return err
}

// A tokenizeJob is one call of `lpipe tokenize`.
type tokenizeJob struct {
	tokenizer                         *tokenizer.Tokenizer
	encoders                          []*tokenizer.Encoder // one a thread
	decode, skipSpecial, parseSpecial bool
	keep                              bool // keep the batches for further passes
	kept                              [][]*tokenizeItem
	stats                             tokenizeStats
	inJSON                            int64 // ill-formed UTF-8 that reading JSON has replaced already
}

// tokenizeStats is what --stats-json prints: encoding alone, of the first pass; warm is the last pass.
type tokenizeStats struct {
	Bytes          int64   `json:"bytes"`
	Tokens         int64   `json:"tokens"`
	Seconds        float64 `json:"seconds"`
	CPUSeconds     float64 `json:"cpu_seconds"`
	LoadSeconds    float64 `json:"load_seconds"`
	WarmSeconds    float64 `json:"warm_seconds"`
	WarmCPUSeconds float64 `json:"warm_cpu_seconds"`
}

// tokenizeItem is one input line, or one part of a text file, and what became of it.
type tokenizeItem struct {
	text  string
	chat  *tokenizer.Chat
	ids   []int32 // input of --decode, else output
	out   tokenizer.Rendered
	plain []byte // output of --decode
	parts int    // of a text file: how many items, from this one on, make one line of output
}

const batchBytes = 16 << 20

func (j *tokenizeJob) run(ctx context.Context, in io.Reader, name string, whole bool, w *bufio.Writer) error {
	next := j.lines(in, name)
	if whole && !j.decode {
		next = wholeText(j.tokenizer, in)
	}
	for {
		batch, err := next()
		if err != nil || len(batch) == 0 {
			return err
		}
		seconds, cpu, err := j.encode(ctx, batch)
		if err != nil {
			return err
		}
		j.stats.Seconds, j.stats.CPUSeconds = j.stats.Seconds+seconds, j.stats.CPUSeconds+cpu
		j.stats.WarmSeconds, j.stats.WarmCPUSeconds = j.stats.Seconds, j.stats.CPUSeconds
		for i := 0; i < len(batch); i += max(1, batch[i].parts) {
			j.count(batch[i : i+max(1, batch[i].parts)])
			j.write(w, batch[i:i+max(1, batch[i].parts)])
		}
		if j.keep {
			j.kept = append(j.kept, batch)
		}
	}
}

// repeat encodes the kept batches again, passes-1 times; the last pass is the warm one.
func (j *tokenizeJob) repeat(ctx context.Context, passes int) error {
	for range passes - 1 {
		j.stats.WarmSeconds, j.stats.WarmCPUSeconds = 0, 0
		for _, batch := range j.kept {
			seconds, cpu, err := j.encode(ctx, batch)
			if err != nil {
				return err
			}
			j.stats.WarmSeconds, j.stats.WarmCPUSeconds = j.stats.WarmSeconds+seconds, j.stats.WarmCPUSeconds+cpu
		}
	}
	return nil
}

// encode works through a batch with all encoders, item k by whichever comes first: what an item becomes does
// not depend on who does it.
func (j *tokenizeJob) encode(ctx context.Context, batch []*tokenizeItem) (seconds, cpu float64, err error) {
	start, startCPU := time.Now(), processCPU()
	if len(j.encoders) == 1 {
		err = j.encodeWith(ctx, j.encoders[0], batch, func() func() int { i := -1; return func() int { i++; return i } }())
	} else {
		var g errgroup.Group
		queue := make(chan int, len(batch))
		for i := range batch {
			queue <- i
		}
		close(queue)
		for _, e := range j.encoders {
			g.Go(func() error {
				return j.encodeWith(ctx, e, batch, func() int {
					if i, ok := <-queue; ok {
						return i
					}
					return len(batch)
				})
			})
		}
		err = g.Wait()
	}
	return time.Since(start).Seconds(), processCPU() - startCPU, err
}

func (j *tokenizeJob) encodeWith(ctx context.Context, e *tokenizer.Encoder, batch []*tokenizeItem, next func() int) error {
	for i := next(); i < len(batch); i = next() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		item := batch[i]
		switch {
		case j.decode:
			item.plain = j.tokenizer.Decode(item.plain[:0], item.ids, j.skipSpecial)
		case item.chat != nil:
			out, err := e.Render(*item.chat)
			if err != nil {
				return err
			}
			item.out = out
		default:
			item.out.IDs = e.Encode(item.out.IDs[:0], item.text, j.parseSpecial)
		}
	}
	return nil
}

func (j *tokenizeJob) count(items []*tokenizeItem) {
	for _, item := range items {
		j.stats.Bytes += int64(len(item.text) + len(item.out.Text) + len(item.plain))
		j.stats.Tokens += int64(len(item.out.IDs))
		if j.decode {
			j.stats.Tokens += int64(len(item.ids))
		}
	}
}

// replaced counts ill-formed UTF-8 in what was encoded so far.
func (j *tokenizeJob) replaced() int64 {
	n := j.inJSON
	for _, e := range j.encoders {
		n += e.Replaced()
	}
	return n
}

// write prints one line of output for the items, which are the parts of one input.
func (j *tokenizeJob) write(w *bufio.Writer, items []*tokenizeItem) {
	if j.decode {
		line, _ := json.Marshal(string(items[0].plain)) // a string always marshals
		fmt.Fprintf(w, "{\"text\":%s}\n", line)
		return
	}
	w.WriteString(`{"ids":[`)
	var number []byte
	first := true
	for _, item := range items {
		for _, id := range item.out.IDs {
			number = number[:0]
			if !first {
				number = append(number, ',')
			}
			first = false
			w.Write(strconv.AppendInt(number, int64(id), 10))
		}
	}
	w.WriteByte(']')
	if items[0].chat != nil {
		writeChat(w, items[0].out)
	}
	w.WriteString("}\n")
}

func writeChat(w *bufio.Writer, out tokenizer.Rendered) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	_ = e.Encode(out.Text) // a string always encodes
	fmt.Fprintf(w, `,"text":%s,"mask":[`, bytes.TrimSpace(text.Bytes()))
	for i, on := range out.Mask {
		if i > 0 {
			w.WriteByte(',')
		}
		if on {
			w.WriteByte('1')
		} else {
			w.WriteByte('0')
		}
	}
	w.WriteByte(']')
}

// lines returns a reader of batches of JSONL; blank lines are passed over, a broken one is named.
func (j *tokenizeJob) lines(in io.Reader, name string) func() ([]*tokenizeItem, error) {
	r, number, eof := bufio.NewReaderSize(in, 1<<20), 0, false
	return func() ([]*tokenizeItem, error) {
		var batch []*tokenizeItem
		for size := 0; size < batchBytes && !eof; {
			line, err := r.ReadBytes('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			eof = err != nil
			number++
			size += len(line)
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			j.inJSON += illFormed(line)
			item, err := j.parse(line)
			if err != nil {
				return nil, usagef("%s line %d: %w", name, number, err)
			}
			batch = append(batch, item)
		}
		return batch, nil
	}
}

// illFormed counts the bytes of a line that are no UTF-8.
func illFormed(line []byte) (n int64) {
	if utf8.Valid(line) {
		return 0
	}
	for len(line) > 0 {
		r, size := utf8.DecodeRune(line)
		if r == utf8.RuneError && size == 1 {
			n++
		}
		line = line[size:]
	}
	return n
}

func (j *tokenizeJob) parse(line []byte) (*tokenizeItem, error) {
	var row struct {
		Text *string
		IDs  []int32
		tokenizer.Chat
	}
	if err := json.Unmarshal(line, &row); err != nil {
		return nil, fmt.Errorf("not a JSON object of the expected form: %w", err)
	}
	switch {
	case j.decode && row.IDs != nil:
		return &tokenizeItem{ids: row.IDs}, nil
	case j.decode:
		return nil, errors.New(`--decode needs {"ids": [...]}`)
	case row.Messages != nil:
		row.ParseSpecial = j.parseSpecial
		return &tokenizeItem{chat: &row.Chat}, nil
	case row.Text != nil:
		return &tokenizeItem{text: *row.Text}, nil
	}
	return nil, errors.New(`needs {"text"} or {"messages"}`)
}

// wholeText reads a text file as one text, in parts that several threads can encode.
func wholeText(t *tokenizer.Tokenizer, in io.Reader) func() ([]*tokenizeItem, error) {
	done := false
	return func() ([]*tokenizeItem, error) {
		if done {
			return nil, nil
		}
		done = true
		var data strings.Builder // the text is there once, however it came
		if f, ok := in.(*os.File); ok {
			if info, err := f.Stat(); err == nil {
				data.Grow(int(info.Size()))
			}
		}
		if _, err := io.Copy(&data, in); err != nil {
			return nil, err
		}
		var parts []*tokenizeItem
		for rest := data.String(); ; {
			cut := t.Cut(rest, 1<<20)
			parts = append(parts, &tokenizeItem{text: rest[:cut]})
			if rest = rest[cut:]; rest == "" {
				break
			}
		}
		parts[0].parts = len(parts)
		return parts, nil
	}
}
