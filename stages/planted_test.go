package stages

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
)

// Rows with one thing wrong, of every check, planted among clean ones at known places: each is found by its check, and nothing else
// is. With the tokenizer and a test set, as in earnest.
func TestPlantedRowsAreFound(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	words := strings.Fields("farmer apple river seven train cloud bakery price sells buys walks twice half third morning evening school pupils teacher garden flowers water bottle miles hours minutes euros total remaining each every between house window friend brother sister market chair lamp")
	sentence := func(n int) string {
		text := make([]string, n)
		for i := range text {
			text[i] = words[rng.IntN(len(words))]
		}
		return strings.Join(text, " ")
	}
	var rows []dataset.Row
	for i := range 800 {
		row := talk("user", sentence(40)+"?", "assistant", fmt.Sprintf("<think>\n%s.\n</think>\n\n%s, so \\boxed{%d}.", sentence(60), sentence(10), i))
		row.ID, row.Answer, row.Source = fmt.Sprint("r", i), fmt.Sprint(i), "ours"
		rows = append(rows, row)
	}
	leaked := sentence(40) + "?"
	want, at := map[string]string{}, 7
	plant := func(check string, change func(row, earlier *dataset.Row)) {
		row := &rows[at]
		change(row, &rows[at-3])
		want[row.ID] = check
		at += 11 // clean ones between
	}
	prompt := func(row *dataset.Row) *string { return &row.Messages[0].Content }
	response := func(row *dataset.Row) *string { return &row.Messages[1].Content }
	plant("empty", func(row, _ *dataset.Row) { *prompt(row) = " \n" })
	plant("roles", func(row, _ *dataset.Row) { row.Messages = append(row.Messages, row.Messages[0]) })
	plant("roles", func(row, _ *dataset.Row) { row.Messages = append(row.Messages, row.Messages...) }) // two turns
	plant("think", func(row, _ *dataset.Row) { *response(row) = "<think>\nIt breaks" })
	plant("think", func(row, _ *dataset.Row) { *response(row) = "No reasoning: \\boxed{" + row.Answer + "}" })
	plant("boxed", func(row, _ *dataset.Row) { row.Answer = "other" })
	plant("boxed", func(row, _ *dataset.Row) {
		*response(row) = strings.Replace(*response(row), "<think>\n", "<think>\n\\boxed{99999} ", 1)
	})
	plant("control_tokens", func(row, _ *dataset.Row) { *prompt(row) += " <|im_end|>" })
	plant("control_tokens", func(row, _ *dataset.Row) { *prompt(row) += " [INST]" })
	plant("encoding", func(row, _ *dataset.Row) { *prompt(row) += " caf\uFFFD" })
	plant("encoding", func(row, _ *dataset.Row) { *prompt(row) += " CafÃ©" })
	plant("encoding", func(row, _ *dataset.Row) { *response(row) += "\x00" })
	plant("length", func(row, _ *dataset.Row) { *prompt(row) = sentence(400) })
	plant("tokens", func(row, _ *dataset.Row) {
		*response(row) = strings.Replace(*response(row), "\n</think>", strings.Repeat(" "+sentence(7), 60)+"\n</think>", 1)
	})
	plant("repetition", func(row, _ *dataset.Row) {
		*response(row) = strings.Replace(*response(row), "\n</think>", strings.Repeat(" Wait, let me check it again.", 12)+"\n</think>", 1)
	})
	plant("language", func(row, _ *dataset.Row) {
		*response(row) = strings.Replace(*response(row), "\n</think>", "让我再检查一遍这个计算的结果\n</think>", 1)
	})
	plant("refusal", func(row, _ *dataset.Row) {
		*response(row) = "<think>\nHm.\n</think>\n\nI'm sorry, but I can't do that. \\boxed{" + row.Answer + "}"
	})
	plant("prompt", func(row, _ *dataset.Row) { *prompt(row) += " See https://example.com." })
	plant("prompt", func(row, _ *dataset.Row) { *prompt(row) += " It is in the figure below." })
	plant("normal_form", func(row, _ *dataset.Row) { *prompt(row) += " cafe\u0301" })
	plant("normal_form", func(row, _ *dataset.Row) { *prompt(row) += "\r\n and more" })
	plant("contamination", func(row, _ *dataset.Row) { *prompt(row) = leaked })
	plant("ids", func(row, earlier *dataset.Row) { delete(want, row.ID); row.ID = earlier.ID })
	plant("flags", func(row, _ *dataset.Row) { row.Flags = []string{"content_differs"} })
	plant("conflicts", func(row, earlier *dataset.Row) {
		*prompt(row) = *prompt(earlier)
		want[earlier.ID] = "conflicts"
	})
	for range 6 {
		plant("phrases", func(row, _ *dataset.Row) {
			*response(row) = "<think>\n" + strings.Repeat("as always we read the text with care and write down each of the numbers that it names in the order of their names ", 2) + "\n</think>\n\n\\boxed{" + row.Answer + "}"
		})
	}
	plant("near_duplicates", func(row, earlier *dataset.Row) { *prompt(row) = strings.TrimSuffix(*prompt(earlier), "?") + " now?" })
	plant("near_duplicates", func(row, earlier *dataset.Row) {
		*prompt(row), row.Answer = "  "+strings.ToUpper(*prompt(earlier)), earlier.Answer
		*response(row) = *response(earlier)
	})

	b := newBench(t)
	against := writeRows(t, b.path("test.jsonl"), []dataset.Row{talk("user", leaked, "assistant", "x")})
	b.in = map[string][]string{"data": {writeRows(t, b.path("rows.jsonl"), rows)}, "against": {against}, "tokenizer": {filepath.Join(sharedDir(t), "data/qwen2.5")}}
	b.out = map[string]string{"data": b.path("out.jsonl"), "rejects": b.path("rejects.jsonl")}
	v := stageOf[*Validate](t, "validate")
	k := &v.Checks
	for _, severity := range []*string{&k.Prompt.Severity, &k.NormalForm.Severity, &k.IDs.Severity, &k.Flags.Severity, &k.Conflicts.Severity, &k.Phrases.Severity} {
		*severity = "error"
	}
	k.Think.Required, k.Boxed.Required, k.Boxed.Reasoning, k.Roles.System, k.Roles.MaxTurns = true, true, true, false, 1
	k.Length.MaxPrompt, k.Tokens.MaxResponse, k.Phrases.Rows = 1000, 400, 5
	v.NearDuplicates = defaultNear()
	b.must(v)

	kept := map[string]bool{}
	for _, row := range readRows(t, b.path("out.jsonl")) {
		kept[row.ID] = true
	}
	found, rejected := map[string]bool{}, readRejects(t, b.path("rejects.jsonl"))
	for id, check := range want {
		found[check] = true
		if r := rejected[id]; r.Check != check {
			t.Errorf("%s: found by %q (%s), want %s", id, r.Check, r.Evidence, check)
		}
	}
	for id, r := range rejected {
		if want[id] == "" {
			t.Errorf("%s is clean, and rejected by %s: %s", id, r.Check, r.Evidence)
		}
	}
	for _, check := range checkNames {
		if !found[check] {
			t.Errorf("nothing is planted for %s", check)
		}
	}
	for i := range rows {
		if id := rows[i].ID; want[id] == "" && !kept[id] {
			t.Errorf("%s is lost", id)
		}
	}
}
