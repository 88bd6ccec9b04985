package runner

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func names(instances []ExperimentInstance) string {
	var all []string
	for _, one := range instances {
		all = append(all, one.Name)
	}
	return strings.Join(all, " ")
}

func TestInstancesOfAnExperiment(t *testing.T) {
	matrix := map[string][]string{"rank": {"8", "16"}, "lr": {"0.0001", "0.001"}}
	cases := []struct {
		name  string
		block ExperimentBlock
		sets  []ExperimentSet
		want  string
	}{
		{"matrix", ExperimentBlock{Matrix: matrix}, nil, "lr=0.0001,rank=8 lr=0.0001,rank=16 lr=0.001,rank=8 lr=0.001,rank=16"},
		{"exclude and include", ExperimentBlock{Matrix: matrix, Exclude: []map[string]string{{"rank": "16"}}, Include: []map[string]string{{"rank": "64"}}}, nil,
			"lr=0.0001,rank=8 lr=0.001,rank=8 rank=64"},
		{"include alone", ExperimentBlock{Include: []map[string]string{{"rank": "1"}, {"rank": "2"}}}, nil, "rank=1 rank=2"},
		{"set alone", ExperimentBlock{Set: map[string]string{"epochs": "1"}}, nil, "epochs=1"},
		{"nothing", ExperimentBlock{}, nil, "default"},
		{"set beside a matrix is not in the name", ExperimentBlock{Set: map[string]string{"epochs": "1"}, Matrix: map[string][]string{"rank": {"8"}}}, nil, "rank=8"},
		{"--set replaces an axis", ExperimentBlock{Matrix: matrix}, []ExperimentSet{{"lr", []string{"1"}}}, "lr=1,rank=8 lr=1,rank=16"},
		{"--set holds for include", ExperimentBlock{Include: []map[string]string{{"rank": "1"}}}, []ExperimentSet{{"seed", []string{"1", "2"}}},
			"seed=1 seed=2 rank=1,seed=1 rank=1,seed=2"},
		{"the same point twice is one", ExperimentBlock{Matrix: map[string][]string{"rank": {"8", "8"}}}, nil, "rank=8"},
		{"texts", ExperimentBlock{Matrix: map[string][]string{"model": {`"a/b c"`, `"a-b-c"`, `"qwen2.5"`}}}, nil,
			"model=a-b-c-" + shortHash(`"a/b c"`) + " model=a-b-c model=qwen2.5"},
	}
	for _, c := range cases {
		instances, err := c.block.Instances(c.sets)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		equal(t, c.name, names(instances), c.want)
	}
	long, err := (&ExperimentBlock{Matrix: map[string][]string{"text": {`"` + strings.Repeat("x", 500) + `"`}}}).Instances(nil)
	if err != nil || len(long[0].Name) > maxInstanceName {
		t.Errorf("a long value: %v, %v", long, err)
	}
	if _, err := (&ExperimentBlock{Name: "e", Matrix: matrix, Exclude: []map[string]string{{"rank": "8"}, {"rank": "16"}}}).Instances(nil); err == nil {
		t.Error("an experiment of nothing is accepted")
	}
}

func TestValuesOfSet(t *testing.T) {
	cases := []struct{ declared, set, want string }{
		{`type = number`, `n=8`, `8`},
		{`type = number`, `n=[8, 16]`, `8 16`},
		{`type = number`, `n=logspace(1e-4, 1e-2, 3)`, `0.0001 0.001 0.01`},
		{`type = string`, `n=plain text`, `"plain text"`},
		{`type = string`, `n="quoted"`, `"quoted"`},
		{`type = string`, `n=["a", "b"]`, `"a" "b"`},
		{`type = list(number)`, `n=[1, 2]`, `[1,2]`},
		{`type = list(number)`, `n=[[1], [1, 2]]`, `[1] [1,2]`},
		{`type = bool`, `n=[true, false]`, `true false`},
		{`default = 1`, `n=[1, 2]`, `1 2`},
	}
	for _, c := range cases {
		dt := decodeTest{files: map[string]string{"pipeline.hcl": "variable \"n\" {\n" + c.declared + "\n}"}, opts: DecodeOptions{Sets: []string{c.set}, Vars: nil}}
		if !strings.Contains(c.declared, "default") {
			dt.opts.Experiment = map[string]string{"n": map[string]string{"number": "1", "string": `"x"`, "bool": "true"}[strings.Fields(c.declared)[2]]}
			if strings.Contains(c.declared, "list") {
				dt.opts.Experiment["n"] = "[1]"
			}
		}
		p := dt.ok(t)
		equal(t, c.declared+" "+c.set, strings.Join(p.Sets[0].Values, " "), c.want)
	}
}

