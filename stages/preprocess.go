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
		Shared:  true,
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

// Run cleans. Rows that stood before are told by their hashes in memory; of very many rows they are found in a pass of their own.
func (p *Preprocess) Run(ctx context.Context, env *runner.Env) error {
	var found *duplicates
	if p.Dedupe != "none" {
		err := p.run(ctx, env, &duplicates{seen: newHashSet(hashesInMemory)})
		if !errors.Is(err, errCrowded) {
			return err
		}
		logf(env, "more than %d rows: their duplicates are found in a pass of their own", hashesInMemory)
		if found, err = p.findRepeated(ctx, env); err != nil {
			return err
		}
	}
	return p.run(ctx, env, found)
}

// run cleans and writes, without the duplicates that are known or told on the way; nil: all rows stay.
func (p *Preprocess) run(ctx context.Context, env *runner.Env, repeated *duplicates) error {
	if repeated == nil {
		repeated = &duplicates{}
	}
	out, err := dataset.CreateRows(env.Out["data"])
	if err != nil {
		return err
	}
	defer out.Abandon()
	var read int64
	rep := newRuleReport(p)
	rows := &pass[*cleaned]{
		env: env, files: paths(env, "data"), columns: dataset.RowColumns(), message: "cleaning",
		done: repeated.share, share: 1 - repeated.share,
		work: func(_ int, b *dataset.Batch) (*cleaned, error) { return p.clean(out, b, repeated.seen != nil) },
		emit: func(v *cleaned) error {
			read += int64(len(v.rows))
			if err := v.settle(repeated, rep); err != nil {
				return err
			}
			return v.kept.write(out)
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

// cleaned is what became of a batch, all of its rows still in it.
type cleaned struct {
	kept
	batch *dataset.Batch
	rows  []cleanedRow
	shown []shownChange
}

// cleanedRow is what is to be known of a row once those before it are settled.
type cleanedRow struct {
	row    *dataset.Row
	hash   pair // of what may not stand twice; empty without a prompt
	did    uint // rules that changed it, as bits
	end    int  // of its line in kept
	number int64
}

// shownChange is the first place that a rule changed in a row.
type shownChange struct {
	row, rule     int
	before, after string
}

// spare is how many more examples a batch keeps than are wanted: their rows may turn out to be duplicates.
const spare = 4

func (p *Preprocess) clean(out *dataset.RowWriter, b *dataset.Batch, hashed bool) (*cleaned, error) {
	rows, err := b.Rows()
	if err != nil {
		return nil, err
	}
	v := &cleaned{batch: b, rows: make([]cleanedRow, len(rows))}
	v.kept.expect(out, rows)
	c := cleaner{settings: p}
	var shown [rules]int
	for i := range rows {
		row := &rows[i]
		c.did, c.wanted = 0, 0
		for rule := range shown {
			if shown[rule] < spare*p.Examples {
				c.wanted |= 1 << rule
			}
		}
		for m := range row.Messages {
			row.Messages[m].Content = c.clean(row.Messages[m].Content)
		}
		if row.Answer != "" {
			row.Answer = c.clean(row.Answer)
		}
		for rule := range ruleRepeated {
			if bit := uint(1) << rule; c.did&c.wanted&bit != 0 {
				shown[rule]++
				v.shown = append(v.shown, shownChange{i, rule, c.before[rule], c.after[rule]})
			}
		}
		one := cleanedRow{row: row, did: c.did, number: b.Number(i)}
		if hashed {
			one.hash = p.hash(row)
		}
		v.kept.add(out, row)
		one.end = len(v.kept.lines)
		v.rows[i] = one
	}
	return v, nil
}

// hash is that of a clean row's prompt, or prompt and response; none without a prompt: that is left to validate.
func (p *Preprocess) hash(row *dataset.Row) (h pair) {
	text := row.Prompt()
	if strings.TrimSpace(text) == "" {
		return h
	}
	if p.Dedupe == "row" {
		text += "\x00" + row.Response()
	}
	h.hi, h.lo = promptHash(text)
	return h
}

// settle takes the rows of the batch in hand that stood before out of it, and counts what the rules did to the others.
func (v *cleaned) settle(repeated *duplicates, rep *ruleReport) error {
	if n, first := v.batch.Replaced(); n > 0 {
		rep.count(ruleEncoding, n, v.batch.Where(first))
		rep.show(ruleEncoding, v.batch.Number(first), v.rows[first].row, "", "")
	}
	var gone []int
	shown := v.shown
	for i := range v.rows {
		one := &v.rows[i]
		stood, err := repeated.stood(one)
		if err != nil {
			return err
		}
		if stood {
			gone = append(gone, i)
			rep.count(ruleRepeated, 1, v.batch.Where(i))
			rep.show(ruleRepeated, one.number, one.row, one.row.Prompt(), "")
		}
		for rule := 0; one.did>>rule != 0 && !stood; rule++ {
			if one.did>>rule&1 == 1 {
				rep.count(rule, 1, v.batch.Where(i))
			}
		}
		for ; len(shown) > 0 && shown[0].row == i; shown = shown[1:] {
			if !stood {
				rep.show(shown[0].rule, one.number, one.row, shown[0].before, shown[0].after)
			}
		}
	}
	v.kept.remove(gone, func(i int) int { return v.rows[i].end })
	return nil
}

func (d Dedupe) what() string {
	if d == "row" {
		return "prompt and response"
	}
	return "prompt"
}

// duplicates tells the rows that stood before: by the hashes seen so far, or by number, and then how much of the stage's work
// finding them was.
type duplicates struct {
	seen  *hashSet
	drop  rowSet
	share float64
}

func (d *duplicates) stood(row *cleanedRow) (bool, error) {
	if d.seen == nil {
		return d.drop.has(row.number), nil
	}
	if row.hash == (pair{}) {
		return false, nil
	}
	return d.seen.add(row.hash.hi, row.hash.lo)
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
	for same, err := range sorted.groups(ctx) {
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
		for m := range rows[i].Messages {
			if role := rows[i].Messages[m].Role; role == dataset.User || p.Dedupe == "row" {
				rows[i].Messages[m].Content = c.clean(rows[i].Messages[m].Content)
			}
		}
		if h := p.hash(&rows[i]); h != (pair{}) {
			h.row = uint64(b.Number(i))
			pairs = append(pairs, h)
		}
	}
	return pairs, nil
}
