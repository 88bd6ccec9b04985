package stages

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"lpipe/dataset"
)

// The checks that look at prompts, forms, turns and scattered repetition: what they find, and what they let pass.
func TestMoreFindings(t *testing.T) {
	asked := func(prompt string) dataset.Row { return talk("user", prompt, "assistant", "an answer") }
	thinks := func(thought, answer string) dataset.Row {
		return talk("user", "q", "assistant", "<think>"+thought+"</think>"+answer)
	}
	var varied, scattered []string
	for i := range 40 {
		varied = append(varied, fmt.Sprintf("step %d takes the number %d and adds what step %d gave to it at last.", i, i*i, i-1))
		scattered = append(scattered, fmt.Sprintf("At %d: wait, let me think about this problem once more from the very beginning.", i*i))
	}
	for name, c := range map[string]struct {
		row  dataset.Row
		set  func(*Checks)
		want string
	}{
		"address":            {asked("See https://example.com/a?b for it."), nil, `prompt: an address: "See https://example.com/a?b for it."`},
		"address, allowed":   {asked("See https://example.com/a?b for it."), func(k *Checks) { k.Prompt.Addresses = false }, ""},
		"picture":            {asked("What is the area of the triangle in the figure below?"), nil, "prompt: a picture: "},
		"asymptote":          {asked("[asy] draw((0,0)--(1,1)); [/asy] What is x?"), nil, "prompt: a picture: "},
		"figure of speech":   {asked("Figure out how many there are, and picture the result."), nil, ""},
		"signs":              {asked("■■■■■■■■■■■■■■■□□□□□□ what is it?"), nil, "prompt: 64 % of turn 1 is no text: "},
		"mathematics":        {asked("∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−L|<ε ∫∑∏ √2 ≤ π"), nil, ""},
		"emoji, few":         {asked("How many apples are left? 🍎🍎"), nil, ""},
		"CR LF":              {asked("one\r\ntwo"), nil, `normal_form: a carriage return in turn 1 (user): "one\r\ntwo"`},
		"not NFC":            {asked("Cafe\u0301"), nil, `normal_form: not NFC in turn 1 (user): "Cafe`},
		"NFC":                {asked("Café"), nil, ""},
		"turns":              {talk("user", "a", "assistant", "b", "user", "c", "assistant", "d"), func(k *Checks) { k.Roles.MaxTurns = 1 }, "roles: turn 3 (user) is question 2, more than 1"},
		"reasoning agrees":   {thinks(`\boxed{41} no, \boxed{42}`, `\boxed{42.0}`), func(k *Checks) { k.Boxed.Reasoning = true }, ""},
		"reasoning differs":  {thinks(`\boxed{41}`, `\boxed{42}`), func(k *Checks) { k.Boxed.Reasoning = true }, `boxed: \boxed{41} in the reasoning, \boxed{42} in the answer`},
		"reasoning unboxed":  {thinks(`41`, `\boxed{42}`), func(k *Checks) { k.Boxed.Reasoning = true }, ""},
		"scattered":          {thinks(strings.Join(scattered, " "), "x"), func(k *Checks) { k.Repetition.Share = 0.5 }, "repetition: 9"},
		"scattered, allowed": {thinks(strings.Join(scattered, " "), "x"), nil, ""},
		"varied":             {thinks(strings.Join(varied, " "), "x"), func(k *Checks) { k.Repetition.Share = 0.1 }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			checks := defaultChecks()
			if c.set != nil {
				c.set(&checks)
			}
			found, _, err := (&checker{checks: &checks, severities: checks.severities()}).row(&c.row)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(found) > 0 {
				got = checkNames[found[0].check] + ": " + found[0].evidence
			}
			if c.want == "" && got != "" || !strings.HasPrefix(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// Rows with one prompt and several answers name each other; of phrases that many rows share, the rows made of them are found.
func TestWhatRowsSayAboutOneAnother(t *testing.T) {
	var rows []dataset.Row
	add := func(prompt, response string) {
		row := talk("user", prompt, "assistant", response)
		row.ID = fmt.Sprint(len(rows) + 1)
		rows = append(rows, row)
	}
	add("What is 6*7?", `\boxed{42}`)
	add("what is  6*7?", `It is \boxed{42.0}.`) // the same
	add("What is 6*7?", `\boxed{43}`)
	add("What is 6*7?", "I do not know")
	add("What is 6*8?", `\boxed{48}`)
	boilerplate := strings.Repeat("as always we begin by reading the text with care and then we write down each of the numbers that it names in order ", 3)
	for i := range 6 {
		add(fmt.Sprint("Own question ", i), boilerplate+fmt.Sprint(" number ", i))
	}
	add("Own question of another kind", "Nothing of that here, but a text of its own that no other row has, made of more words than a phrase has, so that it counts.")
	b := newBench(t)
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	b.out = map[string]string{"data": b.path("out.jsonl"), "rejects": b.path("rejects.jsonl")}
	v := stageOf[*Validate](t, "validate")
	v.Checks.Conflicts.Severity, v.Checks.Phrases.Severity, v.Checks.Repetition.Severity = "error", "error", "off"
	v.Checks.Phrases.Rows = 5
	b.must(v)
	got := map[string]string{}
	for id, r := range readRejects(t, b.path("rejects.jsonl")) {
		got[id] = r.Check + ": " + r.Evidence
	}
	want := map[string]string{"1": "line 3", "2": "line 3", "3": "line 1"}
	for id, other := range want {
		want[id] = "conflicts: " + other + " has the same prompt and another answer"
	}
	for i := range 6 {
		want[fmt.Sprint(6+i)] = ""
	}
	for id, text := range want {
		if id > "5" || len(id) > 1 { // the words behind the boilerplate are the row's own
			if !strings.HasPrefix(got[id], "phrases: ") {
				t.Errorf("row %s: %q", id, got[id])
			}
		} else if got[id] != text {
			t.Errorf("row %s: %q, want %q", id, got[id], text)
		}
		delete(got, id)
	}
	if len(got) > 0 {
		t.Errorf("found more: %v", got)
	}
}

// mostly bears what it allows, and fails the stage beyond, with the first row.
func TestMostly(t *testing.T) {
	var rows []dataset.Row
	for i := range 100 {
		row := talk("user", fmt.Sprint("question ", i), "assistant", "x")
		if row.ID = fmt.Sprint("r", i); i%20 == 7 {
			row.Messages[1].Content = "<think>cut"
		}
		rows = append(rows, row)
	}
	for _, c := range []struct {
		mostly float64
		onFail string
		want   string
	}{
		{0, "drop", ""}, {0.95, "drop", ""}, {0.96, "drop", `think found 5 rows, 5.00 %, and mostly = 0.96 allows 4.00 % (first: row 8, id "r7"`},
		{0.95, "fail", ""}, {0, "fail", "5 of 100 rows fail"}, {0.96, "flag", "mostly = 0.96"},
	} {
		b := newBench(t)
		b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
		b.out["data"] = b.path("out.jsonl")
		v := stageOf[*Validate](t, "validate")
		v.OnFail, v.Checks.Think.Mostly = c.onFail, c.mostly
		err := b.run(v)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil && len(readRows(t, b.path("out.jsonl"))) != 95 {
			t.Errorf("%+v: %d rows", c, len(readRows(t, b.path("out.jsonl"))))
		}
	}
}

// A report tells what changed since an earlier one.
func TestReportsCompared(t *testing.T) {
	b := newBench(t)
	run := func(name string, rows []dataset.Row, before string) *report {
		b.in = map[string][]string{"data": {writeRows(t, b.path(name+".jsonl"), rows)}}
		if before != "" {
			b.in["before"] = []string{b.path(before)}
		}
		b.out = map[string]string{"data": b.path("out.jsonl"), "report": b.path(name + ".json"), "html": b.path(name + ".html")}
		v := stageOf[*Validate](t, "validate")
		v.Checks.Boxed.Required = true
		b.must(v)
		raw, err := os.ReadFile(b.path(name + ".json"))
		got := &report{}
		if err == nil {
			err = json.Unmarshal(raw, got)
		}
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	rows := problems(400)
	if first := run("first", rows, ""); first.Comparison != nil || first.Answers != (answersReport{400, 0, 0}) || !first.Success {
		t.Fatalf("%+v", first)
	}
	if same := run("same", rows, "first.json").Comparison; same == nil || len(same.Checks)+len(same.Sources) != 0 || same.Histograms[0].PSI != 0 {
		t.Errorf("%+v", same)
	}
	for i := range rows[:100] {
		rows[i].Messages[1].Content, rows[i].Source = strings.Repeat("long ", 200)+"\\boxed{2}", "other"
	}
	c := run("second", rows[:300], "first.json").Comparison
	if c == nil || c.Rows != [2]int64{400, 300} || c.Kept != [2]int64{400, 200} || len(c.Checks) != 2 || c.Checks[0].Check != "boxed" || c.Checks[0].Share[1] < 0.33 {
		t.Fatalf("%+v", c)
	}
	i := slices.IndexFunc(c.Histograms, func(h histogramChange) bool { return h.Of == "response" })
	if h := c.Histograms[i]; h.PSI < 1 || h.KS < 0.33 || h.KS > 0.34 {
		t.Errorf("%+v", h)
	}
	page, err := os.ReadFile(b.path("second.html"))
	if err != nil || !strings.Contains(string(page), "Since the earlier report") {
		t.Error(err, "the page does not compare")
	}
	b.file("old.json", `{"schema":7}`)
	b.in["before"], b.out = []string{b.path("old.json")}, map[string]string{"data": b.path("out.jsonl")}
	if err := b.run(stageOf[*Validate](t, "validate")); err == nil || !strings.Contains(err.Error(), "old.json is a report of schema 7") {
		t.Error(err)
	}
}
