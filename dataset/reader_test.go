package dataset

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// shared is the folder of real data beside the repository; without it the test is skipped.
func shared(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("LPIPE_SHARED"); dir != "" {
		return dir
	}
	dir, err := os.Getwd()
	for err == nil && dir != filepath.Dir(dir) {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			if s := filepath.Join(dir, "..", "shared"); exists(s) {
				return s
			}
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Skip("needs ../shared beside the repository, or LPIPE_SHARED")
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func allRecords(t *testing.T, path string, columns ...string) []Record {
	t.Helper()
	r, err := Open(path, columns...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []Record
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		records, err := b.Records()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, records...)
	}
}

// The Parquet files come from pyarrow: NULL-typed columns, list<struct>, zstd and snappy, several row groups.
func TestParquetHoldsWhatTheJSONLHolds(t *testing.T) {
	dir := filepath.Join(shared(t), "data/gsm8k")
	for _, name := range []string{"r1-sample", "r1-sample-v0"} {
		t.Run(name, func(t *testing.T) {
			lines := allRecords(t, filepath.Join(dir, name+".jsonl"))
			rows := allRecords(t, filepath.Join(dir, name+".parquet"))
			if len(lines) != len(rows) || len(rows) == 0 {
				t.Fatalf("%d rows of JSONL, %d of Parquet", len(lines), len(rows))
			}
			for i := range rows {
				if a, b := canonical(t, lines[i]), canonical(t, rows[i]); !reflect.DeepEqual(a, b) {
					t.Fatalf("row %d:\n%v\n%v", i, a, b)
				}
			}
			some := allRecords(t, filepath.Join(dir, name+".parquet"), "id")
			if len(some) != len(rows) || len(some[7]) != 1 || some[7].Get("id").Text != rows[7].Get("id").Text {
				t.Fatalf("projection: %v", some[7])
			}
		})
	}
}

func canonical(t *testing.T, r Record) (v any) {
	t.Helper()
	b := Value{Shape: Object, Fields: r}.appendJSON(nil)
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// encoding/json is the witness of the scanner.
func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	path := filepath.Join(shared(t), "data/gsm8k/r1-sample.jsonl")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	records := allRecords(t, path)
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		var want any
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if got := canonical(t, records[i]); !reflect.DeepEqual(got, want) {
			t.Fatalf("row %d: %v", i, got)
		}
	}
}

func FuzzScanner(f *testing.F) {
	for _, s := range []string{`{"a":"x\u00e9\ud83d\ude00\n","b":[1,2.5e3,null,true,{}]}`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a":1}x`, `{"a":1e`, `{"":[[]]}`, `[1]`, `{"a":"` + "\n" + `"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var s scanner
		s.reset(line)
		got, err := s.record(nil)
		var want map[string]json.RawMessage
		valid := json.Unmarshal(line, &want) == nil && want != nil
		if err != nil {
			if valid && !errors.Is(err, errJSONDeep) {
				t.Fatalf("refused valid %q: %v", line, err)
			}
			return
		}
		if !valid {
			// Python's constants and numbers like 01 or 1. are let through.
			if !strings.ContainsAny(string(line), "0123456789NI") {
				t.Fatalf("took invalid %q", line)
			}
			return
		}
		for _, field := range got {
			var a, b any
			if json.Unmarshal(want[field.Name], &b) != nil {
				continue // an earlier duplicate of the name
			}
			if err := json.Unmarshal(got.Get(field.Name).appendJSON(nil), &a); err != nil || !reflect.DeepEqual(a, b) {
				t.Fatalf("%q: %s: %v, want %v (%v)", line, field.Name, a, b, err)
			}
		}
	})
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := `{"id":"a","messages":[{"role":"user","content":"x"}]}` + "\n"
	for name, c := range map[string]struct{ path, want string }{
		"broken line":      {write("broken.jsonl", good+"\n"+`{"id":"b", messages}`+"\n"), "broken.jsonl line 3: invalid JSON at byte 12"},
		"cut line":         {write("cut.jsonl", good+good[:30]), "cut.jsonl line 2: the JSON text ends in the middle"},
		"no object":        {write("list.jsonl", good+"[1]\n"), "list.jsonl line 2: the row is no JSON object"},
		"behind":           {write("behind.jsonl", `{"id":"a"} {"id":"b"}`+"\n"), "behind.jsonl line 1: invalid JSON at byte 12: '{' behind the row"},
		"messages no list": {write("m.jsonl", `{"messages":"hi"}`+"\n"), "m.jsonl line 1: messages: is a text, not a list of messages"},
		"utf-16":           {write("u16.jsonl", "\xff\xfe{\x00"), "u16.jsonl is UTF-16: make it UTF-8 (iconv"},
		"parquet named":    {write("p.jsonl", "PAR1xxxx"), "p.jsonl is a Parquet file: give it the extension .parquet"},
		"no parquet":       {write("n.parquet", "hello, world, I am no such file"), "n.parquet is no Parquet file"},
		"empty parquet":    {write("e.parquet", ""), "e.parquet is empty"},
		"cut list":         {write("l.json", `[{"id":"a"},{"id":"b"}`), "the list ends after row 2 without its bracket"},
		"json text":        {write("t.json", `"x"`), "a .json file of rows is a list of objects"},
		"csv":              {write("c.csv", "a,b\n1,2\n1,2,3\n"), "c.csv line 3: wrong number of fields"},
		"extension":        {write("x.docx", "x"), `not from ".docx"`},
		"folder":           {dir, "is no file"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := OpenRows(c.path)
			for err == nil {
				_, err = r.Next()
			}
			if errors.Is(err, io.EOF) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestTruncatedParquet(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(shared(t), "data/gsm8k/r1-sample.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.parquet")
	for _, n := range []int{len(raw) / 2, len(raw) - 1, 5} {
		if err := os.WriteFile(path, raw[:n], 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path+" begins as a Parquet file but has no footer at its end: it was cut off") {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

// Bytes inside the pages are damaged: an error with the row, never a crash.
func TestDamagedParquet(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(shared(t), "data/gsm8k/r1-sample-v0.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.parquet")
	for at := 10; at < len(raw); at += len(raw) / 60 {
		damaged := append([]byte(nil), raw...)
		for i := at; i < min(at+40, len(raw)); i++ {
			damaged[i] ^= 0x5a
		}
		if err := os.WriteFile(path, damaged, 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		for err == nil {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), path) {
			t.Fatalf("byte %d: %v", at, err)
		}
		if r != nil {
			r.Close()
		}
	}
}
