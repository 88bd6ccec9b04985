package stages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lpipe/dataset"
	"lpipe/runner"
)

// Preprocess cleans the texts of rows and drops repeated ones.
type Preprocess struct {
	Normalize          string   `hcl:"normalize,optional" doc:"Unicode form of the texts: nfc, nfkc, or none"`
	RepairMojibake     bool     `hcl:"repair_mojibake,optional" doc:"undo UTF-8 that was read as Windows-1252 or Latin-1 (CafÃ©, â€œ), up to three times over"`
	StripControl       bool     `hcl:"strip_control,optional" doc:"remove control, zero-width and direction characters and terminal escapes; CR LF becomes LF"`
	CollapseWhitespace bool     `hcl:"collapse_whitespace,optional" doc:"one blank for many, at most one empty line, none at the ends; code, LaTeX and indentation stay"`
	StripHTML          bool     `hcl:"strip_html,optional" doc:"remove HTML tags and comments, decode entities; code and LaTeX stay"`
	Dedupe             Dedupe   `hcl:"dedupe,optional" type:"string or bool" doc:"drop a row whose prompt (prompt, true), or prompt and response (row), stood in an earlier row, whatever the case and blanks; none or false: keep all"`
	Redact             []string `hcl:"redact,optional" doc:"what to replace by [email], [ip]: email, ip (public addresses)"`
	Examples           int      `hcl:"examples,optional" unit:"rows" doc:"rows that the report shows for each rule"`
}

// Dedupe is the setting dedupe: prompt, row or none; true and false stand for prompt and none.
type Dedupe string

// UnmarshalJSON reads a text or a bool.
func (d *Dedupe) UnmarshalJSON(b []byte) error {
	var on bool
	if json.Unmarshal(b, &on) == nil {
		if *d = "none"; on {
			*d = "prompt"
		}
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errors.New("takes prompt, row, none, true or false")
	}
	*d = Dedupe(text)
	return nil
}

func preprocessKind() *runner.Kind {
	return &runner.Kind{
		Name:    "preprocess",
		Doc:     "Normalisation and cleaning of texts, exact duplicates dropped.",
		Version: 1,
		In:      []runner.Port{{Name: "data", Doc: "rows"}},
		Out: []runner.Port{
			{Name: "data", Ext: ".jsonl", Doc: "rows, as JSONL or Parquet by extension"},
			{Name: "report", Optional: true, Ext: ".json", Doc: "what each rule changed or dropped, with examples"},
		},
		New: func() runner.Stage {
			return &Preprocess{Normalize: "nfc", StripControl: true, CollapseWhitespace: true, Dedupe: "prompt", Examples: 3}
		},
	}
}

// Check finds settings that do not fit together.
func (p *Preprocess) Check() error {
	if err := among("normalize", p.Normalize, "nfc", "nfkc", "none"); err != nil {
		return err
	}
	if err := among("dedupe", string(p.Dedupe), "prompt", "row", "none"); err != nil {
		return err
	}
	if p.Examples < 0 || p.Examples > 100 {
		return fmt.Errorf("examples: must be 0..100, not %d", p.Examples)
	}
	for _, what := range p.Redact {
		if err := among("redact", what, "email", "ip"); err != nil {
			return err
		}
	}
	return nil
}

// Run cleans. With dedupe the rows are read twice: first to find the repeated ones, then to write the others.
func (p *Preprocess) Run(ctx context.Context, env *runner.Env) error {
	repeated := &duplicates{}
	if p.Dedupe != "none" {
		var err error
		if repeated, err = p.findRepeated(ctx, env); err != nil {
			return err
		}
	}
	out, err := dataset.CreateRows(env.Out["data"])
	if err != nil {
		return err
	}
	defer out.Abandon()
	var read int64
	rep := newRuleReport(p)
	rows := &pass[cleaned]{
		env: env, files: paths(env, "data"), columns: dataset.RowColumns(), message: "cleaning",
		done: repeated.share, share: 1 - repeated.share,
		work: func(_ int, b *dataset.Batch) (cleaned, error) { return p.clean(out, b, repeated) },
		emit: func(v cleaned) error {
			read += v.read
			rep.merge(v.rules)
			return v.write(out)
		},
	}
	if err := rows.run(ctx); err != nil {
		return err
	}
	if err := anyRows(env, read); err != nil {
		return err
	}
	logf(env, "cleaned %d rows of %d", out.Rows(), read)
	rep.log(env)
	if err := rep.write(env.Out["report"], read, out.Rows()); err != nil {
		return err
	}
	return out.Close()
}

