package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lpipe/dataset"
	"lpipe/runner"
)

// Convert makes rows of files of the usual shapes.
type Convert struct {
	Format      string            `hcl:"format" doc:"shape of the rows: r1-distill-sft, alpaca, sharegpt, messages, gsm8k, or columns"`
	Columns     map[string]string `hcl:"columns,optional" doc:"for format columns: which column holds prompt and response (or messages), and system, reasoning, answer, id, source as far as there are such; or a text with columns in braces: \"{title}\\n\\n{items[0].text|body}\""`
	Keep        []string          `hcl:"keep,optional" doc:"further columns to carry along in meta; split can go by them"`
	License     string            `hcl:"license,optional" doc:"licence of the rows, as hubs name it (cc-by-nc-sa-4.0); none: what the card says. It goes with each row, into the report and the trained adapter's card"`
	Limit       int64             `hcl:"limit,optional" unit:"rows" doc:"stop after so many rows; 0: take all"`
	CrossCheck  bool              `hcl:"cross_check,optional" doc:"r1-distill-sft v1: compare the answer with its copy in reannotated_assistant_content and flag rows where they differ"`
	InvalidUTF8 string            `hcl:"invalid_utf8,optional" doc:"bytes that are not UTF-8: fail, or replace them with U+FFFD"`
	BadRows     string            `hcl:"bad_rows,optional" doc:"rows that cannot be read (a broken line of JSON): fail, or skip them"`
}

func convertKind() *runner.Kind {
	return &runner.Kind{
		Name:    "convert",
		Doc:     "Rows of any usual shape to questions and answers.",
		Version: 1,
		Shared:  true,
		In: []runner.Port{
			{Name: "raw", List: true, Doc: "files of rows: " + dataset.Extensions + ", also behind .gz and .zst; or folders of them, whose README.md is their card"},
			{Name: "card", Optional: true, Doc: "card of the data set (README.md), which names its licence"},
		},
		Out: []runner.Port{{Name: "data", Ext: ".jsonl", Doc: "rows, as JSONL or Parquet by extension"}},
		New: func() runner.Stage {
			return &Convert{CrossCheck: true, InvalidUTF8: "fail", BadRows: "fail"}
		},
	}
}

// columnRoles are the names that the setting columns may map.
var columnRoles = []string{"prompt", "response", "reasoning", "system", "messages", "answer", "id", "source"}

// Check finds settings that do not fit together.
func (c *Convert) Check() error {
	if !slices.Contains(formatNames(), c.Format) {
		return fmt.Errorf("format: %q is not one of %s", c.Format, strings.Join(formatNames(), ", "))
	}
	if c.Limit < 0 {
		return errors.New("limit: must not be negative")
	}
	if err := among("invalid_utf8", c.InvalidUTF8, "fail", "replace"); err != nil {
		return err
	}
	if err := among("bad_rows", c.BadRows, "fail", "skip"); err != nil {
		return err
	}
	if c.Format != "columns" {
		if len(c.Columns) > 0 {
			return fmt.Errorf("columns: only format = \"columns\" takes them, not %q", c.Format)
		}
		return nil
	}
	for role, column := range c.Columns {
		if !slices.Contains(columnRoles, role) {
			return fmt.Errorf("columns: %q is not one of %s", role, strings.Join(columnRoles, ", "))
		}
		if column == "" {
			return fmt.Errorf("columns: %s names no column", role)
		}
		if _, err := parseMapping(column); err != nil {
			return fmt.Errorf("columns: %s: %w", role, err)
		}
	}
	if c.Columns["messages"] == "" && (c.Columns["prompt"] == "" || c.Columns["response"] == "") {
		return errors.New("columns: name the columns of prompt and response, or the one of messages")
	}
	return nil
}

func among(setting, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s: %q is not one of %s", setting, value, strings.Join(allowed, ", "))
}

// converted is what became of a batch.
type converted struct {
	kept
	ends    []int // where each row ends in lines; only with a limit
	dropped *tally
	flagged *tally
	seen    int64
}

// errLimit ends a pass early.
var errLimit = errors.New("enough rows")

