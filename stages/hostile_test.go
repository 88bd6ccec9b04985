package stages

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"lpipe/dataset"
)

// Input that is hostile or broken in ways that files of the wild are: one clear error, or a counted reject; never a crash, and no
// row goes missing without a word.
func TestHostileInput(t *testing.T) {
	good := `{"id":"good","messages":[{"role":"user","content":"What is one and one?"},{"role":"assistant","content":"\\boxed{2}"}]}` + "\n"
	row := func(id, content string) string {
		return fmt.Sprintf(`{"id":%q,"messages":[{"role":"user","content":"%s"},{"role":"assistant","content":"\\boxed{2}"}]}`, id, content) + "\n"
	}
	for name, c := range map[string]struct {
		file, text string
		set        func(*Convert)
		fails      string // the error of convert
		logs       string // what convert says
		rejects    string // check and evidence of the row "bad", from validate
	}{
		"nested deeply":               {"a.jsonl", good + `{"id":"bad","messages":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}\n", nil, "a.jsonl line 2: JSON nested deeper than 200", "", ""},
		"nested deeply, skipped":      {"a.jsonl", good + `{"id":"bad","x":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000) + "}\n", func(c *Convert) { c.BadRows = "skip" }, "", "1 dropped: cannot be read (first: a.jsonl line 2: JSON nested deeper than 200)", ""},
		"nested deeply, never closed": {"a.jsonl", good + strings.Repeat(`[`, 1_000_000) + "\n", nil, "a.jsonl line 2: the row is no JSON object", "", ""},
		"nested deeply, a list":       {"a.json", "[" + good + "," + `{"id":"bad","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}]", nil, "a.json row 2: JSON nested deeper than 200", "", ""},
		"NUL in an escape":            {"a.jsonl", good + row("bad", `What is\u0000 one?`), nil, "", "", `encoding: control character U+0000 "What is\x00 one?"`},
		"NUL, raw":                    {"a.jsonl", good + row("bad", "What is\x00 one?"), nil, "a.jsonl line 2: invalid JSON at byte 58: control byte 0x00 inside a text", "", ""},
		"NUL, between":                {"a.jsonl", good + "\x00\x00\x00\n", nil, `a.jsonl line 2: invalid JSON at byte 1: '\x00' where '{' should be`, "", ""},
		"NUL in CSV":                  {"a.csv", "q,a\nWhat is\x00 one and one?,\\boxed{2}\n", func(c *Convert) { c.Format, c.Columns = "columns", map[string]string{"prompt": "q", "response": "a"} }, "", "", ""},
		"lone surrogate":              {"a.jsonl", good + row("bad", `What is \ud83d one?`), nil, `a.jsonl line 2 holds bytes that are not UTF-8`, "", ""},
		"lone surrogate, replaced":    {"a.jsonl", good + row("bad", `What is \ud83d one?`), func(c *Convert) { c.InvalidUTF8 = "replace" }, "", "1 flagged: invalid UTF-8 replaced with U+FFFD (first: a.jsonl line 2)", "encoding: U+FFFD "},
		"surrogates the wrong way":    {"a.jsonl", good + row("bad", `What is \ude00\ud83d one?`), func(c *Convert) { c.InvalidUTF8 = "replace" }, "", "1 flagged", "encoding: U+FFFD "},
		"a pair":                      {"a.jsonl", good + row("fine", `What is \ud83d\ude00 one?`), nil, "", "", ""},
		"escape cut off":              {"a.jsonl", good + row("bad", `What \ud8`), nil, "a.jsonl line 2: ", "", ""},
		"members twice":               {"a.jsonl", good + `{"id":"x","id":"twice","messages":[],"messages":[{"role":"user","content":"Which of two?"},{"role":"assistant","content":"\\boxed{2}"}]}` + "\n", nil, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.in["raw"], b.out["data"] = []string{b.file(c.file, c.text)}, b.path("qa.jsonl")
			convert := stageOf[*Convert](t, "convert")
			convert.Format = "messages"
			if c.set != nil {
				c.set(convert)
			}
			err := b.run(convert)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) || len(err.Error()) > 600 {
					t.Fatalf("%v\nwant %s", err, c.fails)
				}
				return
			}
			if err != nil || !strings.Contains(b.log.String(), c.logs) {
				t.Fatalf("%v\n%s\nwant %s", err, b.log.String(), c.logs)
			}
			b.in, b.out = map[string][]string{"data": {b.path("qa.jsonl")}}, map[string]string{"data": b.path("out.jsonl"), "rejects": b.path("rejects.jsonl")}
			err = b.run(stageOf[*Validate](t, "validate"))
			rejected := readRejects(t, b.path("rejects.jsonl"))
			if got := rejected["bad"]; c.rejects != "" && !strings.HasPrefix(got.Check+": "+got.Evidence, c.rejects) {
				t.Fatalf("%v %+v, want %s", err, got, c.rejects)
			}
			read := readRows(t, b.path("qa.jsonl"))
			if err == nil && len(readRows(t, b.path("out.jsonl")))+len(rejected) != len(read) {
				t.Errorf("of %d rows some went missing", len(read))
			}
		})
	}
}

// A line of a hundred megabytes is a row like any other: converted, cleaned, and too long for validate.
func TestLineOfHundredMegabytes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b := newBench(t)
	text := strings.Repeat("A sentence of some words that goes on. ", 100<<20/39)
	long := talk("user", "What is one and one?", "assistant", text)
	long.ID = "bad"
	short := talk("user", "What is two and two?", "assistant", "\\boxed{4}")
	b.in["raw"], b.out["data"] = []string{writeRows(t, b.path("rows.jsonl"), []dataset.Row{long, short})}, b.path("qa.jsonl")
	convert := stageOf[*Convert](t, "convert")
	convert.Format = "messages"
	b.must(convert)
	b.in, b.out = map[string][]string{"data": {b.path("qa.jsonl")}}, map[string]string{"data": b.path("clean.jsonl")}
	b.must(stageOf[*Preprocess](t, "preprocess"))
	b.in, b.out = map[string][]string{"data": {b.path("clean.jsonl")}}, map[string]string{"data": b.path("out.jsonl"), "report": b.path("report.json")}
	b.must(stageOf[*Validate](t, "validate"))
	raw, err := os.ReadFile(b.path("report.json"))
	rep := &report{}
	if err == nil {
		err = json.Unmarshal(raw, rep)
	}
	if err != nil || rep.Rows != 2 || rep.Kept != 1 || len(rep.Funnel) == 0 || len(raw) > 100_000 {
		t.Fatalf("%v: %d rows, %d kept, %d bytes of report", err, rep.Rows, rep.Kept, len(raw))
	}
	if rows := readRows(t, b.path("out.jsonl")); len(rows) != 1 || rows[0].Response() != "\\boxed{4}" {
		t.Error("the other row is lost")
	}
}

// What is found in very many rows lies in scratch, and says the same.
func TestRowMapInScratch(t *testing.T) {
	dir := t.TempDir()
	small, large := newRowMap(dir), newRowMap(dir)
	defer small.close()
	defer large.close()
	large.count = rowMapInMemory // as if as many had come before
	for i := range uint64(5000) {
		for _, m := range []*rowMap{small, large} {
			for _, value := range []uint64{i * 7, i * 3} {
				if err := m.add(i*2, value); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, m := range []*rowMap{small, large} {
		if err := m.freeze(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if small.file != nil || large.file == nil {
		t.Fatal("the wrong one lies in scratch")
	}
	for row := range uint64(10_010) {
		a, okA, errA := small.get(row)
		b, okB, errB := large.get(row)
		if want := row%2 == 0 && row < 10_000; a != b || okA != okB || okA != want || errA != nil || errB != nil || okA && a != row/2*3 {
			t.Fatal(row, a, okA, errA, b, okB, errB)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Error("scratch is left with", entries)
	}
}
