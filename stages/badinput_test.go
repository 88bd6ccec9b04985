package stages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/runner"
)

const goodRow = `{"id":"a","messages":[{"role":"user","content":"1+1?"},{"role":"assistant","content":"2"}]}` + "\n"

// Each mistake gives one error that names the file (and row) and what to do, and leaves no output.
func TestBadInput(t *testing.T) {
	convert := func(format string) *Convert {
		c := stageOf[*Convert](t, "convert")
		c.Format = format
		return c
	}
	sample := func(b *bench) []byte {
		raw, err := os.ReadFile(filepath.Join(sharedDir(b.t), "data/gsm8k/r1-sample-v0.parquet"))
		if err != nil {
			b.t.Fatal(err)
		}
		return raw
	}
	for name, c := range map[string]struct {
		stage func() runner.Stage
		input func(b *bench)
		want  []string
	}{
		"truncated Parquet": {
			func() runner.Stage { return convert("r1-distill-sft") },
			func(b *bench) { b.in["raw"] = []string{b.file("cut.parquet", string(sample(b)[:200_000]))} },
			[]string{"cut.parquet begins as a Parquet file but has no footer", "it was cut off; fetch or write it again"},
		},
		"no Parquet": {
			func() runner.Stage { return convert("r1-distill-sft") },
			func(b *bench) {
				b.in["raw"] = []string{b.file("page.parquet", "<html>404 not found, sorry about that</html>")}
			},
			[]string{"page.parquet is no Parquet file"},
		},
		"missing column of Parquet": {
			func() runner.Stage { return convert("alpaca") },
			func(b *bench) { b.in["raw"] = []string{b.file("v0.parquet", string(sample(b)))} },
			[]string{"v0.parquet has not the columns of format alpaca (instruction and output); it has id, reannotated_assistant_content, problem"},
		},
		"missing column of JSONL": {
			func() runner.Stage { return convert("alpaca") },
			func(b *bench) { b.in["raw"] = []string{b.file("qa.jsonl", goodRow)} },
			[]string{"qa.jsonl: none of 1 rows could be converted as alpaca: missing column: instruction and output (first: qa.jsonl line 1)"},
		},
		"missing column of CSV": {
			func() runner.Stage {
				c := convert("columns")
				c.Columns = map[string]string{"prompt": "q", "response": "a"}
				return c
			},
			func(b *bench) { b.in["raw"] = []string{b.file("faq.csv", "question,a\nx,y\n")} },
			[]string{"faq.csv has not the columns of format columns (q and a); it has question, a"},
		},
		"broken line": {
			func() runner.Stage { return convert("messages") },
			func(b *bench) { b.in["raw"] = []string{b.file("rows.jsonl", goodRow+goodRow+"{\"id\": oops}\n")} },
			[]string{"rows.jsonl line 3: invalid JSON at byte 8", `mend or remove it, or set bad_rows = "skip"`},
		},
		"cut last line": {
			func() runner.Stage { return stageOf[*Preprocess](t, "preprocess") },
			func(b *bench) { b.in["data"] = []string{b.file("rows.jsonl", goodRow+goodRow[:40])} },
			[]string{"rows.jsonl line 2: the JSON text ends in the middle (is the line cut off?)"},
		},
		"invalid UTF-8": {
			func() runner.Stage { return convert("messages") },
			func(b *bench) {
				b.in["raw"] = []string{b.file("latin1.jsonl", goodRow+strings.Replace(goodRow, "1+1?", "caf\xe9", 1))}
			},
			[]string{"latin1.jsonl line 2 holds bytes that are not UTF-8: make the file UTF-8 (iconv", `invalid_utf8 = "replace"`},
		},
		"empty file": {
			func() runner.Stage { return convert("messages") },
			func(b *bench) { b.in["raw"] = []string{b.file("empty.jsonl", "")} },
			[]string{"empty.jsonl: no rows in it: is it the right file?"},
		},
		"empty Parquet": {
			func() runner.Stage { return convert("messages") },
			func(b *bench) { b.in["raw"] = []string{b.file("empty.parquet", "")} },
			[]string{"empty.parquet is empty"},
		},
		"empty rows": {
			func() runner.Stage { return stageOf[*Validate](t, "validate") },
			func(b *bench) { b.in["data"] = []string{b.file("empty.jsonl", "\n\n")} },
			[]string{"empty.jsonl: no rows in it: look at what the stage before dropped"},
		},
		"missing file": {
			func() runner.Stage { return convert("messages") },
			func(b *bench) { b.in["raw"] = []string{b.path("nowhere.jsonl")} },
			[]string{"nowhere.jsonl: no such file"},
		},
		"wrong tokenizer folder": {
			func() runner.Stage { return stageOf[*Tokenize](t, "tokenize") },
			func(b *bench) {
				b.in["data"] = []string{b.file("rows.jsonl", goodRow)}
				b.in["tokenizer"] = []string{filepath.Dir(b.file("model/config.json", "{}"))}
			},
			[]string{"model", "tokenizer.json", "vocab.json"},
		},
		"token limits without tokenizer": {
			func() runner.Stage {
				v := stageOf[*Validate](t, "validate")
				v.Checks.Tokens.MaxTotal = 100
				return v
			},
			func(b *bench) { b.in["data"] = []string{b.file("rows.jsonl", goodRow)} },
			[]string{"checks.tokens sets limits, but there is no tokenizer to count with"},
		},
		"all rows fail": {
			func() runner.Stage {
				v := stageOf[*Validate](t, "validate")
				v.Checks.Think.Required = true
				return v
			},
			func(b *bench) { b.in["data"] = []string{b.file("rows.jsonl", goodRow)} },
			[]string{"rows.jsonl: not one of 1 rows passed: 1 think"},
		},
		"on_fail fail": {
			func() runner.Stage {
				v := stageOf[*Validate](t, "validate")
				v.OnFail = "fail"
				return v
			},
			func(b *bench) {
				b.in["data"] = []string{b.file("rows.jsonl", goodRow+strings.Replace(goodRow, `"2"`, `""`, 1))}
			},
			[]string{"rows.jsonl: 1 of 2 rows fail (1 empty)", `empty: rows.jsonl line 2, id "a": turn 2 (assistant) is empty`},
		},
		"no column to split by": {
			func() runner.Stage {
				s := stageOf[*Split](t, "split")
				s.By = "topic"
				return s
			},
			func(b *bench) { b.in["data"] = []string{b.file("rows.jsonl", goodRow)} },
			[]string{`rows.jsonl line 1 has no column "topic" to split by; it has answer, id, license, source`},
		},
		"a set without rows": {
			func() runner.Stage { return stageOf[*Split](t, "split") },
			func(b *bench) { b.in["data"] = []string{b.file("rows.jsonl", goodRow)} },
			[]string{"got none of the 1 rows: a share of"},
		},
		"no token folder": {
			func() runner.Stage { return stageOf[*Split](t, "split") },
			func(b *bench) { b.in["tokens"] = []string{filepath.Dir(b.file("tokens/x.bin", "x"))} },
			[]string{"tokens is not a token folder: it has no manifest.json"},
		},
		"an empty test set": {
			func() runner.Stage { return stageOf[*Validate](t, "validate") },
			func(b *bench) {
				b.in["data"] = []string{b.file("rows.jsonl", goodRow)}
				b.in["against"] = []string{b.file("test.jsonl", "")}
			},
			[]string{"test.jsonl: no rows in it to compare with"},
		},
		"a test set without questions": {
			func() runner.Stage { return stageOf[*Validate](t, "validate") },
			func(b *bench) {
				b.in["data"] = []string{b.file("rows.jsonl", goodRow)}
				b.in["against"] = []string{b.file("test.csv", "q\nwhat?\n")}
			},
			[]string{"test.csv", "has no question", "problem question prompt"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for _, port := range []string{"data", "train", "validation", "test"} {
				b.out[port] = b.path("out/" + port + ".jsonl")
			}
			b.out["tokens"] = b.path("out/tokens")
			if err := os.Mkdir(b.path("out"), 0o777); err != nil {
				t.Fatal(err)
			}
			c.input(b)
			if len(b.in["tokens"]) > 0 {
				b.out = map[string]string{"train": b.path("out/a"), "validation": b.path("out/b"), "test": b.path("out/c")}
			}
			err := b.run(c.stage())
			if err == nil {
				t.Fatalf("no error; log:\n%s", b.log.String())
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\nwant %s", err, want)
				}
			}
			if left, _ := filepath.Glob(b.path("out/*.jsonl")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func TestSkipBadRowsAndReplaceInvalidUTF8(t *testing.T) {
	b := newBench(t)
	b.in["raw"] = []string{b.file("rows.jsonl", goodRow+"{oops\n"+strings.Replace(goodRow, "1+1?", "caf\xe9", 1))}
	b.out["data"] = b.path("qa.jsonl")
	c := stageOf[*Convert](t, "convert")
	c.Format, c.BadRows, c.InvalidUTF8 = "messages", "skip", "replace"
	b.must(c)
	rows := readRows(t, b.path("qa.jsonl"))
	if len(rows) != 2 || rows[1].Prompt() != "caf\uFFFD" {
		t.Fatalf("%+v", rows)
	}
	for _, want := range []string{"converted 2 rows of 3", "1 dropped: cannot be read (first: rows.jsonl line 2: invalid JSON", "1 flagged: invalid UTF-8 replaced with U+FFFD (first: rows.jsonl line 3)"} {
		if !strings.Contains(b.log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, b.log.String())
		}
	}
}

// Settings that cannot be are refused before anything runs, by name.
func TestChecksNameTheSetting(t *testing.T) {
	for want, s := range map[string]interface{ Check() error }{
		`format: "" is not one of`:       stageOf[*Convert](t, "convert"),
		"columns: name the columns":      &Convert{Format: "columns", InvalidUTF8: "fail", BadRows: "fail"},
		"columns: only format":           &Convert{Format: "alpaca", InvalidUTF8: "fail", BadRows: "fail", Columns: map[string]string{"prompt": "x"}},
		`columns: "promt" is not one of`: &Convert{Format: "columns", InvalidUTF8: "fail", BadRows: "fail", Columns: map[string]string{"promt": "x"}},
		"limit: must not be negative":    &Convert{Format: "alpaca", Limit: -1},
		`normalize: "nfd"`:               &Preprocess{Normalize: "nfd"},
		`dedupe: "all"`:                  &Preprocess{Normalize: "nfc", Dedupe: "all"},
		`redact: "phone"`:                &Preprocess{Normalize: "nfc", Dedupe: "none", Redact: []string{"phone"}},
		`on_fail: "stop"`:                &Validate{OnFail: "stop"},
		`checks.empty.severity: ""`:      &Validate{OnFail: "drop"},
		"near_duplicates: the threshold": &Validate{OnFail: "drop", Checks: defaultChecks(), NearDuplicates: NearDuplicates{On: true, Threshold: 0.1, Shingle: 5}},
		"max_tokens: must be at least":   &Tokenize{SystemMode: "keep", TrainOn: "all", Overlong: "drop"},
		`train_on: "user"`:               &Tokenize{SystemMode: "keep", MaxTokens: 10, TrainOn: "user"},
		"system: system_mode":            &Tokenize{SystemMode: "none", System: "Hi", MaxTokens: 10, TrainOn: "all"},
		"ratios: must be 1 together":     &Split{Ratios: Ratios{0.9, 0.05, 0.5}, By: "row", Similarity: 1},
		"ratios: test must be 0..1":      &Split{Ratios: Ratios{1.2, 0, -0.2}, By: "row", Similarity: 1},
		"stratify: rows that stay":       &Split{Ratios: Ratios{1, 0, 0}, By: "source", Stratify: "topic"},
		"ngram: must be 0..100":          &Split{Ratios: Ratios{1, 0, 0}, By: "row", NGram: -1},
		"common: must be at least 2":     &Split{Ratios: Ratios{1, 0, 0}, By: "row", Common: 1},
		"by: must be":                    &Split{Ratios: Ratios{1, 0, 0}, Similarity: 1},
		"similarity: the threshold":      &Split{Ratios: Ratios{1, 0, 0}, By: "row", Common: 2},
	} {
		if want == "ratios: test must be 0..1" {
			want = "ratios: train must be 0..1"
		}
		if err := s.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for _, k := range Kinds() {
		s := k.New()
		switch s := s.(type) { // the settings without a default
		case *Convert:
			s.Format = "messages"
		case *shell:
			continue
		}
		if c, ok := s.(interface{ Check() error }); ok {
			if err := c.Check(); err != nil {
				t.Errorf("the defaults of %s: %v", k.Name, err)
			}
		}
	}
}