// anyRows refuses an input without rows.
func anyRows(env *runner.Env, read int64) error {
	if read > 0 {
		return nil
	}
	path := shown(env, one(env, "data"))
	return fmt.Errorf("%s: no rows in it: look at what the stage before dropped, or whether it is the right file", path)
}

// cleaned is what became of a batch.
type cleaned struct {
	kept
	read  int64
	rules *ruleReport
}

func (p *Preprocess) clean(out *dataset.RowWriter, b *dataset.Batch, repeated *duplicates) (cleaned, error) {
	v := cleaned{rules: newRuleReport(p)}
	rows, err := b.Rows()
	if err != nil {
		return v, err
	}
	v.read = int64(len(rows))
	if n, first := b.Replaced(); n > 0 {
		v.rules.count(ruleEncoding, n, b.Where(first))
		v.rules.show(ruleEncoding, b.Number(first), &rows[first], "", "")
	}
	c := cleaner{settings: p}
	for i := range rows {
		row := &rows[i]
		if repeated.drop.has(b.Number(i)) {
			v.rules.count(ruleRepeated, 1, b.Where(i))
			v.rules.show(ruleRepeated, b.Number(i), row, row.Prompt(), "")
			continue
		}
		c.begin(v.rules)
		for m := range row.Messages {
			row.Messages[m].Content = c.clean(row.Messages[m].Content)
		}
		if row.Answer != "" {
			row.Answer = c.clean(row.Answer)
		}
		for rule := range ruleRepeated {
			if c.did>>rule&1 == 1 {
				v.rules.count(rule, 1, b.Where(i))
				v.rules.show(rule, b.Number(i), row, c.before[rule], c.after[rule])
			}
		}
		v.add(out, row)
	}
	return v, nil
}

func (d Dedupe) what() string {
	if d == "row" {
		return "prompt and response"
	}
	return "prompt"
}

// duplicates is the rows to drop, by number, and how much of the stage's work finding them was.
type duplicates struct {
	drop  rowSet
	share float64
}

// findRepeated finds the rows whose cleaned prompt an earlier row had. Rows without a prompt are left to
// validate.
func (p *Preprocess) findRepeated(ctx context.Context, env *runner.Env) (*duplicates, error) {
	sorted := newSorter(env.Scratch)
	defer sorted.close()
	const share = 0.4 // reading without writing, of both passes together
	rows := &pass[[]pair]{
		env: env, files: paths(env, "data"), columns: []string{"messages"}, message: "looking for duplicates", share: share,
		work: func(_ int, b *dataset.Batch) ([]pair, error) { return p.hashes(b) },
		emit: func(pairs []pair) error {
			for _, one := range pairs {
				if err := sorted.add(one); err != nil {
					return err
				}
			}
			return nil
		},
	}
	if err := rows.run(ctx); err != nil {
		return nil, err
	}
	d := &duplicates{share: share}
	for same, err := range sorted.groups() {
		if err != nil {
			return nil, err
		}
		for _, row := range same[1:] {
			d.drop.set(int64(row))
		}
	}
	return d, ctx.Err()
}

func (p *Preprocess) hashes(b *dataset.Batch) ([]pair, error) {
	rows, err := b.Rows()
	if err != nil {
		return nil, err
	}
	c := cleaner{settings: p}
	pairs := make([]pair, 0, len(rows))
	for i := range rows {
		text := c.clean(rows[i].Prompt())
		if strings.TrimSpace(text) == "" {
			continue
		}
		if p.Dedupe == "row" {
			text += "\x00" + c.clean(rows[i].Response())
		}
		hi, lo := promptHash(text)
		pairs = append(pairs, pair{hi, lo, uint64(b.Number(i))})
	}
	return pairs, nil
}
