package stages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/dataset"
)

// Each format makes the same kind of row; the golden lines say which.
func TestConvertFormats(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		set        func(*Convert)
		want       string
	}{
		"alpaca": {
			"a.json", `[{"instruction":"Add.","input":"1 and 1","output":"\\boxed{2}"},{"instruction":"Hi","input":"","output":"Ho"}]`, nil,
			`{"id":"","messages":[{"role":"user","content":"Add.\n\n1 and 1"},{"role":"assistant","content":"\\boxed{2}"}],"answer":"2"}
{"id":"","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}
`},
		"sharegpt": {
			"s.jsonl", `{"id":"x1","system":"Be kind.","conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"Ho"}]}`, nil,
			`{"id":"x1","messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}]}
`},
		"messages": {
			"m.jsonl", `{"prompt_id":"p","messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant","content":null,"tool_calls":[ {"name":"f", "arguments":{}} ]}],"tools":[{"name":"f"}],"source":"set"}`, nil,
			`{"id":"p","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"","tool_calls":[{"name":"f","arguments":{}}]}],"source":"set","tools":[{"name":"f"}]}
`},
		"gsm8k": {
			"g.jsonl", `{"question":"Eggs?","answer":"She has 16 - 3 = <<16-3=13>>13 eggs.\n#### 1,300"}`, nil,
			`{"id":"","messages":[{"role":"user","content":"Eggs?"},{"role":"assistant","content":"She has 16 - 3 = 13 eggs.\n\n\\boxed{1300}"}],"answer":"1300"}
`},
		"columns": {
			"c.csv", "no,q,r,a,level\n7,\"1+1,\nplease\",think,\\boxed{2},easy\n", func(c *Convert) {
				c.Columns = map[string]string{"id": "no", "prompt": "q", "reasoning": "r", "response": "a"}
				c.Keep = []string{"level"}
			},
			`{"id":"7","messages":[{"role":"user","content":"1+1,\nplease"},{"role":"assistant","content":"<think>\nthink\n</think>\n\n\\boxed{2}"}],"answer":"2","meta":{"level":"easy"}}
`},
		"columns by expression": {
			"c.jsonl", `{"title":"Add","body":" 1+1? ","steps":[{"text":"one"},{"text":"two"}],"gold":{"value":2}}` + "\n" + `{"title":"Say hi","body":"","steps":[{"text":"Hi"}],"other":"x"}`, func(c *Convert) {
				c.Format = "columns"
				c.Columns = map[string]string{"prompt": "{title}\n{body}", "response": "{{{steps[-1].text}}}: {other|gold.value}", "reasoning": "{steps[0].text}", "answer": "{gold.value}"}
			},
			`{"id":"","messages":[{"role":"user","content":"Add\n 1+1?"},{"role":"assistant","content":"<think>\none\n</think>\n\n{two}: 2"}],"answer":"2"}
{"id":"","messages":[{"role":"user","content":"Say hi"},{"role":"assistant","content":"<think>\nHi\n</think>\n\n{Hi}: x"}]}
`},
		"columns of messages": {
			"c.jsonl", `{"chat":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}],"gold":"so \\boxed{\\frac{1}{2}}"}`, func(c *Convert) {
				c.Format, c.Columns = "columns", map[string]string{"messages": "chat", "answer": "gold"}
			},
			`{"id":"","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Ho"}],"answer":"\\frac{1}{2}"}
`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.in["raw"] = []string{b.file(c.file, c.text)}
			b.out["data"] = b.path("qa.jsonl")
			s := stageOf[*Convert](t, "convert")
			s.Format, _, _ = strings.Cut(name, " ")
			if c.set != nil {
				c.set(s)
			}
			b.must(s)
			got, err := os.ReadFile(b.path("qa.jsonl"))
			if err != nil || string(got) != c.want {
				t.Fatalf("%v\n%s\nwant\n%s", err, got, c.want)
			}
		})
	}
}

// Both configs of the sample, from Parquet and JSONL, give the same rows.
func TestConvertBothConfigs(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "data/gsm8k")
	read := func(files ...string) []dataset.Row {
		b := newBench(t)
		for _, f := range files {
			b.in["raw"] = append(b.in["raw"], filepath.Join(dir, f))
		}
		b.out["data"] = b.path("qa.parquet")
		s := stageOf[*Convert](t, "convert")
		s.Format = "r1-distill-sft"
		b.must(s)
		return readRows(t, b.path("qa.parquet"))
	}
	v1 := read("r1-sample.parquet")
	if lines := read("r1-sample.jsonl"); len(lines) != len(v1) {
		t.Fatalf("%d rows of JSONL, %d of Parquet", len(lines), len(v1))
	}
	both := read("r1-sample-v0.parquet", "r1-sample-v0.jsonl")
	if len(both) != 1000 {
		t.Fatalf("%d rows of two files of 500", len(both))
	}
	same := 0
	for i, row := range both[:500] {
		if string(dataset.AppendRow(nil, &row)) != string(dataset.AppendRow(nil, &both[500+i])) {
			t.Fatalf("row %d differs between Parquet and JSONL", i)
		}
		for _, other := range v1[:500] {
			if other.ID == row.ID && other.Prompt() == row.Prompt() && other.Answer == row.Answer && other.Response() == row.Response() {
				same++
				break
			}
		}
	}
	if same < 490 { // what is dirty in messages only is no part of v0
		t.Fatalf("only %d of 500 rows are the same in v0 and v1", same)
	}
}

func TestConvertLimit(t *testing.T) {
	for _, ext := range []string{".jsonl", ".parquet"} {
		b := newBench(t)
		path := filepath.Join(sharedDir(t), "data/gsm8k/train.jsonl")
		b.in["raw"] = []string{path, path}
		b.out["data"] = b.path("qa" + ext)
		s := stageOf[*Convert](t, "convert")
		s.Format, s.Limit = "gsm8k", 7
		b.must(s)
		if rows := readRows(t, b.path("qa"+ext)); len(rows) != 7 || rows[0].Answer != "72" {
			t.Fatalf("%d rows, %+v", len(rows), rows[0])
		}
	}
}

func TestMappingsThatAreNone(t *testing.T) {
	for text, want := range map[string]string{
		"{a": "without its other", "a}": "without its other", "{a{b}}": "without its other", "{}": "names no column", "{a.}": "a name is missing",
		"{a[x]}": "stands a number", "{a[1}": "stands a number", "{a[0]b}": "stands a number", "{a|}": "names no column",
	} {
		c := &Convert{Format: "columns", Columns: map[string]string{"prompt": text, "response": "r"}, InvalidUTF8: "fail", BadRows: "fail"}
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "columns: prompt: ") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