// Run converts.
func (c *Convert) Run(ctx context.Context, env *runner.Env) error {
	files, err := rawFiles(env)
	if err != nil {
		return err
	}
	license, err := c.licenseOf(env)
	if err != nil {
		return err
	}
	format := c.formatOf()
	out, err := dataset.CreateRows(env.Out["data"])
	if err != nil {
		return err
	}
	defer out.Abandon()

	dropped, flagged := newTally(), newTally()
	var seen, written int64
	p := &pass[converted]{
		env: env, files: files, message: "converting",
		columns: append(format.columns(), c.Keep...),
		opened:  func(r *dataset.Reader) error { return format.checkColumns(r, c.Keep) },
		work: func(_ int, b *dataset.Batch) (converted, error) {
			return c.convert(format, license, out, b)
		},
		emit: func(v converted) error {
			if left := c.Limit - written; c.Limit > 0 && int64(v.n) > left {
				v.cut(int(left))
			}
			seen += v.seen
			dropped.merge(v.dropped)
			flagged.merge(v.flagged)
			if err := v.write(out); err != nil {
				return err
			}
			if written += int64(v.n); c.Limit > 0 && written >= c.Limit {
				return errLimit
			}
			return nil
		},
	}
	if err := p.run(ctx); err != nil && !errors.Is(err, errLimit) {
		return err
	}
	if err := c.judge(env, format, seen, written, dropped); err != nil {
		return err
	}
	logf(env, "converted %d rows of %d", written, seen)
	if license != "" {
		logf(env, "  licence: %s", license)
	}
	dropped.log(env, "dropped")
	flagged.log(env, "flagged")
	return out.Close()
}

// judge refuses an output without a row: what follows could only fail less clearly.
func (c *Convert) judge(env *runner.Env, f *format, seen, written int64, dropped *tally) error {
	if written > 0 {
		return nil
	}
	var names []string
	for _, path := range paths(env, "raw") {
		names = append(names, shown(env, path))
	}
	if seen == 0 {
		return fmt.Errorf("%s: no rows in it: is it the right file?", strings.Join(names, ", "))
	}
	name := dropped.names()[0]
	return fmt.Errorf("%s: none of %d rows could be converted as %s: %s (first: %s)", strings.Join(names, ", "), seen, c.Format, name, dropped.first[name])
}

// convert makes rows of a batch.
func (c *Convert) convert(f *format, license string, out *dataset.RowWriter, b *dataset.Batch) (converted, error) {
	v := converted{dropped: newTally(), flagged: newTally()}
	records, bad, err := b.RecordsAnd(c.BadRows == "skip")
	if err != nil {
		return v, fmt.Errorf("%w: mend or remove it, or set bad_rows = \"skip\"", err)
	}
	for _, err := range bad {
		v.dropped.add("cannot be read", 1, err.Error())
	}
	v.seen = int64(len(records) + len(bad))
	v.lines = lineSpaces.take()
	if n, first := b.Replaced(); n > 0 {
		if c.InvalidUTF8 == "fail" {
			return v, fmt.Errorf("%s holds bytes that are not UTF-8: make the file UTF-8 (iconv -f WINDOWS-1252 -t UTF-8 for many), or set invalid_utf8 = \"replace\" to have U+FFFD in their place", b.Where(first))
		}
		v.flagged.add("invalid UTF-8 replaced with U+FFFD", n, b.Where(first))
	}
	for i, record := range records {
		row, reason := f.row(record)
		if reason != "" {
			v.dropped.add(reason, 1, b.Where(i))
			continue
		}
		row.License = license
		for _, name := range c.Keep {
			row.Meta = append(row.Meta, dataset.Pair{Name: name, Value: record.Get(name).String()})
		}
		slices.SortFunc(row.Meta, func(a, b dataset.Pair) int { return strings.Compare(a.Name, b.Name) })
		for _, flag := range row.Flags {
			v.flagged.add(flag, 1, b.Where(i))
		}
		v.add(out, &row)
		if c.Limit > 0 {
			v.ends = append(v.ends, len(v.lines))
		}
	}
	return v, nil
}

// cut keeps the first n rows.
func (v *converted) cut(n int) {
	if v.n = n; v.rows != nil {
		v.rows = v.rows[:n]
		return
	}
	v.lines = v.lines[:v.ends[n-1]]
}
