package stages

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/runner"
)

func talk(turns ...string) dataset.Row {
	row := dataset.Row{ID: "x"}
	for i := 0; i+1 < len(turns); i += 2 {
		row.Messages = append(row.Messages, dataset.Message{Role: turns[i], Content: turns[i+1]})
	}
	return row
}

// Each check with what it finds, and what it must let pass.
func TestFindings(t *testing.T) {
	solved := func(answer, response string) dataset.Row {
		r := talk("user", "What is 6*7?", "assistant", response)
		r.Answer = answer
		return r
	}
	for name, c := range map[string]struct {
		row  dataset.Row
		set  func(*Checks)
		want string // "check: evidence" of the first finding, "" for none
	}{
		"good":                     {solved("42", "<think>\n6*7 is 42\n</think>\n\n\\boxed{42}"), nil, ""},
		"no reasoning":             {solved("42", "\\boxed{42}"), nil, ""},
		"no reasoning, required":   {solved("42", "\\boxed{42}"), func(k *Checks) { k.Think.Required = true }, "think: no <think>"},
		"before":                   {solved("", "Hm. <think>a</think>b"), nil, `think: text before <think>: "Hm."`},
		"closed first":             {solved("", "</think>a<think>b"), nil, "think: </think> before <think>"},
		"box of the reasoning":     {solved("42", "<think>\\boxed{41}</think>so \\boxed{42.0}"), nil, ""},
		"two boxes":                {solved("1,2", "\\boxed{1} and \\boxed{2}"), nil, ""},
		"empty box":                {solved("", "\\boxed{ }"), nil, `boxed: \boxed{} is empty`},
		"no box, required":         {solved("", "42"), func(k *Checks) { k.Boxed.Required = true }, `boxed: no \boxed{} in the answer`},
		"wrong":                    {solved("42", "\\boxed{43}"), nil, `boxed: \boxed{43} but the answer is 42`},
		"off":                      {solved("42", "\\boxed{43}"), func(k *Checks) { k.Boxed.Severity = "off" }, ""},
		"no messages":              {dataset.Row{}, nil, "empty: no messages"},
		"blank":                    {talk("user", " \n", "assistant", "a"), nil, "empty: turn 1 (user) is empty"},
		"conversation":             {talk("system", "s", "user", "a", "assistant", "b", "user", "c", "assistant", "d"), nil, ""},
		"no system wanted":         {talk("system", "s", "user", "a", "assistant", "b"), func(k *Checks) { k.Roles.System = false }, "roles: a system turn"},
		"system inside":            {talk("user", "a", "system", "s", "assistant", "b"), nil, "roles: turn 2 (system) does not stand first"},
		"user last":                {talk("user", "a", "assistant", "b", "user", "c"), nil, "roles: the last turn is not the assistant's but user"},
		"assistant first":          {talk("assistant", "a", "user", "b"), nil, "roles: turn 1 (assistant) comes before the user's first"},
		"two users":                {talk("user", "a", "user", "b", "assistant", "c"), nil, "roles: turn 2 (user) follows another of the user"},
		"unknown":                  {talk("human", "a", "gpt", "b"), nil, `roles: turn 1 has the unknown role "human"`},
		"tools":                    {talk("user", "a", "assistant", "call", "tool", "1", "tool", "2", "assistant", "b"), nil, ""},
		"tool alone":               {talk("user", "a", "tool", "1", "assistant", "b"), nil, "roles: turn 2 (tool) follows no call of the assistant"},
		"Qwen's marks":             {talk("user", "a <|im_end|>", "assistant", "b"), nil, "control_tokens: <|im_end|> in turn 1 (user)"},
		"DeepSeek's marks":         {talk("user", "a", "assistant", "b <｜User｜>"), nil, "control_tokens: <｜User｜> in turn 2 (assistant)"},
		"Llama's marks":            {talk("user", "[INST] a", "assistant", "b"), nil, "control_tokens: [INST] in turn 1 (user)"},
		"bars are no marks":        {talk("user", "P(A|B) <| x |> and <|1|>", "assistant", "b"), nil, ""},
		"replacement":              {talk("user", "caf\uFFFD", "assistant", "b"), nil, "encoding: U+FFFD \"caf\uFFFD\" in turn 1 (user)"},
		"NUL":                      {talk("user", "a\x00", "assistant", "b"), nil, `encoding: control character U+0000 "a\x00" in turn 1 (user)`},
		"zero width":               {talk("user", "a\u200b", "assistant", "b"), nil, `encoding: invisible character U+200B "a\u200b" in turn 1 (user)`},
		"private":                  {talk("user", "a\ue000", "assistant", "b"), nil, `encoding: private character U+E000 "a\ue000" in turn 1 (user)`},
		"mojibake":                 {talk("user", "CafÃ©", "assistant", "b"), nil, `encoding: text decoded with the wrong encoding "CafÃ©" in turn 1 (user)`},
		"Portuguese":               {talk("user", "AÇÃO, NÃO, Âmbar, château", "assistant", "b"), nil, ""},
		"Persian":                  {talk("user", "می\u200cخواهم", "assistant", "می\u200cخواهم"), nil, ""},
		"long":                     {talk("user", "12345678901", "assistant", "b"), func(k *Checks) { k.Length.MaxPrompt = 10 }, "length: prompt has 11 characters, more than 10"},
		"characters, not bytes":    {talk("user", "äöüäöüäöüä", "assistant", "b"), func(k *Checks) { k.Length.MaxPrompt = 10 }, ""},
		"short":                    {talk("user", "a", "assistant", "b"), func(k *Checks) { k.Length.MinResponse = 2 }, "length: response has 1 characters, at least 2 are asked for"},
		"refusal":                  {talk("user", "a", "assistant", "<think>hm</think>\n\nI'm sorry, but I can't help."), nil, `refusal: "I'm sorry, but I can't help."`},
		"sorry later":              {talk("user", "a", "assistant", strings.Repeat("He was late. ", 6)+"I'm sorry, but he said no."), nil, ""},
		"Chinese in English":       {talk("user", "What is it?", "assistant", "It is this. "+"让我再检查一遍这个计算"), nil, `language: 58 % of the response's letters are Han: "It is this. 让我再检查一遍这个计算"`},
		"Chinese":                  {talk("user", "这是什么", "assistant", "让我再检查一遍这个计算 OK"), nil, ""},
		"Japanese":                 {talk("user", "これは？", "assistant", "漢字とかなとカナ"), nil, ""},
		"Greek letters in formula": {talk("user", "What is the area?", "assistant", "α + β + γ + δ + ε + θ = π r"), nil, ""},
		"a foreign word":           {talk("user", "What does he say?", "assistant", "He says привет."), nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			checks := defaultChecks()
			if c.set != nil {
				c.set(&checks)
			}
			k := &checker{checks: &checks, severities: checks.severities()}
			found, _, err := k.row(&c.row)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(found) > 0 {
				got = checkNames[found[0].check] + ": " + found[0].evidence
			}
			if got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

func TestOnFailFlagAndReport(t *testing.T) {
	b := newBench(t)
	rows := []dataset.Row{
		talk("user", "What is one and one?", "assistant", "\\boxed{2}"),
		talk("user", "What is two and two <b>now</b>?", "assistant", "<think>x"),
		talk("user", "What is two and three?", "assistant", "\\boxed{5}"),
	}
	rows[0].ID, rows[1].ID, rows[2].ID = "a", "<script>alert(1)</script>", "a"
	rows[2].Flags = []string{"earlier"}
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	b.out = map[string]string{"data": b.path("out.jsonl"), "rejects": b.path("rejects.jsonl"), "report": b.path("report.json"), "html": b.path("report.html")}
	v := stageOf[*Validate](t, "validate")
	v.OnFail = "flag"
	b.must(v)
	out := readRows(t, b.path("out.jsonl"))
	if len(out) != 3 || len(out[0].Flags) != 0 || strings.Join(out[1].Flags, " ") != "think" || strings.Join(out[2].Flags, " ") != "earlier" {
		t.Fatalf("%+v", out)
	}
	if rejects := readRejects(t, b.path("rejects.jsonl")); len(rejects) != 1 || rejects[rows[1].ID].Row != 2 || rejects[rows[1].ID].Check != "think" {
		t.Fatalf("%+v", rejects)
	}
	var got report
	raw, err := os.ReadFile(b.path("report.json"))
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	if err != nil || got.Schema != 1 || got.Rows != 3 || got.Kept != 3 || got.Failed != 1 || got.Warned != 1 || got.Dropped != 0 || len(got.Histograms) != 3 {
		t.Fatalf("%v %+v", err, got)
	}
	for _, check := range got.Checks {
		if want := map[string]int64{"think": 1, "ids": 1, "flags": 1}[check.Check]; check.Found != want {
			t.Errorf("%s: found %d, want %d", check.Check, check.Found, want)
		}
	}
	page, err := os.ReadFile(b.path("report.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "http:", "https:", "<link", "src="} {
		if strings.Contains(string(page), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if !strings.Contains(string(page), "<svg") || !strings.Contains(string(page), "is never closed") {
		t.Error("the page lacks its plots or examples")
	}
}

// The row that stands for a cluster is the first that is good itself: a bad copy does not take the good one away.
func TestNearDuplicateOfABadRowStays(t *testing.T) {
	b := newBench(t)
	prompt := "A farmer has seven apples and buys three more in the morning. How many apples does the farmer have at noon?"
	rows := []dataset.Row{
		talk("user", prompt, "assistant", "<think>cut off"),
		talk("user", strings.ToUpper(prompt), "assistant", "\\boxed{10}"),
		talk("user", prompt+"!", "assistant", "\\boxed{10}"),
		talk("user", "Something else entirely is asked for in this row, and nobody knows the answer to it.", "assistant", "\\boxed{1}"),
	}
	for i := range rows {
		rows[i].ID = string(rune('a' + i))
	}
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	b.out = map[string]string{"data": b.path("out.jsonl"), "rejects": b.path("rejects.jsonl")}
	v := stageOf[*Validate](t, "validate")
	v.NearDuplicates = defaultNear()
	b.must(v)
	var ids []string
	for _, row := range readRows(t, b.path("out.jsonl")) {
		ids = append(ids, row.ID)
	}
	if strings.Join(ids, " ") != "b d" {
		t.Fatalf("kept %v", ids)
	}
	if r := readRejects(t, b.path("rejects.jsonl"))["c"]; r.Check != "near_duplicates" || r.Evidence != "like line 2" {
		t.Fatalf("%+v", r)
	}
}

func TestPreprocessDropsTheSamePrompt(t *testing.T) {
	rows := []dataset.Row{
		talk("user", "One  question", "assistant", "a"),
		talk("user", "ONE question ", "assistant", "b"),
		talk("user", "one\u200b question", "assistant", "A"),
		talk("user", "", "assistant", "c"),
		talk("user", " ", "assistant", "c"),
	}
	for i := range rows {
		rows[i].ID = string(rune('a' + i))
	}
	for mode, want := range map[Dedupe]string{"prompt": "a d e", "row": "a b d e", "none": "a b c d e"} {
		b := newBench(t)
		b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
		b.out["data"] = b.path("out.jsonl")
		p := stageOf[*Preprocess](t, "preprocess")
		p.Dedupe = mode
		b.must(p)
		var ids []string
		for _, row := range readRows(t, b.path("out.jsonl")) {
			ids = append(ids, row.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: kept %s, want %s", mode, got, want)
		}
	}
}

// A stage that is stopped says so and leaves no output.
func TestCancelled(t *testing.T) {
	b := newBench(t)
	data := writeRows(t, b.path("rows.jsonl"), problems(5000))
	for _, s := range []runner.Stage{stageOf[*Preprocess](t, "preprocess"), stageOf[*Validate](t, "validate"), stageOf[*Split](t, "split"),
		&Convert{Format: "messages", InvalidUTF8: "fail", BadRows: "fail"}} {
		ctx, cancel := context.WithCancel(t.Context())
		env := &runner.Env{Dir: b.dir, CPUs: 2, Scratch: b.path(".scratch"), In: map[string][]runner.Input{"data": {{Path: data}}, "raw": {{Path: data}}},
			Out:    map[string]string{"data": b.path("data.jsonl"), "train": b.path("train.jsonl"), "validation": b.path("validation.jsonl"), "test": b.path("test.jsonl")},
			Report: func(runner.Event) { cancel() }}
		if _, ok := s.(*Split); ok {
			delete(env.In, "raw")
		}
		if err := s.Run(ctx, env); !errors.Is(err, context.Canceled) {
			t.Errorf("%T: %v", s, err)
		}
		for port, path := range env.Out {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%T left %s", s, port)
			}
		}
	}
}
