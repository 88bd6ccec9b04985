package stages

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"lpipe/dataset"
)

// asked is a row of a prompt.
func asked(id, prompt string) dataset.Row {
	row := talk("user", prompt, "assistant", "\\boxed{1}")
	row.ID = id
	return row
}

// sentence is n words of a vocabulary so large that two sentences share no two words in a row by chance.
func sentence(rng *rand.Rand, n int) []string {
	words := make([]string, n)
	for i := range words {
		words[i] = fmt.Sprintf("w%d", rng.IntN(1_000_000))
	}
	return words
}

// splitReported splits rows and returns set by id, and the report.
func splitReported(t *testing.T, s *Split, rows []dataset.Row) (map[string]string, *splitReport) {
	t.Helper()
	b := newBench(t)
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows)}
	for _, name := range setNames {
		b.out[name] = b.path(name + ".jsonl")
	}
	b.out["report"] = b.path("report.json")
	b.must(s)
	sets := map[string]string{}
	for _, name := range setNames {
		for _, row := range readRows(t, b.out[name]) {
			sets[row.ID] = name
		}
	}
	raw, err := os.ReadFile(b.path("report.json"))
	rep := &splitReport{}
	if err == nil {
		err = json.Unmarshal(raw, rep)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sets, rep
}

// sharedPlainly counts the word 8-grams that stand in two sets, the plain way.
func sharedPlainly(rows []dataset.Row, sets map[string]string, n int) int {
	where, shared := map[string]string{}, map[string]bool{}
	for _, row := range rows {
		set, kept := sets[row.ID]
		if !kept {
			continue
		}
		words := strings.Fields(strings.ToLower(row.Prompt()))
		for i := 0; i+n <= len(words); i++ {
			gram := strings.Join(words[i:i+n], " ")
			if before, known := where[gram]; known && before != set {
				shared[gram] = true
			}
			where[gram] = set
		}
	}
	return len(shared)
}

// Prompts that share eight words in a row stay together, through any chain of such; those that share seven need not. The proof
// says so, and a count of our own in the plain way agrees.
func TestSharedWordsStayTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var rows []dataset.Row
	for i := range 150 {
		a, b, c := sentence(rng, 30), sentence(rng, 30), sentence(rng, 30)
		copy(b[3:], a[20:28]) // eight words of a
		copy(c, b[22:])       // eight of b
		rows = append(rows, asked(fmt.Sprint("a", i), strings.Join(a, " ")), asked(fmt.Sprint("b", i), strings.Join(b, " ")), asked(fmt.Sprint("c", i), strings.Join(c, " ")))
		d, e := sentence(rng, 30), sentence(rng, 30)
		copy(e, d[:7])
		rows = append(rows, asked(fmt.Sprint("d", i), strings.Join(d, " ")), asked(fmt.Sprint("e", i), strings.Join(e, " ")))
	}
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	s := stageOf[*Split](t, "split")
	s.Ratios = Ratios{0.5, 0.25, 0.25}
	sets, rep := splitReported(t, s, rows)
	parted := 0
	for i := range 150 {
		a, b, c := sets[fmt.Sprint("a", i)], sets[fmt.Sprint("b", i)], sets[fmt.Sprint("c", i)]
		for _, pair := range [][2]string{{a, b}, {b, c}} {
			if pair[0] != "" && pair[1] != "" && pair[0] != pair[1] {
				t.Errorf("triple %d: %s %s %s", i, a, b, c)
			}
		}
		if sets[fmt.Sprint("d", i)] != sets[fmt.Sprint("e", i)] {
			parted++
		}
	}
	if parted < 50 {
		t.Errorf("%d pairs of seven words parted", parted)
	}
	// A chain whose ends came first and apart has no place for its middle: those are dropped, and no other row.
	for _, one := range rep.List {
		if !strings.HasPrefix(one.ID, "b") {
			t.Errorf("%+v is dropped", one)
		}
	}
	if shared := sharedPlainly(rows, sets, 8); shared != 0 || rep.Proof.Shared != 0 || rep.Proof.Pairs != 0 || rep.Proof.NGram != 8 {
		t.Errorf("%d shared, the proof says %+v", shared, rep.Proof)
	}
	if int(rep.Rows) != len(rows) || int(rep.Dropped) != len(rows)-len(sets) || rep.Dropped == 0 {
		t.Errorf("%+v", rep)
	}
	s.By = "row" // which promises less: the proof finds what that leaves
	sets, rep = splitReported(t, s, rows)
	if shared := sharedPlainly(rows, sets, 8); shared == 0 || int64(shared) != rep.Proof.Shared {
		t.Errorf("by row: %d shared, the proof says %+v", shared, rep.Proof)
	}
}

