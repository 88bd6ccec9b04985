package stages

import (
	"encoding/json"
	"fmt"

	"lpipe/dataset"
	"lpipe/runner"
)

// The rules of preprocess, in the order in which they are applied to a text; behind ruleRepeated those of whole rows.
const (
	ruleMojibake = iota
	ruleControl
	ruleNormalize
	ruleHTML
	ruleWhitespace
	ruleEmail
	ruleIP
	ruleRepeated
	ruleEncoding
	rules
)

// ruleNames are what report and log call them.
var ruleNames = [rules]struct{ name, text string }{
	{"repair_mojibake", "wrong decoding repaired"},
	{"strip_control", "control characters removed"},
	{"normalize", "Unicode form"},
	{"strip_html", "HTML removed"},
	{"collapse_whitespace", "whitespace"},
	{"redact_email", "e-mail addresses redacted"},
	{"redact_ip", "IP addresses redacted"},
	{"dedupe", "the same as an earlier row"},
	{"invalid_utf8", "invalid UTF-8 replaced with U+FFFD"},
}

// ruleReport counts what each rule did, and keeps its first examples. It is the output report of preprocess, schema 1.
type ruleReport struct {
	settings *Preprocess
	rows     [rules]int64
	first    [rules]string // where
	examples [rules][]ruleExample
}

// ruleExample is a row that a rule changed: around the first place, before and after, quoted; or a row that it dropped.
type ruleExample struct {
	Row    int64  `json:"row"`
	ID     string `json:"id"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
}

func newRuleReport(p *Preprocess) *ruleReport { return &ruleReport{settings: p} }

func (r *ruleReport) count(rule int, n int64, where string) {
	if r.rows[rule] == 0 {
		r.first[rule] = where
	}
	r.rows[rule] += n
}

// show keeps an example, as long as some are wanted. A text to be shown whole has no after.
func (r *ruleReport) show(rule int, number int64, row *dataset.Row, before, after string) {
	if len(r.examples[rule]) >= r.settings.Examples {
		return
	}
	if rule == ruleRepeated {
		before = excerpt(before, 0, 80)
	}
	r.examples[rule] = append(r.examples[rule], ruleExample{number, row.ID, before, after})
}

func (r *ruleReport) log(env *runner.Env) {
	for rule, n := range r.rows {
		if n == 0 {
			continue
		}
		verb, what := "changed", ruleNames[rule].text
		if rule == ruleRepeated {
			verb, what = "dropped", "the same "+r.settings.Dedupe.what()+" as an earlier row"
		}
		shown := ""
		if len(r.examples[rule]) > 0 && r.examples[rule][0].After != "" {
			shown = ": " + r.examples[rule][0].Before + " → " + r.examples[rule][0].After
		}
		logf(env, "  %d %s: %s (first: %s%s)", n, verb, what, r.first[rule], shown)
	}
}

// write writes the output report, where it is declared.
func (r *ruleReport) write(path string, read, kept int64) error {
	if path == "" {
		return nil
	}
	type ruleJSON struct {
		Rule     string        `json:"rule"`
		Rows     int64         `json:"rows"`
		Examples []ruleExample `json:"examples"`
	}
	out := struct {
		Schema  int        `json:"schema"`
		Rows    int64      `json:"rows"`
		Kept    int64      `json:"kept"`
		Dropped int64      `json:"dropped"`
		Rules   []ruleJSON `json:"rules"`
	}{Schema: 1, Rows: read, Kept: kept, Dropped: read - kept}
	for rule, name := range ruleNames {
		examples := r.examples[rule]
		if examples == nil {
			examples = []ruleExample{}
		}
		out.Rules = append(out.Rules, ruleJSON{name.name, r.rows[rule], examples})
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err == nil {
		err = writeFile(path, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
