package stages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"lpipe/dataset"
	"lpipe/engine/tokenizer"
	"lpipe/runner"
)

// Validate checks rows, and drops, flags or refuses those that fail.
type Validate struct {
	Checks         Checks         `hcl:"checks,optional" doc:"the checks, each with severity and limits"`
	OnFail         string         `hcl:"on_fail,optional" doc:"what an error does: drop the row, flag it (the row keeps the check's name in flags), or fail the stage (where a check's mostly allows some, those are dropped)"`
	NearDuplicates NearDuplicates `hcl:"near_duplicates,optional" type:"bool, number or object" doc:"drop rows whose prompt is like an earlier row's that passed: true, a threshold, or { threshold = 0.8, shingle = 5 } (similarity of word shingles)"`
	Examples       int            `hcl:"examples,optional" unit:"rows" doc:"rows that the report shows for each check"`
}

// tokenizerFiles are the files of a model folder that decide ids and chat template.
var tokenizerFiles = []string{"tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "chat_template.jinja"}

func validateKind() *runner.Kind {
	return &runner.Kind{
		Name:    "validate",
		Doc:     "Quality checks and filters, with a report.",
		Version: 2, // 2: rolling hashes of n-grams
		Shared:  true,
		In: []runner.Port{
			{Name: "data", Doc: "rows"},
			{Name: "tokenizer", Optional: true, Doc: "model folder: lengths are counted in its tokens too", Reads: tokenizerFiles},
			{Name: "before", Optional: true, Doc: "report (JSON) of an earlier run: the new one tells what changed"},
			{Name: "against", Optional: true, List: true, Doc: "test sets whose questions may not stand in the rows: files of rows, or with a column problem, question, prompt, instruction"},
		},
		Out: []runner.Port{
			{Name: "data", Ext: ".jsonl", Doc: "the rows that go on, as JSONL or Parquet by extension"},
			{Name: "rejects", Optional: true, Ext: ".jsonl", Doc: "rows with an error: number, check, evidence, the row itself"},
			{Name: "report", Optional: true, Ext: ".json", Doc: "counts, examples, histograms"},
			{Name: "html", Optional: true, Ext: ".html", Doc: "the report as a page"},
		},
		New: func() runner.Stage {
			near := defaultNear()
			near.On = false
			return &Validate{Checks: defaultChecks(), OnFail: "drop", NearDuplicates: near, Examples: 3}
		},
	}
}

// Check finds settings that do not fit together.
func (v *Validate) Check() error {
	if err := among("on_fail", v.OnFail, "drop", "flag", "fail"); err != nil {
		return err
	}
	if v.Examples < 0 || v.Examples > 100 {
		return fmt.Errorf("examples: must be 0..100, not %d", v.Examples)
	}
	if err := v.NearDuplicates.check("near_duplicates"); err != nil {
		return err
	}
	return v.Checks.check()
}

// Run checks. What needs other rows (ids, near duplicates) is found in a first pass over the file.
func (v *Validate) Run(ctx context.Context, env *runner.Env) error {
	c, err := v.checker(ctx, env)
	if err != nil {
		return err
	}
	rep := newReport(v, c, one(env, "tokenizer") != "")
	before, err := readReport(env, one(env, "before"))
	if err != nil {
		return err
	}
	across, err := v.acrossRows(ctx, env, c, rep)
	if err != nil {
		return err
	}
	defer across.close()
	out, err := dataset.CreateRows(env.Out["data"])
	if err != nil {
		return err
	}
	defer out.Abandon()
	rejects, err := createLines(env.Out["rejects"])
	if err != nil {
		return err
	}
	defer rejects.abandon()
	rows := &pass[*judged]{
		env: env, files: paths(env, "data"), columns: dataset.RowColumns(), message: "validating",
		done: across.share, share: 1 - across.share,
		work: func(_ int, b *dataset.Batch) (*judged, error) { return v.judge(c, across, out, b) },
		emit: func(j *judged) error {
			rep.add(j)
			return errors.Join(j.kept.write(out), rejects.write(j.rejects))
		},
	}
	if err := rows.run(ctx); err != nil {
		return err
	}
	rep.finish()
	rep.Duplicates = across.duplicates()
	rep.Comparison = compareReports(before, rep)
	if err := v.verdict(env, rep); err != nil {
		return err
	}
	if err := errors.Join(rejects.close(), rep.write(env)); err != nil {
		return err
	}
	return out.Close()
}

// verdict finishes the report and says whether the stage fails.
func (v *Validate) verdict(env *runner.Env, rep *report) error {
	if err := anyRows(env, rep.Rows); err != nil {
		return err
	}
	rep.log(env)
	data := shown(env, one(env, "data"))
	if v.OnFail == "fail" && rep.Failed > 0 && !rep.tolerated() {
		return rep.failure(data)
	}
	if err := rep.tooMany(data); err != nil {
		return err
	}
	if rep.Kept == 0 {
		return fmt.Errorf("%s: not one of %d rows passed: %s", data, rep.Rows, rep.reasons())
	}
	return nil
}

func (v *Validate) checker(ctx context.Context, env *runner.Env) (*checker, error) {
	c := &checker{checks: &v.Checks, severities: v.Checks.severities()}
	if dir := one(env, "tokenizer"); dir != "" {
		var err error
		if c.tokenizer, err = tokenizer.Load(dir); err != nil {
			return nil, err
		}
	}
	limits := v.Checks.Tokens
	if c.tokenizer == nil && (limits.MaxPrompt > 0 || limits.MaxResponse > 0 || limits.MaxTotal > 0 || limits.MinBytes > 0 || limits.MaxBytes > 0) && limits.Severity != "off" {
		return nil, errors.New("checks.tokens sets limits, but there is no tokenizer to count with: name a model folder as the input tokenizer")
	}
	if files := paths(env, "against"); len(files) > 0 && c.severities[checkContamination] != "off" {
		var err error
		if c.against, err = readNGrams(ctx, env, files, v.Checks.Contamination.NGram); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// measure counts characters, and tokens if there is a tokenizer.
func (c *checker) measure(r *view) (s sizes, err error) {
	asked := false
	for i := range r.Messages {
		switch text := r.Messages[i].Content; r.Messages[i].Role {
		case dataset.User:
			if s.prompt += r.marks[i].characters(text); asked {
				s.prompt++ // the newline between two questions
			}
			asked = true
		case dataset.Assistant: // the last one stays
			m := &r.marks[i]
			s.response, s.think = m.characters(text), 0
			if m.opens > 0 {
				if end := strings.Index(text[m.open:], thinkClose); end >= 0 {
					s.think = m.characters(text[m.open+len(thinkOpen) : m.open+end])
				}
			}
		}
	}
	if c.tokenizer == nil || c.severities[checkTokens] == "off" {
		return s, nil
	}
	for i := range r.Messages {
		n := len(c.tokenizer.Encode(nil, r.Messages[i].Content, false))
		s.totalTokens += n + turnTokens
		s.contentTokens += n
		s.bytes += len(r.Messages[i].Content)
		if i == len(r.Messages)-1 && r.Messages[i].Role == dataset.Assistant {
			s.responseTokens = n
		} else {
			s.promptTokens += n
		}
	}
	return s, nil
}

// turnTokens is what Qwen's chat template puts around a turn: <|im_start|>, role, newline, <|im_end|>, newline.
const turnTokens = 5

// judged is what became of a batch.
type judged struct {
	kept
	rejects  []byte
	rows     int64
	replaced int64
	found    []rowFindings
	sizes    []sizes
	sources  map[sourceKey]sourceCount
}

// rowFindings is the findings of a row that has any.
type rowFindings struct {
	number  int64
	id      string
	where   string
	dropped bool
	found   []finding
}

func (v *Validate) judge(c *checker, a *across, out *dataset.RowWriter, b *dataset.Batch) (*judged, error) {
	rows, err := b.Rows()
	if err != nil {
		return nil, err
	}
	j := &judged{rows: int64(len(rows)), sources: map[sourceKey]sourceCount{}}
	j.replaced, _ = b.Replaced()
	j.kept.expect(out, rows)
	for i := range rows {
		row := &rows[i]
		number := b.Number(i)
		var found []finding
		if !a.checked || a.noted.has(number) {
			var size sizes
			if found, size, err = c.row(row); err != nil {
				return nil, fmt.Errorf("%s: %w", b.Where(i), err)
			}
			if !a.checked {
				j.sizes = append(j.sizes, size)
			}
		}
		others, err := a.find(number, row, b.Unit())
		if err != nil {
			return nil, err
		}
		found = append(found, others...)
		failed := c.fails(found)
		j.count(row, !failed || !v.drops())
		if len(found) == 0 {
			j.kept.add(out, row)
			continue
		}
		j.found = append(j.found, rowFindings{number, row.ID, b.Where(i), failed && v.drops(), found})
		if failed {
			j.rejects = appendReject(j.rejects, number, row, found, c)
		}
		if failed && v.drops() {
			continue
		}
		if v.OnFail == "flag" {
			row.Flags = flagged(row.Flags, found, c)
		}
		j.kept.add(out, row)
	}
	return j, nil
}

// drops says whether a row with an error stays behind.
func (v *Validate) drops() bool { return v.OnFail != "flag" }

// flagged adds the names of the checks that a row failed to its flags.
func flagged(flags []string, found []finding, c *checker) []string {
	for _, f := range found {
		if c.severities[f.check] == "error" && f.check != checkFlags {
			flags = append(flags[:len(flags):len(flags)], checkNames[f.check])
		}
	}
	return flags
}

// lines is an output of JSON lines that may be left out.
type lines struct{ file *os.File }

func createLines(path string) (*lines, error) {
	if path == "" {
		return &lines{}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("write rejects: %w", err)
	}
	return &lines{f}, nil
}

func (l *lines) write(b []byte) error {
	if l.file == nil || len(b) == 0 {
		return nil
	}
	if _, err := l.file.Write(b); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

func (l *lines) close() error {
	if l.file == nil {
		return nil
	}
	if err := errors.Join(l.file.Sync(), l.file.Close()); err != nil {
		return fmt.Errorf("write rejects: %w", err)
	}
	return nil
}

func (l *lines) abandon() {
	if l.file != nil {
		l.file.Close()
	}
}