// A new row that hangs together with rows of two sets is dropped and listed; no old row moves.
func TestBridgesAreDropped(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var rows []dataset.Row
	var texts [][]string
	for i := range 400 {
		texts = append(texts, sentence(rng, 30))
		rows = append(rows, asked(fmt.Sprint("old", i), strings.Join(texts[i], " ")))
	}
	s := stageOf[*Split](t, "split")
	s.Ratios = Ratios{0.6, 0.2, 0.2}
	before, _ := splitReported(t, s, rows)
	want := map[string]bool{}
	for i := 0; i < 400; i += 2 {
		id := fmt.Sprint("new", i)
		rows = append(rows, asked(id, strings.Join(append(append([]string{}, texts[i][:15]...), texts[i+1][15:]...), " ")))
		if before[fmt.Sprint("old", i)] != before[fmt.Sprint("old", i+1)] {
			want[id] = true
		}
	}
	after, rep := splitReported(t, s, rows)
	for id, set := range before {
		if after[id] != set {
			t.Errorf("%s moved from %s to %q", id, set, after[id])
		}
	}
	for _, one := range rep.List {
		if !want[one.ID] {
			t.Errorf("%s is dropped", one.ID)
		}
		delete(want, one.ID)
	}
	if len(want) > 0 || rep.Dropped < 50 {
		t.Errorf("%d dropped; these are not: %v", rep.Dropped, want)
	}
}

// Words that very many rows begin with join the first of them only: whatever comes later, nobody moves, and the proof tells.
func TestPreamblesDoNotJoinEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	const preamble = "please reason step by step and put your final answer inside a box now"
	var rows []dataset.Row
	for i := range 300 {
		rows = append(rows, asked(fmt.Sprint(i), preamble+" "+strings.Join(sentence(rng, 60), " ")))
	}
	s := stageOf[*Split](t, "split")
	s.Ratios, s.Common = Ratios{0.5, 0.25, 0.25}, 20
	before, _ := splitReported(t, s, rows[:150])
	after, rep := splitReported(t, s, rows)
	for id, set := range before {
		if after[id] != set {
			t.Errorf("%s moved", id)
		}
	}
	counts := map[string]int{}
	for i := range 20 {
		counts[after[fmt.Sprint(i)]]++
	}
	if len(counts) != 1 {
		t.Errorf("the first twenty stand in %v", counts)
	}
	if rep.Proof.Common != 7 || rep.Proof.Shared != 0 || rep.Sets[setTest].Rows < 50 {
		t.Errorf("%+v %+v", rep.Proof, rep.Sets)
	}
}

// With stratify every value of the column has the ratios, nearly exactly, and rows added behind move none.
func TestStratify(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var rows []dataset.Row
	for i := range 2000 {
		row := asked(fmt.Sprint(i), strings.Join(sentence(rng, 12), " "))
		row.Source = []string{"common", "common", "common", "rare", fmt.Sprint("small", i%40)}[i%5]
		rows = append(rows, row)
	}
	s := stageOf[*Split](t, "split")
	s.Ratios, s.Stratify = Ratios{0.8, 0.1, 0.1}, "source"
	before, _ := splitReported(t, s, rows[:1200])
	after, rep := splitReported(t, s, rows)
	for id, set := range before {
		if after[id] != set {
			t.Errorf("%s moved", id)
		}
	}
	if len(rep.Strata) != 10 {
		t.Fatalf("%+v", rep.Strata)
	}
	for _, one := range rep.Strata {
		total := float64(one.Rows[0] + one.Rows[1] + one.Rows[2])
		for i, share := range s.Ratios.list() {
			if off := float64(one.Rows[i]) - share*total; off > 2 || off < -2 {
				t.Errorf("%s has %v of %v", one.Value, one.Rows, total)
				break
			}
		}
	}
	s.Stratify = "topic"
	b := newBench(t)
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows[:3])}
	if err := b.run(s); err == nil || !strings.Contains(err.Error(), `no column "topic" to stratify by`) {
		t.Error(err)
	}
}
