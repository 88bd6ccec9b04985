package stages

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"lpipe/dataset"
	"lpipe/runner"
)

// report is the output report of validate, schema 1. It names rows by number and id, no paths: it must be the
// same wherever the pipeline runs.
type report struct {
	Schema   int           `json:"schema"`
	Rows     int64         `json:"rows"`
	Kept     int64         `json:"kept"`
	Dropped  int64         `json:"dropped"`
	Failed   int64         `json:"failed"` // with an error, whatever on_fail made of them
	Warned   int64         `json:"warned"` // with warnings only
	Replaced int64         `json:"invalid_utf8"`
	OnFail   string        `json:"on_fail"`
	Checks   []checkReport `json:"checks"`
	// Funnel is how many rows are left behind each check with severity error, a row being taken out by the
	// first that it fails.
	Funnel     []funnelStep    `json:"funnel"`
	Histograms []histogramJSON `json:"histograms"`
	// Sources are the rows by source and licence, most rows first; beyond the first hundred under "others".
	Sources []sourceReport `json:"sources"`
	// Duplicates are the clusters of near duplicates; left out where nobody looked for them.
	Duplicates *duplicatesReport `json:"duplicates,omitempty"`
	// Answers are the rows whose answer is that of their reference, is another, or cannot be compared.
	Answers answersReport `json:"answers"`
	// Success says whether each check found no more than its mostly allows.
	Success    bool        `json:"success"`
	Comparison *comparison `json:"comparison,omitempty"` // with the input before

	examples int
	checks   *checker
	taken    [checkCount]int64
	first    [checkCount]string
	sizes    [6]histogram
	tokens   bool
	sources  map[sourceKey]sourceCount
	verdicts [verdicts]int64
}

// reportSchema is the version of the report: fields may be added, none renamed or given another meaning.
const reportSchema = 1

type checkReport struct {
	Check    string    `json:"check"`
	Severity string    `json:"severity"`
	Found    int64     `json:"found"`
	Share    float64   `json:"share"`
	Mostly   float64   `json:"mostly,omitempty"` // share of rows that must pass
	Success  bool      `json:"success"`
	Examples []example `json:"examples,omitempty"`
}

// duplicatesReport counts clusters of two rows and more, and names the largest by their first rows.
type duplicatesReport struct {
	Clusters int64           `json:"clusters"`
	Rows     int64           `json:"rows"` // in them
	Largest  []clusterReport `json:"largest"`
}

type clusterReport struct {
	Row  int64 `json:"row"`
	Rows int64 `json:"rows"`
}

type answersReport struct {
	Agree        int64 `json:"agree"`
	Disagree     int64 `json:"disagree"`
	Unverifiable int64 `json:"unverifiable"`
}

type example struct {
	Row      int64  `json:"row"`
	ID       string `json:"id"`
	Evidence string `json:"evidence"`
}

type funnelStep struct {
	Check string `json:"check"`
	Taken int64  `json:"taken"`
	Left  int64  `json:"left"`
}

func newReport(v *Validate, c *checker, tokens bool) *report {
	r := &report{Schema: reportSchema, OnFail: v.OnFail, examples: v.Examples, checks: c, tokens: tokens, sources: map[sourceKey]sourceCount{}}
	for i, name := range checkNames {
		severity := c.severities[i]
		if i == checkNear && !v.NearDuplicates.On || i == checkContamination && c.against == nil {
			severity = "off"
		}
		mostly := v.Checks.mostly()[i]
		if v.OnFail == "fail" && severity == "error" && mostly == 0 {
			mostly = 1
		}
		r.Checks = append(r.Checks, checkReport{Check: name, Severity: severity, Mostly: mostly})
	}
	return r
}

// add counts a batch. Batches come in the order of rows, so that the examples are the first ones.
func (r *report) add(j *judged) {
	r.Rows += j.rows
	r.Kept += int64(j.kept.n)
	r.Replaced += j.replaced
	r.addSizes(j.sizes)
	r.countSources(j.sources)
	r.addFindings(j.found)
}

// addSizes counts the sizes of rows, and what comparing their answers came to.
func (r *report) addSizes(list []sizes) {
	for _, s := range list {
		for i, n := range [...]int{s.prompt, s.think, s.response, s.promptTokens, s.responseTokens, s.totalTokens} {
			r.sizes[i].add(n)
		}
		r.verdicts[s.answer]++
	}
}

func (r *report) addFindings(found []rowFindings) {
	for _, row := range found {
		failed := false
		for _, f := range row.found {
			check := &r.Checks[f.check]
			if check.Found++; len(check.Examples) < r.examples {
				check.Examples = append(check.Examples, example{row.number, row.id, f.evidence})
			}
			if check.Severity == "error" && !failed {
				failed = true
				if r.taken[f.check]++; r.first[f.check] == "" {
					r.first[f.check] = fmt.Sprintf("%s, id %q: %s", row.where, row.id, f.evidence)
				}
			}
		}
		if failed {
			r.Failed++
		} else {
			r.Warned++
		}
		if row.dropped {
			r.Dropped++
		}
	}
}

