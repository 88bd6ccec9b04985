package stages

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/dataset"
)

// dirtSheet is r1-sample.dirty.json: what is wrong on purpose with which row.
type dirtSheet struct {
	Rows  int
	Dirty []struct {
		Index int
		ID    string
		Kind  string
		Of    *int
	}
}

// The way of the real sample, with the real tokenizer, from Parquet to token sets: every row that was made
// dirty on purpose is found, and by the stage that should find it.
func TestSampleFromConvertToSplit(t *testing.T) {
	shared := sharedDir(t)
	b := newBench(t)
	raw := filepath.Join(shared, "data/gsm8k/r1-sample.parquet")
	var sheet dirtSheet
	text, err := os.ReadFile(filepath.Join(shared, "data/gsm8k/r1-sample.dirty.json"))
	if err == nil {
		err = json.Unmarshal(text, &sheet)
	}
	if err != nil {
		t.Fatal(err)
	}

	qa := b.path("qa.jsonl")
	convert := stageOf[*Convert](t, "convert")
	convert.Format = "r1-distill-sft"
	b.in["raw"], b.out["data"] = []string{raw}, qa
	b.must(convert)
	converted := readRows(t, qa)

	clean := b.path("clean.jsonl")
	b.in, b.out = map[string][]string{"data": {qa}}, map[string]string{"data": clean}
	b.must(stageOf[*Preprocess](t, "preprocess"))
	cleaned := readRows(t, clean)

	checked := b.path("checked.parquet")
	validate := stageOf[*Validate](t, "validate")
	validate.Checks.Boxed.Required = true
	validate.Checks.Think.Required = true
	validate.Checks.Roles.System = false
	validate.Checks.Tokens.MaxTotal = 2048
	validate.Checks.Flags.Severity = "error"
	validate.Checks.IDs.Severity = "error"
	validate.NearDuplicates.On = true
	tokenizerDir := filepath.Join(shared, "data/qwen2.5")
	b.in = map[string][]string{"data": {clean}, "tokenizer": {tokenizerDir}, "against": {filepath.Join(shared, "data/gsm8k/test.jsonl")}}
	b.out = map[string]string{"data": checked, "rejects": b.path("rejects.jsonl"), "report": b.path("report.json"), "html": b.path("report.html")}
	b.must(validate)
	good := readRows(t, checked)
	rejects := readRejects(t, b.path("rejects.jsonl"))

	tokens := b.path("tokens")
	b.in = map[string][]string{"data": {checked}, "tokenizer": {tokenizerDir}}
	b.out = map[string]string{"tokens": tokens}
	b.must(stageOf[*Tokenize](t, "tokenize"))

	b.in = map[string][]string{"tokens": {tokens}}
	b.out = map[string]string{"train": b.path("train"), "validation": b.path("validation"), "test": b.path("test")}
	b.must(stageOf[*Split](t, "split"))
	t.Log("\n" + b.log.String())

	f := finder{converted: byID(converted), cleaned: byID(cleaned), good: byID(good), rejects: rejects}
	dirty := map[string]bool{}
	for _, d := range sheet.Dirty {
		dirty[d.ID] = true
		if found := f.find(d.Kind, d.ID); found == "" {
			t.Errorf("row %d (%s) is dirty (%s), and nothing found it", d.Index, d.ID, d.Kind)
		} else if want := wantedFind[d.Kind]; !slices.Contains(want, found) {
			t.Errorf("row %d (%s) is dirty (%s): found as %s, want one of %v", d.Index, d.ID, d.Kind, found, want)
		}
	}
	for id, r := range rejects {
		if !dirty[id] {
			t.Errorf("row %s is clean, but was rejected: %s: %s", id, r.Check, r.Evidence)
		}
	}
	checkSets(t, b, tokens, len(good))
}

// wantedFind is how each kind of dirt may be found.
var wantedFind = map[string][]string{
	"nfd": {"changed"}, "crlf": {"changed"}, "zero_width": {"changed"}, "bidi": {"changed"}, "control": {"changed"}, "odd_blanks": {"changed"},
	"replacement": {"encoding"}, "mojibake": {"encoding"},
	"duplicate": {"preprocess"}, "same_problem_other_answer": {"preprocess", "boxed"}, "near_duplicate": {"preprocess", "near_duplicates"},
	"leaked_test": {"contamination"}, "empty_problem": {"empty"}, "empty_content": {"empty"}, "null_content": {"empty", "flags"},
	"no_messages": {"convert"}, "empty_answer": {"think"}, "no_close": {"think"}, "no_open": {"think"}, "two_thinks": {"think"},
	"empty_think": {"think"}, "think_equals_answer": {"think"}, "truncated": {"think"}, "overlong": {"tokens"}, "loop": {"repetition"},
	"mixed_language": {"language"}, "wrong_boxed": {"boxed"}, "no_boxed": {"boxed"}, "open_boxed": {"boxed"}, "control_token": {"control_tokens"},
	"roles": {"roles"}, "system_turn": {"roles"}, "content_differs": {"flags"}, "same_id": {"ids"},
}

type finder struct {
	converted, cleaned, good map[string]dataset.Row
	rejects                  map[string]rejectLine
}

// find says what found a dirty row: the stage that dropped it, the check that rejected it, or "changed" if
// preprocess mended it and it went through.
func (f finder) find(kind, id string) string {
	if r, ok := f.rejects[id]; ok {
		for _, also := range append(r.Also, rejectFinding{r.Check, r.Evidence}) {
			if slices.Contains(wantedFind[kind], also.Check) {
				return also.Check
			}
		}
		return r.Check
	}
	before, ok := f.converted[id]
	if !ok {
		return "convert"
	}
	after, ok := f.cleaned[id]
	if !ok {
		return "preprocess"
	}
	if _, ok := f.good[id]; ok && string(dataset.AppendRow(nil, &before)) != string(dataset.AppendRow(nil, &after)) {
		return "changed"
	}
	return ""
}

func byID(rows []dataset.Row) map[string]dataset.Row {
	m := map[string]dataset.Row{}
	for _, r := range rows {
		m[r.ID] = r
	}
	return m
}

func readRejects(t *testing.T, path string) map[string]rejectLine {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[string]rejectLine{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var r rejectLine
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		m[r.ID] = r
	}
	return m
}

// checkSets: every sequence in one set, no problem in two, answers and masks kept.
func checkSets(t *testing.T, b *bench, tokens string, rows int) {
	t.Helper()
	all, err := dataset.OpenTokens(tokens)
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	if all.Len() != rows {
		t.Errorf("%d sequences of %d rows", all.Len(), rows)
	}
	where := map[string]string{}
	total := 0
	for _, name := range setNames {
		set, err := dataset.OpenTokens(b.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer set.Close()
		total += set.Len()
		if m := set.Manifest(); m.Tokenizer != all.Manifest().Tokenizer || m.Template != all.Manifest().Template || m.MaxTokens != 4096 {
			t.Errorf("%s: %+v", name, m)
		}
		for i := range set.Len() {
			s := set.Sequence(i)
			key := strings.ToLower(strings.Join(strings.Fields(s.Prompt), " "))
			if before, ok := where[key]; ok && before != name {
				t.Errorf("%q stands in %s and %s", s.Prompt, before, name)
			}
			where[key] = name
			if s.Answer == "" || set.IDs(i, nil)[0] != 151644 || !slices.Contains(set.Mask(i, nil), true) {
				t.Errorf("%s sequence %d: %+v", name, i, s)
			}
		}
	}
	if total != all.Len() {
		t.Errorf("the sets hold %d of %d sequences", total, all.Len())
	}
}
