package runner

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lpipe/cache"
)

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "formats", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
}

func fileOf(text string) cache.Content {
	return cache.Content{ID: cache.Sum([]byte(text)), Size: int64(len(text)), Files: 1}
}

// exampleNode has everything that a key may hold.
func exampleNode(inPlace bool) (*Node, ingredients) {
	n := &Node{Step: &Step{
		Name:     "name-that-does-not-count",
		Kind:     &Kind{Name: "kind", Version: 3, InPlace: inPlace},
		Settings: []Setting{{Name: "epochs", Value: "1"}, {Name: "token", Value: `"x"`, Sensitive: true}, {Name: "words", Value: `["a","\"b\""]`}},
		Out:      []StepOutput{{Name: "metrics", Path: "build/m.json"}, {Name: "adapter", Path: "build/adapter.d", Folder: true}},
		Env:      map[string]string{"SEED": "1", "B": "two\nlines"},
		Timeout:  1, Retries: 2, Always: true,
	}}
	for _, in := range []struct{ name, path string }{{"data[1]", "b.jsonl"}, {"data[0]", "a.jsonl"}, {"model", "models/base"}, {"ref[0]", "build/x y"}} {
		n.inputs = append(n.inputs, nodeInput{StepInput: &StepInput{Name: in.name, Path: in.path}})
	}
	tool := fileOf("#!/bin/sh\n")
	tool.Exec = true
	return n, ingredients{
		inputs: []readInput{
			{nodeInput: &n.inputs[0], content: fileOf("b")},
			{nodeInput: &n.inputs[1], content: fileOf("a")},
			{nodeInput: &n.inputs[2], content: cache.Content{ID: cache.Sum([]byte("tree")), Dir: true}, digest: cache.Sum([]byte("some"))},
			{nodeInput: &n.inputs[3], content: cache.Content{ID: cache.Sum([]byte("tree")), Dir: true}},
		},
		code:  []readFile{{name: "lib/a.py", content: fileOf("code")}, {name: "run", content: tool}},
		tools: []readFile{{name: "python3", content: tool}},
	}
}

func TestDescriptionFormat(t *testing.T) {
	for name, inPlace := range map[string]bool{"key-shell.txt": true, "key-builtin.txt": false} {
		n, in := exampleNode(inPlace)
		text := describe(n, in)
		golden(t, name, text+"key "+cache.SumKey(text).String()+"\n")
	}
}

// Every part of a description is read back as what it says.
func TestFactsReadDescriptions(t *testing.T) {
	n, in := exampleNode(true)
	all := facts(describe(n, in))
	for want, value := range map[fact]string{
		{"kind", ""}:         "kind 3",
		{"setting", "words"}: `["a","\"b\""]`,
		{"env", "B"}:         `"two\nlines"`,
		{"in", "ref[0]"}:     "dir " + cache.Sum([]byte("tree")).String() + ` "build/x y"`,
		{"out", "adapter"}:   `"build/adapter.d/"`,
	} {
		if all[want] != value {
			t.Errorf("%v: %q, want %q", want, all[want], value)
		}
	}
	if len(all) != 17-1 { // the kind's line and the first one are two facts
		t.Errorf("%d facts: %v", len(all), all)
	}
}

func TestLockFormat(t *testing.T) {
	n, in := exampleNode(true)
	text := describe(n, in)
	lock := newLock()
	lock.Stages["lora@lr=0.0001,rank=8"] = lockStage(n, cache.SumKey(text), text, in, map[string]cache.Content{
		"metrics": fileOf("{}"), "adapter": {ID: cache.Sum([]byte("tree")), Dir: true, Size: 12, Files: 2}})
	lock.Stages["a <b>"] = LockStage{Key: cache.SumKey(""), Kind: "shell 1", Out: map[string]LockOutput{}}
	lock.Sources["data/raw.jsonl"] = LockSource{Content: fileOf("raw"), Stored: true}
	lock.Sources[".lpipe/sources/model"] = LockSource{Content: fileOf("weights"), Pin: "a09a35458c702b33eeacc393d103063234e8bc28", From: "hf Qwen/Qwen2.5-0.5B main", Choice: "0123456789abcdef"}
	lock.Sources["data/ä \"x\""] = LockSource{Content: fileOf("")}
	golden(t, "pipeline.lock", string(lock.encode()))
	golden(t, "empty.lock", string(newLock().encode()))
	for _, one := range []*Lock{lock, newLock()} {
		again, err := parseLock("pipeline.lock", one.encode())
		if err != nil {
			t.Fatal(err)
		}
		if string(again.encode()) != string(one.encode()) {
			t.Errorf("read back:\n%s", again.encode())
		}
		if saved := salvage(one.encode()); len(saved.Sources) != len(one.Sources) {
			t.Errorf("salvaged %v", saved.Sources)
		}
	}
}

func TestJournalFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	content := LockSource{Content: fileOf("raw")}
	for _, e := range []entry{{Begin: "s", Run: "20260101-000000-abcd", Paths: []string{"out/a"}},
		{Profile: "prod", Stage: "s", Done: &LockStage{Key: cache.SumKey("x"), Kind: "shell 1", Out: map[string]LockOutput{"a": {"out/a", fileOf("a")}}}},
		{Source: "raw.txt", Content: &content}} {
		if err := j.append(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(j.sync(), j.close()); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	golden(t, "journal", string(data))
	entries, good, total, err := readJournal(path)
	if err != nil || len(entries) != 3 || good != total || entries[1].Done.Out["a"].Path != "out/a" {
		t.Fatal(entries, good, total, err)
	}
}

// Whatever bytes a lock or a journal holds, reading them ends in an error or in something that writes back.
func FuzzLock(f *testing.F) {
	f.Add([]byte("{\"schema\": 1, \"sources\": {}, \"stages\": {}}"))
	f.Add(seedOf(f, "testdata/formats/pipeline.lock"))
	f.Fuzz(func(t *testing.T, data []byte) {
		salvage(data)
		lock, err := parseLock("pipeline.lock", data)
		if err != nil {
			return
		}
		if _, err := parseLock("pipeline.lock", lock.encode()); err != nil {
			t.Error(err)
		}
	})
}

func TestMasking(t *testing.T) {
	for _, test := range []struct {
		writes []string
		want   string
	}{
		{[]string{"the secret-token here"}, "the *** here"},
		{[]string{"the sec", "ret-to", "ken here"}, "the *** here"},
		{[]string{"secret-", "toke", "x"}, "secret-tokex"},
		{[]string{"secret-tokensecret-token"}, "******"},
		{[]string{"on and on"}, "on and on"}, // too short to hide
		{[]string{"end secret-tok"}, "end secret-tok"},
	} {
		var b strings.Builder
		w, flush := masking(&b, []string{"secret-token", "on", ""})
		for _, text := range test.writes {
			if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}
		flush()
		if b.String() != test.want {
			t.Errorf("%q: %q, want %q", test.writes, b.String(), test.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"a.py", "a.py", true}, {"*.py", "a.py", true}, {"*.py", "lib/a.py", false}, {"**/*.py", "a.py", true}, {"**/*.py", "x/y/a.py", true},
		{"lib/**", "lib/x/y", true}, {"lib/**/a", "lib/a", true}, {"lib/**/a", "lib/x/a/b", false}, {"[", "[", false}, {"a/*/c", "a/b/c", true},
	} {
		if matchPattern(test.pattern, test.name) != test.want {
			t.Errorf("%s on %s", test.pattern, test.name)
		}
	}
	if fixed, rest := splitPattern("lib/**/*.py"); fixed != "lib" || rest != "**/*.py" {
		t.Error(fixed, rest)
	}
	if fixed, rest := splitPattern("*.py"); fixed != "." || rest != "*.py" {
		t.Error(fixed, rest)
	}
}

// TestFreshFormat writes .lpipe/fresh for two noted paths: a folder of the workspace, and a file that is not there.
func TestFreshFormat(t *testing.T) {
	row := func(words [5]uint64, mode, follow, end uint32) (b []byte) {
		for _, word := range words {
			b = binary.LittleEndian.AppendUint64(b, word)
		}
		for _, word := range []uint32{mode, follow, end} {
			b = binary.LittleEndian.AppendUint32(b, word)
		}
		return b
	}
	marks := slices.Concat([]byte{2, 0, 0, 0}, row([5]uint64{}, 0, 0, 12), row([5]uint64{1, 2, 3, 4, 5}, 0o40755, 1, 16), []byte("/etc/missing"), []byte("data"))
	read, err := cache.ReadMarks(marks)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pipeline{Dir: "/w", EnvNames: []string{"MOOD"}, reads: decodeReads{folder: true, names: []string{"pipeline.hcl"}}}
	c := Circumstances{Decode: DecodeOptions{Dir: "/w", Profile: "prod", Version: "0.1.0", Vars: []string{"rank=8"}, Environ: []string{"LPIPE_VAR_x", "B"},
		Getenv: func(name string) (string, bool) { return "good", name == "MOOD" }}, Env: []string{"HOME"}, Words: []string{"cpu"}}
	digest, err := c.digest(p.EnvNames)
	if err != nil {
		t.Fatal(err)
	}
	lock := &Lock{Sources: map[string]LockSource{"data/a": {Content: fileOf("a")}}, Stages: map[string]LockStage{"s": {Kind: "shell 1", Out: map[string]LockOutput{}}, "t": {Kind: "shell 1", Out: map[string]LockOutput{}}}}
	r := outlinedRunner(t, lock)
	data := encodeBasis(freshMagic, digest, p, read.Witness("/w"), r.encodeOutline(lock.encodeChecks(FreshReport{Stages: 1000, Sources: 7, Saved: 1.5}.encode())))
	golden(t, "fresh.hex", hex.Dump(data))
	on, answer, err := decodeBasis(freshMagic, data)
	if err != nil || on.circumstances != digest || on.marks.Len() != 2 {
		t.Errorf("read back as %v: %v", on, err)
	}
	rest := reader{b: answer}
	was := readReport(&rest)
	records, whole := decodeVouched(&rest)
	if was != (FreshReport{Stages: 1000, Sources: 7, Saved: 1.5}) || !whole || len(records.sources) != 1 || records.stages["s"] != lock.Stages["s"].check("s") {
		t.Errorf("read back as %v, %v", was, records)
	}
	outline, ok := readOutline(rest, 2, 1)
	sum := textSum(string(lock.Stages["s"].append(nil, "s")))
	if want := (outlined{step: 1, sum: sum, paths: []string{"out/s", "data/a"}, needs: []int{}, reads: []int{0}}); !ok || len(outline) != 2 || !reflect.DeepEqual(outline[0], want) {
		t.Errorf("the outline is read back as %+v, not %+v", outline, want)
	}
	again, plain := scanLock(lock.encode())
	if !plain || again.stageCheck("s") != records.stages["s"] {
		t.Errorf("the check in the lock's text is %q", again.stageCheck("s"))
	}
}

// outlinedRunner has two stages, the second of which stands first in the file and reads what the first makes.
func outlinedRunner(t *testing.T, lock *Lock) *Runner {
	t.Helper()
	plan, diags := NewPlan(&Pipeline{Dir: "/w", Steps: []*Step{
		{Name: "t", Block: "t", Kind: &Kind{InPlace: true}, In: []StepInput{{Name: "a", Path: "out/s"}}, Out: []StepOutput{{Name: "o", Path: "out/t"}}, Always: true, Sandbox: "true"},
		{Name: "s", Block: "s", Kind: &Kind{InPlace: true}, In: []StepInput{{Name: "a", Path: "data/a"}}, Out: []StepOutput{{Name: "o", Path: "out/s"}}},
	}}, PlanOptions{Exists: func(string) bool { return true }})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return &Runner{dir: "/w", lock: lock, Plan: plan}
}

// TestScanLock: what the quick reader of locks reads is what the plain one reads, of whole locks and of damaged ones.
func TestScanLock(t *testing.T) {
	lock := &Lock{Sources: map[string]LockSource{"data/a": {Content: fileOf("a"), Stored: true}, "model": {Content: fileOf("m"), Pin: "abc", From: "hf A/B main", Choice: "01"}}, Stages: map[string]LockStage{}}
	for _, name := range []string{"a", "b@x=1", "c"} {
		tree := cache.Content{ID: cache.Sum([]byte(name)), Dir: true, Size: 1 << 40, Files: 12}
		lock.Stages[name] = LockStage{Key: cache.SumKey(name), Kind: "shell 1", Settings: "12", Env: "34", In: map[string]cache.ID{"x": tree.ID, "y[0]": {}},
			Out: map[string]LockOutput{"o": {"build/" + name, fileOf(name)}, "t": {"tree/" + name, tree}}}
	}
	lock.Stages["none"] = LockStage{Kind: "shell 1", Out: map[string]LockOutput{}}
	whole := lock.encode()
	read, plain := scanLock(whole)
	if !plain || !reflect.DeepEqual(read.withoutTexts(), lock) {
		t.Fatalf("%v: %+v\n%s", plain, read, whole)
	}
	// What was read is written as it stood, what changed since by its fields.
	changed := LockStage{Kind: "shell 2", Out: map[string]LockOutput{}}
	lock.Stages["c"] = changed
	read.apply([]entry{{Stage: "c", Done: &changed}}, "")
	equalText(t, string(read.encode()), string(lock.encode()))
	if read, plain := scanLock(newLock().encode()); !plain || len(read.Stages) > 0 {
		t.Error("an empty lock is not read")
	}
	for i := range whole {
		for _, bit := range []byte{1, 2, 4, 32, 128} {
			damaged := slices.Clone(whole)
			damaged[i] ^= bit
			sameLock(t, damaged)
		}
		sameLock(t, whole[:i])
		sameLock(t, slices.Concat(whole[:i], whole[min(i+1, len(whole)):]))
	}
}

// TestEncodeLock: what the lock's writer writes field by field is what encoding/json writes, but for characters that this escapes without need.
func TestEncodeLock(t *testing.T) {
	for _, text := range []string{"plain", "a <b> & c", "ä \"x\"", "back\\slash", "line\nbreak", "\u2028 \x7f", "bad \xff"} {
		source := LockSource{Content: fileOf(text), Pin: text, From: text}
		equalText(t, string(source.append(nil, text)), string(compact(checkedSource{source, source.check(text)})))
		out := LockOutput{text, cache.Content{ID: cache.Sum(nil), Dir: true, Exec: true}}
		equalText(t, string(appendContent(append(appendJSONString([]byte(`{"path":`), text), ','), out.Content))+"}", string(compact(out)))
		head := LockStage{Kind: text, Settings: text, Env: text}
		plain := string(compact(head))
		equalText(t, strings.Split(strings.ReplaceAll(string(head.append(nil, text)), "\n      ", ""), `,"check"`)[0], strings.TrimSuffix(plain, `,"out":null}`))
	}
}

// unescaped is a text of encoding/json as ours would be.
func unescaped(text string) string {
	return strings.NewReplacer(`\u2028`, "\u2028", `\ufffd`, "\ufffd").Replace(text)
}

func equalText(t *testing.T, got, want string) {
	t.Helper()
	if want = unescaped(want); unescaped(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// sameLock fails if the quick reader takes what the plain one refuses, or reads it as something else.
func sameLock(t *testing.T, data []byte) {
	t.Helper()
	read, plain := scanLock(data)
	if !plain {
		return
	}
	if long, _, err := decodeLock(data); err != nil || conflicted(data) || !reflect.DeepEqual(read.withoutTexts(), long) || string(read.encode()) != string(long.encode()) {
		t.Errorf("the quick reader takes\n%s\nas %+v, the plain one: %v %+v", data, read, err, long)
	}
}

func (l *Lock) withoutTexts() *Lock { return &Lock{Sources: l.Sources, Stages: l.Stages} }