func (r *report) finish() {
	left := r.Rows
	r.Success = true
	r.Answers = answersReport{r.verdicts[agrees], r.verdicts[disagrees], r.verdicts[unverifiable]}
	for i := range r.Checks {
		check := &r.Checks[i]
		check.Success = float64(check.Found) <= (1-check.Mostly)*float64(r.Rows)+1e-9
		r.Success = r.Success && check.Success
		check.Share = math.Round(1e6*float64(check.Found)/float64(max(r.Rows, 1))) / 1e6
		if check.Severity == "error" {
			left -= r.taken[i]
			r.Funnel = append(r.Funnel, funnelStep{check.Check, r.taken[i], left})
		}
	}
	r.Sources = r.listSources()
	names := [...]string{"prompt", "reasoning", "response", "prompt", "response", "conversation"}
	for i := range r.sizes {
		unit := "characters"
		if i >= 3 {
			unit = "tokens"
		}
		if i < 3 || r.tokens {
			r.Histograms = append(r.Histograms, r.sizes[i].json(names[i], unit))
		}
	}
}

func (r *report) log(env *runner.Env) {
	logf(env, "validated %d rows: %d go on, %d dropped", r.Rows, r.Kept, r.Dropped)
	if r.Replaced > 0 {
		logf(env, "  %d rows held invalid UTF-8, replaced with U+FFFD", r.Replaced)
	}
	verb := map[string]string{"drop": "dropped", "flag": "flagged", "fail": "failed"}[r.OnFail]
	for i, check := range r.Checks {
		switch {
		case check.Severity == "error" && r.taken[i] > 0:
			logf(env, "  %d %s: %s (first: %s)", r.taken[i], verb, check.Check, r.first[i])
		case check.Severity == "warn" && check.Found > 0:
			one := ""
			if len(check.Examples) > 0 {
				one = fmt.Sprintf(" (first: row %d, id %q: %s)", check.Examples[0].Row, check.Examples[0].ID, check.Examples[0].Evidence)
			}
			logf(env, "  %d with a warning: %s%s", check.Found, check.Check, one)
		}
	}
}

// reasons is the counts of errors in one line.
func (r *report) reasons() string {
	t := newTally()
	for i, n := range r.taken {
		t.add(checkNames[i], n, "")
	}
	return t.String()
}

// tooMany is the error of checks that found more than their mostly allows, nil without any.
func (r *report) tooMany(path string) error {
	var lines []string
	for _, check := range r.Checks {
		if check.Success {
			continue
		}
		line := fmt.Sprintf("%s found %d rows, %.2f %%, and mostly = %g allows %.2f %%", check.Check, check.Found, 100*check.Share, check.Mostly, 100*(1-check.Mostly))
		for i, one := range check.Examples {
			if i == 0 {
				line += fmt.Sprintf(" (first: row %d, id %q: %s)", one.Row, one.ID, one.Evidence)
			}
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", path, strings.Join(lines, "\n  "))
}

// tolerated says whether every check with an error found no more than its mostly allows.
func (r *report) tolerated() bool {
	for _, check := range r.Checks {
		if check.Severity == "error" && !check.Success {
			return false
		}
	}
	return true
}

// failure is the error of on_fail = "fail".
func (r *report) failure(path string) error {
	var first []string
	for i, where := range r.first {
		if where != "" && len(first) < 5 {
			first = append(first, checkNames[i]+": "+where)
		}
	}
	return fmt.Errorf("%s: %d of %d rows fail (%s):\n  %s", path, r.Failed, r.Rows, r.reasons(), strings.Join(first, "\n  "))
}

// write writes the outputs report and html, where they are declared.
func (r *report) write(env *runner.Env) error {
	var errs []error
	if path := env.Out["report"]; path != "" {
		raw, err := json.MarshalIndent(r, "", " ")
		if err == nil {
			err = writeFile(path, append(raw, '\n'))
		}
		errs = append(errs, err)
	}
	if path := env.Out["html"]; path != "" {
		page, err := r.page()
		if err == nil {
			err = writeFile(path, page)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// rejectLine is a line of the output rejects.
type rejectLine struct {
	Row      int64           `json:"row"`
	ID       string          `json:"id"`
	Check    string          `json:"check"`
	Evidence string          `json:"evidence"`
	Also     []rejectFinding `json:"also,omitempty"`
	Data     json.RawMessage `json:"data"`
}

type rejectFinding struct {
	Check    string `json:"check"`
	Evidence string `json:"evidence"`
}

// appendReject appends a row's line: its first error, what else was found, and the row.
func appendReject(b []byte, number int64, row *dataset.Row, found []finding, c *checker) []byte {
	line := rejectLine{Row: number, ID: row.ID, Data: dataset.AppendRow(nil, row)}
	for _, f := range found {
		if line.Check == "" && c.severities[f.check] == "error" {
			line.Check, line.Evidence = checkNames[f.check], f.evidence
			continue
		}
		line.Also = append(line.Also, rejectFinding{checkNames[f.check], f.evidence})
	}
	var text strings.Builder
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	_ = out.Encode(line) // plain types only
	return append(b, text.String()...)
}
