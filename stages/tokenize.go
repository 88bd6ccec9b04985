package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"lpipe/dataset"
	"lpipe/engine/tokenizer"
	"lpipe/runner"
)

// Tokenize renders rows with the chat template and writes ids and loss mask.
type Tokenize struct {
	System     string `hcl:"system,optional" doc:"text of the system turn; for whom, system_mode says"`
	SystemMode string `hcl:"system_mode,optional" doc:"keep: the row's system turn, else system, else the template's default; replace: system for every row; none: no system turn"`
	MaxTokens  int    `hcl:"max_tokens,optional" unit:"tokens" doc:"longest sequence"`
	TrainOn    string `hcl:"train_on,optional" doc:"tokens with loss: assistant (every assistant turn), last (the last one), all"`
	Overlong   string `hcl:"overlong,optional" doc:"a longer row: drop it, truncate it, or split it into several sequences"`
}

func tokenizeKind() *runner.Kind {
	return &runner.Kind{
		Name:    "tokenize",
		Doc:     "Chat template, token ids and loss mask.",
		Version: 1,
		Shared:  true,
		In: []runner.Port{
			{Name: "data", Doc: "rows"},
			{Name: "tokenizer", Doc: "model folder: tokenizer and chat template are read, weights are not", Reads: tokenizerFiles},
			{Name: "template", Optional: true, Doc: "a chat template (Jinja) instead of the model's"},
		},
		Out: []runner.Port{{Name: "tokens", Folder: true, Doc: "token folder, with the fingerprints of tokenizer and template, and the rows' answers"}},
		New: func() runner.Stage {
			return &Tokenize{SystemMode: "keep", MaxTokens: 4096, TrainOn: "assistant", Overlong: "drop"}
		},
	}
}

// Check finds settings that do not fit together.
func (t *Tokenize) Check() error {
	if err := among("system_mode", t.SystemMode, "keep", "replace", "none"); err != nil {
		return err
	}
	if t.SystemMode == "none" && t.System != "" {
		return errors.New(`system: system_mode = "none" leaves no place for a text; take one of the two away`)
	}
	if t.MaxTokens < 2 {
		return fmt.Errorf("max_tokens: must be at least 2, not %d", t.MaxTokens)
	}
	if err := among("train_on", t.TrainOn, "assistant", "all", "last"); err != nil {
		return err
	}
	return among("overlong", t.Overlong, "drop", "truncate", "split")
}

// tokenized is what became of a batch.
type tokenized struct {
	sequences []dataset.Sequence
	rows      int
	dropped   *tally
	changed   *tally
}

// Run tokenises.
func (t *Tokenize) Run(ctx context.Context, env *runner.Env) error {
	tok, err := t.load(env)
	if err != nil {
		return err
	}
	out, err := dataset.CreateTokens(env.Out["tokens"], dataset.Manifest{
		Tokenizer: tok.Fingerprint(),
		Template:  tok.TemplateFingerprint(),
		VocabSize: tok.VocabSize(),
		MaxTokens: t.MaxTokens,
		TrainOn:   t.TrainOn,
	})
	if err != nil {
		return err
	}
	defer out.Abandon()
	dropped, changed := newTally(), newTally()
	read := 0
	rows := &pass[tokenized]{
		env: env, files: paths(env, "data"), columns: dataset.RowColumns(), message: "tokenising",
		work: func(_ int, b *dataset.Batch) (tokenized, error) { return t.tokenize(tok, b) },
		emit: func(v tokenized) error {
			for i := range v.sequences {
				v.sequences[i].Row += read
				if err := out.Append(v.sequences[i]); err != nil {
					return err
				}
			}
			read += v.rows
			dropped.merge(v.dropped)
			changed.merge(v.changed)
			return nil
		},
	}
	if err := rows.run(ctx); err != nil {
		return err
	}
	if err := t.verdict(env, out.Manifest(), read, dropped); err != nil {
		return err
	}
	dropped.log(env, "dropped")
	changed.log(env, "changed")
	return out.Close()
}

// nothingToTrain is why a row is dropped whose labels are all masked.
const nothingToTrain = "nothing to train on"

// remedy says what would let rows through that were dropped.
func (t *Tokenize) remedy(dropped *tally) string {
	switch {
	case dropped.counts[nothingToTrain] > 0:
		return fmt.Sprintf(": a row needs an assistant's turn, within its first %d tokens (max_tokens); train_on = \"all\" trains on the others too", t.MaxTokens)
	case dropped.counts[t.tooLong()] > 0:
		return ": raise max_tokens, or set overlong"
	}
	return ""
}

// tooLong is why a row is dropped that max_tokens is too small for.
func (t *Tokenize) tooLong() string { return fmt.Sprintf("longer than %d tokens", t.MaxTokens) }

