package stages

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
)

// problems makes rows that differ among themselves; each tenth is a copy of an earlier one with other case and
// blanks, and each fifteenth differs from an earlier one in a word.
func problems(n int) []dataset.Row {
	rng := rand.New(rand.NewPCG(7, 8))
	words := strings.Fields("farmer apple river seven train cloud bakery price sells buys walks twice half third morning evening school pupils teacher garden flowers water bottle miles hours minutes euros total remaining each every between house window friend brother sister market table chair")
	rows := make([]dataset.Row, n)
	var prompts []string
	for i := range rows {
		var prompt string
		switch {
		case i%10 == 9:
			prompt = "  " + strings.ToUpper(prompts[rng.IntN(len(prompts))]) + " \n"
		case i%15 == 14:
			old := strings.Fields(prompts[rng.IntN(len(prompts))])
			old[len(old)-1] = "changed"
			prompt = strings.Join(old, " ")
		default:
			var b []string
			for range 40 {
				b = append(b, words[rng.IntN(len(words))])
			}
			prompt = strings.Join(b, " ")
		}
		prompts = append(prompts, prompt)
		rows[i] = dataset.Row{ID: fmt.Sprint("r", i), Answer: "1", Source: fmt.Sprint("s", i%60),
			Messages: []dataset.Message{{Role: dataset.User, Content: prompt}, {Role: dataset.Assistant, Content: "\\boxed{1}"}}}
	}
	return rows
}

