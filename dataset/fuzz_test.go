package dataset

import (
	"os"
	"path/filepath"
	"testing"
)

// readAll reads a file of rows as a stage would; what is wrong with it is an error.
func readAll(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(path); err == nil {
		for rows := 0; rows < 1000; {
			batch, err := r.Next()
			if err != nil || batch == nil {
				break
			}
			records, err := batch.Records()
			if err != nil {
				break
			}
			rows += 1 + len(records)
		}
		r.Close()
	}
	if r, err := OpenRows(path); err == nil {
		for range 1000 {
			if row, err := r.Next(); err != nil || row == nil {
				break
			}
		}
		r.Where()
		r.Close()
	}
}

// FuzzRows: rows in text, by each of the formats.
func FuzzRows(f *testing.F) {
	for i, s := range []string{
		`{"id":"a","messages":[{"role":"user","content":"x","tool_calls":[{}]}],"answer":"1","meta":{"a":"b"},"flags":["f"],"tools":[]}` + "\n",
		"a,b\n\"1,\n2\",3\n", "a\tb\n1\t2\n", "[{\"id\":1},{\"messages\":null}]", "\xef\xbb\xbf{\"id\":\"\xff\"}\n\n{",
	} {
		f.Add([]byte(s), uint8(i))
	}
	names := []string{"x.jsonl", "x.csv", "x.tsv", "x.json", "x.ndjson"}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) { readAll(t, names[int(kind)%len(names)], data) })
}

// FuzzParquet: a Parquet file with anything in it.
func FuzzParquet(f *testing.F) {
	path := filepath.Join(f.TempDir(), "x.parquet")
	w, err := CreateRows(path)
	if err != nil {
		f.Fatal(err)
	}
	row := Row{ID: "a", Answer: "1", Messages: []Message{{Role: "user", Content: "x"}}, Meta: []Pair{{"m", "n"}}, Flags: []string{"f"}}
	if err := w.Write(&row); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { readAll(t, "x.parquet", data) })
}

// FuzzTokenFolder: a manifest and an index with anything in them.
func FuzzTokenFolder(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "t")
	w, err := CreateTokens(dir, Manifest{Tokenizer: "tok", Template: "chat", VocabSize: 10})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 2 {
		if err := w.Append(Sequence{ID: "a", IDs: []int32{1, 2, 3}, Mask: []bool{false, true, true}, Row: i}); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	names := []string{manifestFile, tokensFile, maskFile, indexFile, rowsFile}
	seed := make([][]byte, len(names))
	for i, name := range names {
		if seed[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	f.Fuzz(func(t *testing.T, manifest, tokens, mask, index, rows []byte) {
		for i, data := range [][]byte{manifest, tokens, mask, index, rows} {
			if err := os.WriteFile(filepath.Join(dir, names[i]), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		folder, err := OpenTokens(dir)
		if err != nil {
			return
		}
		defer folder.Close()
		for i := range min(folder.Len(), 100) {
			folder.IDs(i, nil)
			folder.Mask(i, nil)
			folder.Sequence(i)
			folder.Forget(i)
		}
		folder.Verify()
	})
}

// FuzzPackIndex: an index of packs that opens names nothing outside of its token folder.
func FuzzPackIndex(f *testing.F) {
	dir := f.TempDir()
	folder, path := filepath.Join(dir, "t"), filepath.Join(dir, "pack.idx")
	w, err := CreateTokens(folder, Manifest{Tokenizer: "tok", Template: "chat", VocabSize: 10})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 5 {
		if err := w.Append(Sequence{ID: "a", IDs: []int32{1, 2, 3}, Mask: []bool{false, true, true}, Row: i}); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	tokens, err := OpenTokens(folder)
	if err != nil {
		f.Fatal(err)
	}
	defer tokens.Close()
	if _, err := CreatePacks(path, tokens, 6, Split); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[:packHeader], whole[packPage:packPage+32], whole[2*packPage:])
	f.Fuzz(func(t *testing.T, head, starts, pieces []byte) {
		data := append(head[:min(len(head), packPage):min(len(head), packPage)], make([]byte, packPage-min(len(head), packPage))...)
		data = append(data, starts[:min(len(starts), packPage)]...)
		data = append(append(data, make([]byte, 2*packPage-len(data))...), pieces...)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		p, err := OpenPacks(path, tokens)
		if err != nil {
			return
		}
		defer p.Close()
		for i := range p.Len() {
			sum := 0
			for _, one := range p.Pack(i, nil) {
				ids := tokens.IDs(one.Sequence, nil)
				sum += len(ids[one.From : one.From+one.Count])
			}
			if sum > p.Length() {
				t.Errorf("pack %d has %d tokens, more than %d", i, sum, p.Length())
			}
		}
	})
}
