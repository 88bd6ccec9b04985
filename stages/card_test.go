package stages

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"lpipe/dataset"
	"lpipe/engine"
)

func TestLicenceOfACard(t *testing.T) {
	b := newBench(t)
	for card, want := range map[string]string{
		"---\nlicense: cc-by-nc-sa-4.0\nlanguage:\n- en\n---\n# R1\nlicense: mit\n": "cc-by-nc-sa-4.0",
		"---\r\nlanguage: en\r\nlicense: \"mit\" # as they say\r\n---\r\n":          "mit",
		"---\nlicense:\n- mit\n- 'apache-2.0'\ntags:\n- x\n---\n":                   "mit, apache-2.0",
		"---\nlicense: [mit, cc0-1.0]\n---\n":                                       "mit, cc0-1.0",
		"---\nlicense: other\nlicense_name: qwen-research\n---\n":                   "qwen-research",
		"---\ndataset_info:\n  license: mit\n---\n":                                 "",
		"# no metadata\nlicense: mit\n":                                             "",
		"":                                                                          "",
	} {
		if got, err := cardLicense(b.file("card.md", card)); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", card, got, err, want)
		}
	}
}

// A data set's folder is converted whole, and its licence goes with every row to the report, the tokens and the card.
func TestLicenceGoesAlong(t *testing.T) {
	b := newBench(t)
	b.file("raw/README.md", "---\nlicense: cc-by-nc-sa-4.0\n---\n")
	b.file("raw/dataset_infos.json", `{"not": "rows"}`)
	b.file("raw/.cache/x.jsonl", "broken")
	b.file("raw/a/1.jsonl", `{"id":"1","source":"s","messages":[{"role":"user","content":"A question of some length?"},{"role":"assistant","content":"An answer"}]}`+"\n")
	b.file("raw/a/2.jsonl", `{"id":"2","messages":[{"role":"user","content":"Another question of it?"},{"role":"assistant","content":""}]}`+"\n")
	qa, report := b.path("qa.parquet"), b.path("report.json")
	b.in, b.out = map[string][]string{"raw": {b.path("raw")}}, map[string]string{"data": qa}
	convert := stageOf[*Convert](t, "convert")
	convert.Format = "messages"
	b.must(convert)
	rows := readRows(t, qa)
	if len(rows) != 2 || rows[0].License != "cc-by-nc-sa-4.0" || rows[1].ID != "2" || rows[1].License != rows[0].License {
		t.Fatalf("%+v", rows)
	}
	b.in, b.out = map[string][]string{"data": {qa}}, map[string]string{"data": b.path("good.jsonl"), "report": report, "html": b.path("report.html")}
	b.must(stageOf[*Validate](t, "validate"))
	var got struct{ Sources []sourceReport }
	raw, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	want := []sourceReport{{"", "cc-by-nc-sa-4.0", 1, 0}, {"s", "cc-by-nc-sa-4.0", 1, 1}}
	if err != nil || len(got.Sources) != 2 || got.Sources[0] != want[0] || got.Sources[1] != want[1] {
		t.Fatalf("%+v %v", got, err)
	}
	manifest := &dataset.Manifest{Sequences: 3, Licenses: map[string]int64{"cc-by-nc-sa-4.0": 2}}
	card := (&Train{Method: "lora", Rank: 8, Alpha: 16}).modelCard("tiny", manifest, &engine.TrainResult{Steps: 4})
	for _, want := range []string{"---\nlicense: \"cc-by-nc-sa-4.0\"\nbase_model: \"tiny\"\n", "- cc-by-nc-sa-4.0: 2 sequences\n- not known: 1 sequences\n", "lora, rank 8, alpha 16, 4 steps"} {
		if !strings.Contains(card, want) {
			t.Errorf("no %q in\n%s", want, card)
		}
	}
}

// The licences that a folder of rows does not tell are asked for, or told in so many words.
func TestLicenceThatIsNotToBeHad(t *testing.T) {
	b := newBench(t)
	b.file("a/README.md", "---\nlicense: mit\n---\n")
	b.file("b/README.md", "---\nlicense: cc0-1.0\n---\n")
	for _, folder := range []string{"a", "b"} {
		b.file(folder+"/x.csv", "q,a\n1,2\n")
	}
	b.out["data"] = b.path("qa.jsonl")
	convert := &Convert{Format: "columns", Columns: map[string]string{"prompt": "q", "response": "a"}, InvalidUTF8: "fail", BadRows: "fail"}
	b.in["raw"] = []string{b.path("a"), b.path("b")}
	if err := b.run(convert); err == nil || !strings.Contains(err.Error(), "several licences (mit; cc0-1.0)") {
		t.Errorf("%v", err)
	}
	b.in["raw"], b.in["card"] = []string{b.path("a/x.csv")}, []string{b.file("card.md", "# nothing")}
	if err := b.run(convert); err == nil || !strings.Contains(err.Error(), "card.md names no license") {
		t.Errorf("%v", err)
	}
	convert.License = "mit"
	b.must(convert)
	b.file("empty/README.md", "")
	b.in["raw"] = []string{b.path("empty")}
	if err := b.run(convert); err == nil || !strings.Contains(err.Error(), "empty holds no file of rows") {
		t.Errorf("%v", err)
	}
}