func writeRows(t testing.TB, path string, rows []dataset.Row) string {
	t.Helper()
	w, err := dataset.CreateRows(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := w.Write(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// splitRows splits and tells the set of each id.
func splitRows(t *testing.T, s *Split, rows []dataset.Row) map[string]string {
	t.Helper()
	b := newBench(t)
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	for _, name := range setNames {
		b.out[name] = b.path(name + ".jsonl")
	}
	b.must(s)
	sets := map[string]string{}
	for _, name := range setNames {
		for _, row := range readRows(t, b.out[name]) {
			if sets[row.ID] != "" {
				t.Fatalf("%s stands in two sets", row.ID)
			}
			sets[row.ID] = name
		}
	}
	return sets
}

func TestNoProblemStandsInTwoSets(t *testing.T) {
	rows := problems(3000)
	for _, by := range []string{"cluster", "row", "source"} {
		t.Run(by, func(t *testing.T) {
			s := stageOf[*Split](t, "split")
			s.By, s.Ratios = by, Ratios{0.6, 0.2, 0.2}
			sets := splitRows(t, s, rows)
			where := map[string]string{}
			count := map[string]int{}
			for _, row := range rows {
				set, ok := sets[row.ID]
				if !ok && by != "source" {
					t.Fatalf("%s is lost", row.ID)
				}
				if !ok {
					continue
				}
				count[set]++
				key := strings.ToLower(strings.Join(strings.Fields(row.Prompt()), " "))
				if by == "cluster" {
					key = strings.Join(strings.Fields(key)[:39], " ") // all but the word that was changed
				}
				if before := where[key]; before != "" && before != set {
					t.Fatalf("%q stands in %s and %s", key, before, set)
				}
				where[key] = set
				if by == "source" {
					if before := where["s:"+row.Source]; before != "" && before != set {
						t.Fatalf("source %s stands in %s and %s", row.Source, before, set)
					}
					where["s:"+row.Source] = set
				}
			}
			if by != "source" && (count["train"] < 1650 || count["train"] > 1950 || count["test"] < 500 || count["validation"] < 500) {
				t.Errorf("sizes %v", count)
			}
		})
	}
}

func TestRowsAddedMoveNoOldRow(t *testing.T) {
	rows := problems(2000)
	for _, by := range []string{"cluster", "row"} {
		s := stageOf[*Split](t, "split")
		s.By, s.Ratios = by, Ratios{0.8, 0.1, 0.1}
		before, after := splitRows(t, s, rows[:1500]), splitRows(t, s, rows)
		moved := 0
		for id, set := range before {
			if after[id] != set {
				moved++
			}
		}
		if moved > 0 {
			t.Errorf("by %s: %d of 1500 rows moved", by, moved)
		}
		s.Seed++
		other := splitRows(t, s, rows)
		same := 0
		for id, set := range after {
			if other[id] == set {
				same++
			}
		}
		if same > 1700 {
			t.Errorf("by %s: another seed leaves %d of 2000 rows in place", by, same)
		}
	}
}

// Rows split before or after they became tokens land in the same sets.
func TestTokensSplitAsTheirRows(t *testing.T) {
	rows := problems(600)
	b := newBench(t)
	data := writeRows(t, b.path("rows.jsonl"), rows)
	b.in = map[string][]string{"data": {data}, "tokenizer": {filepath.Join(sharedDir(t), "data/qwen2.5")}}
	b.out = map[string]string{"tokens": b.path("tokens")}
	b.must(stageOf[*Tokenize](t, "tokenize"))
	for _, by := range []string{"cluster", "source"} {
		s := stageOf[*Split](t, "split")
		s.By, s.Ratios = by, Ratios{0.6, 0.2, 0.2}
		want := splitRows(t, s, rows)
		b.in = map[string][]string{"tokens": {b.path("tokens")}}
		b.out = map[string]string{}
		for _, name := range setNames {
			b.out[name] = b.path(by + "-" + name)
		}
		b.must(s)
		found := 0
		for _, name := range setNames {
			tokens, err := dataset.OpenTokens(b.out[name])
			if err != nil {
				t.Fatal(err)
			}
			for i := range tokens.Len() {
				found++
				if id := tokens.ID(i); want[id] != name {
					t.Fatalf("by %s: %s is in %s as row, in %s as tokens", by, id, want[id], name)
				}
			}
			tokens.Close()
		}
		if found != len(want) {
			t.Fatalf("%d sequences, %d rows", found, len(want))
		}
	}
}

func TestSplitSettingsOfSeveralForms(t *testing.T) {
	for text, want := range map[string]Ratios{
		`{"train":0.8,"test":0.2}`: {0.8, 0, 0.2},
		`[0.7,0.1,0.2]`:            {0.7, 0.1, 0.2},
		`[1]`:                      {1, 0, 0},
	} {
		var r Ratios
		if err := r.UnmarshalJSON([]byte(text)); err != nil || r != want {
			t.Errorf("%s: %+v %v", text, r, err)
		}
	}
	for _, text := range []string{`{"trian":1}`, `"x"`, `[]`, `[1,2,3,4]`} {
		var r Ratios
		if r.UnmarshalJSON([]byte(text)) == nil {
			t.Errorf("took %s", text)
		}
	}
	for text, want := range map[string]NearDuplicates{
		`true`:            {true, 0.8, 5},
		`false`:           {false, 0.8, 5},
		`0.7`:             {true, 0.7, 5},
		`{"shingle":3}`:   {true, 0.8, 3},
		`{"threshold":1}`: {true, 1, 5},
	} {
		var n NearDuplicates
		if err := n.UnmarshalJSON([]byte(text)); err != nil || n != want {
			t.Errorf("%s: %+v %v", text, n, err)
		}
	}
	for text, want := range map[string]Dedupe{`true`: "prompt", `false`: "none", `"row"`: "row"} {
		var d Dedupe
		if err := d.UnmarshalJSON([]byte(text)); err != nil || d != want {
			t.Errorf("%s: %s %v", text, d, err)
		}
	}
}

func TestAnEmptySetThatWasNotAskedFor(t *testing.T) {
	s := stageOf[*Split](t, "split")
	s.Ratios = Ratios{1, 0, 0}
	if sets := splitRows(t, s, problems(5)); len(sets) != 5 {
		t.Fatal(sets)
	}
}

// The output of every data stage is the same for any number of workers and for a small memory.
func TestOutputDoesNotDependOnTheMachine(t *testing.T) {
	rows := problems(3000)
	dir := t.TempDir()
	data := writeRows(t, filepath.Join(dir, "rows.jsonl"), rows)
	outputs := map[string]string{}
	for _, cpus := range []int{1, 7} {
		b := newBench(t)
		b.cpu = cpus
		b.in = map[string][]string{"data": {data}}
		b.out = map[string]string{"data": b.path("clean.jsonl")}
		b.must(stageOf[*Preprocess](t, "preprocess"))
		v := stageOf[*Validate](t, "validate")
		v.NearDuplicates.On = true
		v.Checks.IDs.Severity = "error"
		b.in = map[string][]string{"data": {b.path("clean.jsonl")}}
		b.out = map[string]string{"data": b.path("checked.parquet"), "rejects": b.path("rejects.jsonl"), "report": b.path("report.json"), "html": b.path("report.html")}
		b.must(v)
		b.in = map[string][]string{"data": {b.path("checked.parquet")}}
		b.out = map[string]string{"train": b.path("train.jsonl"), "validation": b.path("validation.jsonl"), "test": b.path("test.jsonl")}
		b.must(stageOf[*Split](t, "split"))
		for _, name := range []string{"clean.jsonl", "checked.parquet", "rejects.jsonl", "report.json", "report.html", "train.jsonl", "validation.jsonl", "test.jsonl"} {
			raw, err := os.ReadFile(b.path(name))
			if err != nil {
				t.Fatal(err)
			}
			if before, ok := outputs[name]; ok && before != string(raw) {
				t.Errorf("%s differs between 1 and %d workers", name, cpus)
			}
			outputs[name] = string(raw)
		}
	}
	if strings.Contains(outputs["report.json"], dir) || strings.Contains(outputs["report.html"], dir) {
		t.Error("the report names the workspace")
	}
}