// A text that looks like HCL is a text, whatever it holds.
func TestExperimentValuesAreNoHCL(t *testing.T) {
	dt := decodeTest{files: map[string]string{"pipeline.hcl": "variable \"n\" {\ntype = string\n}"},
		opts: DecodeOptions{Experiment: map[string]string{"n": `"${upper(\"x\")} %{ if"`}}}
	equal(t, "value", dt.ok(t).Variables[0].Value, `"${upper(\"x\")} %{ if"`)
}

func TestApplyKeepsCommentsAndLayout(t *testing.T) {
	src := "# ranks\nvariable \"rank\" { default = 8 } # one line\n\nvariable \"lr\" {\n  type    = number\n  default = 1e-3   # tuned by hand\n}\nvariable \"text\" {\n}\n"
	got, set, err := ApplyDefaults([]byte(src), "pipeline.hcl", map[string]string{"rank": "16", "lr": "1e-05", "text": `"a ${b}"`})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "set", strings.Join(set, " "), "rank lr text")
	equal(t, "file", string(got), "# ranks\nvariable \"rank\" { default = 16 } # one line\n\nvariable \"lr\" {\n  type    = number\n  default = 1e-05 # tuned by hand\n}\n"+
		"variable \"text\" {\n  default = \"a $${b}\"\n}\n")
	if again, _, err := ApplyDefaults(got, "pipeline.hcl", map[string]string{"rank": "16", "lr": "1e-05", "text": `"a ${b}"`}); err != nil || string(again) != string(got) {
		t.Errorf("applied twice: %s %v", again, err)
	}
	auto, err := ApplyValues([]byte("# mine\nlr = 1 # keep\n"), "vars.auto.hcl", map[string]string{"lr": "-0.5", "sizes": "[1,2]"})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "values", string(auto), "# mine\nlr    = -0.5 # keep\nsizes = [1, 2]\n")
}

func testRecords() []*ExperimentRecord {
	var records []*ExperimentRecord
	for i, rank := range []string{"8", "16", "8", "16", "32"} {
		score := float64(i)
		r := &ExperimentRecord{Schema: 1, Experiment: "e", Instance: fmt.Sprintf("rank=%s,seed=%d", rank, i), State: ExperimentDone, Seconds: 1,
			Vars:    map[string]json.RawMessage{"rank": json.RawMessage(rank), "seed": json.RawMessage(fmt.Sprint(i)), "same": json.RawMessage(`"x"`)},
			Metrics: map[string]*float64{"t.score": &score, "t.nan": nil}}
		if i == 4 {
			r.State, r.Metrics = ExperimentFailed, map[string]*float64{}
		}
		records = append(records, r)
	}
	return records
}

