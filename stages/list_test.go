package stages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/runner"
	"lpipe/runner/runnertest"
)

// Every setting of every kind is in the key, unless it says that it is not.
func TestEverySettingIsInTheKey(t *testing.T) {
	for _, k := range Kinds() {
		t.Run(k.Name, func(t *testing.T) { runnertest.NudgeSettings(t, k) })
	}
}

// lpipe kinds has something to say about every kind, port and setting, the nested ones too.
func TestEverythingIsDocumented(t *testing.T) {
	var documented func(name string, settings []runner.SettingDoc)
	documented = func(name string, settings []runner.SettingDoc) {
		for _, s := range settings {
			if s.Doc == "" {
				t.Errorf("%s.%s has no doc", name, s.Name)
			}
			documented(name+"."+s.Name, s.Fields)
		}
	}
	seen := map[string]bool{}
	for _, k := range Kinds() {
		if seen[k.Name] {
			t.Errorf("%s stands twice", k.Name)
		}
		seen[k.Name] = true
		d := k.Describe()
		if d.Doc == "" || d.Version < 1 {
			t.Errorf("%s: %+v", k.Name, d)
		}
		for _, p := range append(d.In, d.Out...) {
			if p.Doc == "" {
				t.Errorf("%s: port %s has no doc", k.Name, p.Name)
			}
		}
		documented(k.Name, d.Settings)
	}
	for _, name := range []string{"convert", "preprocess", "validate", "tokenize", "split", "train", "evaluate", "merge", "shell"} {
		if !seen[name] {
			t.Errorf("no kind %s", name)
		}
	}
}

// The settings come through the pipeline file: part of an object leaves the rest of its defaults, settings of
// several forms take each, and split makes folders of tokens and files of rows.
func TestSettingsFromAPipelineFile(t *testing.T) {
	dir := t.TempDir()
	text := `
source "raw" { path = "raw.jsonl" }
stage "convert" "qa" {
  in      = { raw = source.raw.path }
  format  = "columns"
  columns = { prompt = "q", response = "a" }
  keep    = ["level"]
}
stage "preprocess" "clean" {
  in     = { data = stage.qa.data }
  dedupe = false
  redact = ["email"]
}
stage "validate" "checked" {
  in  = { data = stage.clean.data }
  out = { data = "build/checked.parquet", report = "build/report.json" }
  checks = {
    boxed  = { required = true }
    length = { severity = "warn", max_prompt = 10 }
  }
  near_duplicates = { threshold = 0.7 }
}
stage "tokenize" "tokens" {
  in = { data = stage.checked.data, tokenizer = "model" }
}
stage "split" "sets" {
  in     = { tokens = stage.tokens.tokens }
  ratios = [0.8, 0.1, 0.1]
}
stage "split" "rows" {
  in     = { data = stage.checked.data }
  ratios = { train = 0.5, test = 0.5 }
}
`
	if err := os.WriteFile(filepath.Join(dir, "pipeline.hcl"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	p, diags := runner.Decode(runner.DecodeOptions{Dir: dir, Getenv: func(string) (string, bool) { return "", false }, Kinds: Kinds()})
	if diags.HasErrors() {
		t.Fatal(diags.Error())
	}
	steps := map[string]*runner.Step{}
	for _, s := range p.Steps {
		steps[s.Name] = s
	}
	if c := steps["qa"].Stage.(*Convert); c.Columns["response"] != "a" || c.InvalidUTF8 != "fail" || !c.CrossCheck {
		t.Errorf("%+v", c)
	}
	if c := steps["clean"].Stage.(*Preprocess); c.Dedupe != "none" || c.Normalize != "nfc" || !c.StripControl || len(c.Redact) != 1 {
		t.Errorf("%+v", c)
	}
	v := steps["checked"].Stage.(*Validate)
	if want := defaultChecks(); !v.Checks.Boxed.Required || v.Checks.Boxed.Severity != "error" || v.Checks.Length.MaxResponse != want.Length.MaxResponse ||
		v.Checks.Length.Severity != "warn" || v.Checks.Think != want.Think || v.NearDuplicates != (NearDuplicates{true, 0.7, 5}) {
		t.Errorf("%+v", v)
	}
	for _, name := range []string{"sets", "rows"} {
		for _, out := range steps[name].Out {
			if folder := name == "sets"; out.Name != "report" && (out.Folder != folder || strings.HasSuffix(out.Path, ".jsonl") == folder) {
				t.Errorf("%s: %+v", name, out)
			}
		}
	}
	if s := steps["rows"].Stage.(*Split); s.Ratios != (Ratios{0.5, 0, 0.5}) || s.By != "cluster" {
		t.Errorf("%+v", s)
	}
}
