package stages

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"lpipe/dataset"
)

func TestRepairMojibake(t *testing.T) {
	for text, want := range map[string]string{
		"CafÃ© au lait": "Café au lait",
		"â€œquotedâ€\u009d, isnâ€™t it": "“quoted”, isn’t it",
		"5Â°C, 3Â\u00a0km":              "5°C, 3\u00a0km",
		"ðŸ˜€ and æ—¥æœ¬":               "😀 and 日本",
		"CafÃƒÂ©":                       "Café", // twice
		"Latin-1: Ã\u0089cole":          "Latin-1: École",
		"AÇÃO, NÃO, Âmbar, château":     "AÇÃO, NÃO, Âmbar, château",
		"naïve Ü, x² ≥ 3°":              "naïve Ü, x² ≥ 3°",
		"cut Ã":                         "cut Ã",
		"":                              "",
	} {
		if got := repairMojibake(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		if got := repairMojibake(want); got != want {
			t.Errorf("%q is changed to %q", want, got)
		}
	}
}

// Every rule counts its rows and shows them, before and after.
func TestEveryRuleCountsAndShows(t *testing.T) {
	texts := []string{
		"clean", "CafÃ© here", "zero\u200bwidth", "Cafe\u0301 there", "a <b>bold</b> word", "too  many   blanks", "write to a.b@example.com now", "from 8.8.8.8 it came", "CLEAN ",
	}
	var rows []dataset.Row
	for i, text := range texts {
		row := talk("user", text, "assistant", "\\boxed{1}")
		row.ID = string(rune('a' + i))
		rows = append(rows, row)
	}
	b := newBench(t)
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	b.out = map[string]string{"data": b.path("out.jsonl"), "report": b.path("report.json")}
	p := stageOf[*Preprocess](t, "preprocess")
	p.RepairMojibake, p.StripHTML, p.Redact = true, true, []string{"email", "ip"}
	b.must(p)
	raw, err := os.ReadFile(b.path("report.json"))
	var got struct {
		Schema, Rows, Kept, Dropped int
		Rules                       []struct {
			Rule     string
			Rows     int
			Examples []ruleExample
		}
	}
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	if err != nil || got.Schema != 1 || got.Rows != 9 || got.Kept != 8 || got.Dropped != 1 || len(got.Rules) != int(rules) {
		t.Fatalf("%+v %v", got, err)
	}
	want := map[string]ruleExample{
		"repair_mojibake":     {2, "b", `"CafÃ© here"`, `"Café here"`},
		"strip_control":       {3, "c", `"zero\u200bwidth"`, `"zerowidth"`},
		"normalize":           {4, "d", "\"Cafe\u0301 there\"", `"Café there"`},
		"strip_html":          {5, "e", `"a <b>bold</b> word"`, `"a bold word"`},
		"collapse_whitespace": {6, "f", `"too  many   blanks"`, `"too many blanks"`},
		"redact_email":        {7, "g", `"write to a.b@example.com now"`, `"write to [email] now"`},
		"redact_ip":           {8, "h", `"from 8.8.8.8 it came"`, `"from [ip] it came"`},
		"dedupe":              {9, "i", `"CLEAN"`, ""},
	}
	for _, rule := range got.Rules {
		one, named := want[rule.Rule]
		if !named && rule.Rows == 0 {
			continue
		}
		if rule.Rows != 1 || len(rule.Examples) != 1 || rule.Examples[0] != one {
			t.Errorf("%+v, want %+v", rule, one)
		}
	}
	for _, line := range []string{"1 changed: wrong decoding repaired (first: rows.jsonl line 2: \"CafÃ© here\" → \"Café here\")", "1 dropped: the same prompt as an earlier row (first: rows.jsonl line 9)"} {
		if !strings.Contains(b.log.String(), line) {
			t.Errorf("no %q in\n%s", line, b.log.String())
		}
	}
}