func TestTableOfExperiments(t *testing.T) {
	records := testRecords()
	equal(t, "varying", strings.Join(VaryingVars(records), " "), "rank seed")
	order := func(records []*ExperimentRecord) string {
		var seeds []string
		for _, r := range records {
			seeds = append(seeds, string(r.Vars["seed"]))
		}
		return strings.Join(seeds, "")
	}
	for column, want := range map[string]string{"": "02134", "-t.score": "32104", "t.score": "01234", "-rank": "41302", "state": "02134"} {
		sorted := testRecords()
		if err := SortExperiments(sorted, column); err != nil {
			t.Fatal(err)
		}
		equal(t, "sorted by "+column, order(sorted), want)
	}
	for condition, want := range map[string]string{"rank=8": "02", "rank>=16": "134", "state=failed": "4", "t.score<2": "01", "rank!=8": "134", "same=x": "01234", "t.score != 1": "0234"} {
		kept, err := FilterExperiments(records, []string{condition})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, condition, order(kept), want)
	}
	groups, err := GroupExperiments(records, []string{"rank"})
	if err != nil || len(groups) != 2 {
		t.Fatal(groups, err)
	}
	spread := groups[1].Metrics["t.score"]
	equal(t, "spread", fmt.Sprintf("%d %.3f %.3f %.3f %.3f", spread.Count, spread.Mean, spread.Std, spread.Min, spread.Max), "2 2.000 1.414 1.000 3.000")
	equal(t, "best", Best(records, "t.score", "max").Instance, "rank=16,seed=3")
	equal(t, "least", Best(records, "t.score", "min").Instance, "rank=8,seed=0")
}

// The format is a promise: a record that was written once is read by every later lpipe.
func TestRecordFormat(t *testing.T) {
	dir := t.TempDir()
	e := &Experiment{Schema: 1, Name: "e", Metric: "t.score", Instances: map[string]map[string]json.RawMessage{}}
	for _, r := range testRecords() {
		e.Instances[r.Instance] = r.Vars
		if err := writeJSON(recordPath(r.Dir(dir)), r); err != nil {
			t.Fatal(err)
		}
	}
	e.Instances["rank=64"] = map[string]json.RawMessage{"rank": json.RawMessage("64")}
	if err := writeJSON(filepath.Join(experimentsDir(dir), "e", "experiment.json"), e); err != nil {
		t.Fatal(err)
	}
	_, records, err := FindExperiments(dir, "e")
	if err != nil || len(records) != 6 {
		t.Fatal(len(records), err)
	}
	equal(t, "state of what did not run", records[3].State, ExperimentUnfinished)
	data, err := os.ReadFile(recordPath(records[0].Dir(dir)))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "record", string(data), `{"check":"22cffbbc06f9cf50","schema":1,"experiment":"e","instance":"rank=16,seed=1","state":"done","point":null,"set":null,`+
		`"vars":{"rank":16,"same":"x","seed":1},"metrics":{"t.nan":null,"t.score":1},"seconds":1,"started":"0001-01-01T00:00:00Z",`+
		`"finished":"0001-01-01T00:00:00Z","ran":0,"reused":0}`+"\n")
	for _, name := range []string{"../e", "e/../e", "", "e/", "nobody", "e/rank=9"} {
		if _, found, err := FindExperiments(dir, name); err == nil && name != "e/" {
			t.Errorf("%q means %d records", name, len(found))
		}
	}
	if err := RemoveExperiment(dir, "e/rank=64"); err != nil {
		t.Fatal(err)
	}
	if _, records, err = FindExperiments(dir, "e"); err != nil || len(records) != 5 {
		t.Fatal(len(records), err)
	}
}

func BenchmarkReadRecords(b *testing.B) {
	dir, score := b.TempDir(), 0.5
	e := &Experiment{Schema: 1, Name: "e", Instances: map[string]map[string]json.RawMessage{}}
	for i := range 5000 {
		r := testRecords()[0]
		r.Instance = fmt.Sprintf("seed=%d", i)
		for m := range 10 {
			r.Metrics[fmt.Sprintf("tuned.metric%d", m)] = &score
		}
		e.Instances[r.Instance] = r.Vars
		os.MkdirAll(filepath.Dir(recordPath(r.Dir(dir))), 0o777)
		data, _ := json.Marshal(r)
		os.WriteFile(recordPath(r.Dir(dir)), data, 0o666)
	}
	for b.Loop() {
		if _, err := e.Records(dir); err != nil {
			b.Fatal(err)
		}
	}
}