// verdict says what came out, and refuses a folder without a sequence.
func (t *Tokenize) verdict(env *runner.Env, m *dataset.Manifest, read int, dropped *tally) error {
	if err := anyRows(env, int64(read)); err != nil {
		return err
	}
	if m.Sequences == 0 {
		return fmt.Errorf("%s: not one of %d rows became a sequence: %s%s", shown(env, one(env, "data")), read, dropped, t.remedy(dropped))
	}
	m.Dropped = dropped.counts
	logf(env, "tokenised %d rows into %d sequences, %d tokens, %d of them trained on; the longest has %d", read, m.Sequences, m.Tokens, m.Trained, m.Longest)
	return nil
}

func (t *Tokenize) load(env *runner.Env) (*tokenizer.Tokenizer, error) {
	tok, err := tokenizer.Load(one(env, "tokenizer"))
	if err != nil {
		return nil, err
	}
	path := one(env, "template")
	if path == "" {
		return tok, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read template: %w", err)
	}
	return tok.WithTemplate(shown(env, path), string(text))
}

func (t *Tokenize) tokenize(tok *tokenizer.Tokenizer, b *dataset.Batch) (tokenized, error) {
	v := tokenized{dropped: newTally(), changed: newTally()}
	rows, err := b.Rows()
	if err != nil {
		return v, err
	}
	v.rows = len(rows)
	if n, first := b.Replaced(); n > 0 {
		v.changed.add("invalid UTF-8 replaced with U+FFFD", n, b.Where(first))
	}
	for i := range rows {
		row := &rows[i]
		if len(row.Messages) == 0 {
			v.dropped.add("no messages", 1, b.Where(i))
			continue
		}
		chat, err := t.chat(row)
		if err != nil {
			return v, fmt.Errorf("%s: %w", b.Where(i), err)
		}
		r, err := tok.Render(chat)
		if err != nil {
			return v, fmt.Errorf("%s: %w", b.Where(i), err)
		}
		if r.Dropped > 0 {
			v.changed.add("turns left out: the template does not know their role", 1, b.Where(i))
		}
		s := dataset.Sequence{IDs: r.IDs, Mask: r.Mask, Row: i, ID: row.ID, Answer: row.Answer, Source: row.Source, License: row.License, Prompt: row.Prompt(), Meta: row.Meta}
		v.add(t, s, b.Where(i))
	}
	return v, nil
}

// chat is a row as the template takes it.
func (t *Tokenize) chat(row *dataset.Row) (tokenizer.Chat, error) {
	chat := tokenizer.Chat{NoSystem: t.SystemMode == "none"}
	switch t.TrainOn {
	case "last":
		chat.TrainOn = tokenizer.TrainLast
	case "all":
		chat.TrainOn = tokenizer.TrainAll
	}
	own := row.Messages[0].Role == dataset.System
	if t.System != "" && (t.SystemMode == "replace" || t.SystemMode == "keep" && !own) {
		chat.Messages = append(chat.Messages, tokenizer.Message{Role: dataset.System, Content: t.System})
	}
	for i := range row.Messages {
		m := &row.Messages[i]
		if i == 0 && own && t.SystemMode != "keep" {
			continue
		}
		chat.Messages = append(chat.Messages, tokenizer.Message{Role: m.Role, Content: m.Content, ToolCalls: m.ToolCalls})
	}
	if len(row.Tools) > 0 {
		if err := json.Unmarshal(row.Tools, &chat.Tools); err != nil {
			return chat, fmt.Errorf("tools is no list: %w", err)
		}
	}
	return chat, nil
}

// add takes a row's sequence, cut as overlong says, unless nothing of it is trained on.
func (v *tokenized) add(t *Tokenize, s dataset.Sequence, where string) {
	if len(s.IDs) > t.MaxTokens {
		switch t.Overlong {
		case "drop":
			v.dropped.add(t.tooLong(), 1, where)
			return
		case "truncate":
			s.IDs, s.Mask = s.IDs[:t.MaxTokens], s.Mask[:t.MaxTokens]
			v.changed.add(fmt.Sprintf("truncated to %d tokens", t.MaxTokens), 1, where)
		case "split":
			v.split(t.MaxTokens, s, where)
			return
		}
	}
	if !trained(s.Mask) {
		v.dropped.add(nothingToTrain, 1, where)
		return
	}
	v.sequences = append(v.sequences, s)
}

// split cuts a sequence into windows. What has nothing to train on, as a long prompt, falls away.
func (v *tokenized) split(size int, s dataset.Sequence, where string) {
	parts := 0
	for at := 0; at < len(s.IDs); at += size {
		part := s
		end := min(at+size, len(s.IDs))
		part.IDs, part.Mask = s.IDs[at:end], s.Mask[at:end]
		if trained(part.Mask) {
			v.sequences = append(v.sequences, part)
			parts++
		}
	}
	if parts == 0 {
		v.dropped.add(nothingToTrain, 1, where)
		return
	}
	v.changed.add(fmt.Sprintf("split into sequences of %d tokens", size), 1, where)
}

// trained says whether a target is left: the first token of a sequence is predicted by nothing.
func trained(mask []bool) bool {
	for _, on := range mask[1:] {
		if on {
			return true
		}
	}
	return false
}
