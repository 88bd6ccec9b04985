package dataset

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func sampleRows() []Row {
	rows := []Row{
		{ID: "a", Messages: []Message{{Role: User, Content: "1+1?\n\"quoted\" \\ \t\u2028 é 😀 \x01"}, {Role: Assistant, Content: "<think>\nhm\n</think>\n\n\\boxed{2}"}}, Answer: "2", Source: "sums"},
		{ID: "", Messages: []Message{}},
		{ID: "c", Messages: []Message{{Role: Assistant, ToolCalls: json.RawMessage(`[{"name":"f","arguments":{"x":[1,"\n"]}}]`)}}, Tools: json.RawMessage(`[{"name":"f"}]`), Meta: []Pair{{"level", "3"}, {"topic", "a \"b\""}}, Flags: []string{"think", "boxed"}},
	}
	for i := range 2000 {
		rows = append(rows, Row{ID: fmt.Sprint(i), Messages: []Message{{Role: User, Content: fmt.Sprintf("question %d", i)}, {Role: Assistant, Content: "x"}}})
	}
	return rows
}

func TestRowsComeBackAsWritten(t *testing.T) {
	for _, ext := range []string{".jsonl", ".parquet"} {
		t.Run(ext, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "rows"+ext)
			w, err := CreateRows(path)
			if err != nil {
				t.Fatal(err)
			}
			want := sampleRows()
			for i := range want {
				if err := w.Write(&want[i]); err != nil {
					t.Fatal(err)
				}
			}
			if exists(path) {
				t.Fatal("the file stands before Close")
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r, err := OpenRows(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for i := range want {
				got, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				a, b := AppendRow(nil, got), AppendRow(nil, &want[i])
				if string(a) != string(b) {
					t.Fatalf("row %d:\n%s\n%s", i, a, b)
				}
			}
			if _, err := r.Next(); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		})
	}
}

// The line of doc/format-data.md, and every field with what has to be escaped.
func TestRowBytes(t *testing.T) {
	for want, row := range map[string]Row{
		`{"id":"a","messages":[{"role":"user","content":"1+1?"},{"role":"assistant","content":"\\boxed{2}"}],"answer":"2"}`: {
			ID: "a", Answer: "2", Messages: []Message{{Role: User, Content: "1+1?"}, {Role: Assistant, Content: `\boxed{2}`}}},
		`{"id":"","messages":[]}`: {},
		`{"id":"\"","messages":[{"role":"tool","content":"\n\r\t\u0001\u2028é😀<&>","tool_calls":[1]}],"source":"s","tools":[],"meta":{"a":"\u001f","b":""},"flags":["x","y"]}`: {
			ID: `"`, Source: "s", Tools: json.RawMessage("[]"), Meta: []Pair{{"a", "\x1f"}, {"b", ""}}, Flags: []string{"x", "y"},
			Messages: []Message{{Role: Tool, Content: "\n\r\t\x01\u2028é😀<&>", ToolCalls: json.RawMessage("[1]")}}},
	} {
		if got := string(AppendRow(nil, &row)); got != want+"\n" {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestAbandonLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	w, err := CreateRows(filepath.Join(dir, "x.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	w.Abandon()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Fatal(left)
	}
	if _, err := CreateRows(filepath.Join(dir, "x.csv")); err == nil {
		t.Fatal("wrote CSV")
	}
}

func TestInvalidUTF8IsCountedAndReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	text := `{"id":"a","messages":[]}` + "\n" + `{"id":"b` + "\xff\xfe" + `c","messages":[]}` + "\n"
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := b.Rows()
	if err != nil {
		t.Fatal(err)
	}
	n, first := b.Replaced()
	if rows[1].ID != "b\uFFFD\uFFFDc" || n != 1 || first != 1 || b.Where(1) != path+" line 2" {
		t.Fatalf("%q, %d rows, first %d, %s", rows[1].ID, n, first, b.Where(1))
	}
}

// Every byte pair goes through a text and back as encoding/json reads it.
func TestAppendString(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			s := "text long enough " + string([]byte{byte(a), byte(b)}) + " \u2028 and more"
			var got, want string
			if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
				t.Fatal(err)
			}
			raw, _ := json.Marshal(s)
			_ = json.Unmarshal(raw, &want)
			if got != want {
				t.Fatalf("%q: %q, want %q", s, got, want)
			}
		}
	}
}

func TestLongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long.jsonl")
	long := make([]byte, 5<<20)
	for i := range long {
		long[i] = 'a' + byte(i%26)
	}
	row := Row{ID: "long", Messages: []Message{{Role: User, Content: string(long)}}}
	w, err := CreateRows(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := w.Write(&row); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRows(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 3 {
		got, err := r.Next()
		if err != nil || !reflect.DeepEqual(*got, row) {
			t.Fatal(err)
		}
	}
}
