package dataset

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func writeTokens(t *testing.T, dir string, seqs []Sequence) {
	t.Helper()
	w, err := CreateTokens(dir, Manifest{Tokenizer: "tok", Template: "chat", VocabSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seqs {
		if err := w.Append(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func randomSequences(n int) []Sequence {
	rng := rand.New(rand.NewPCG(1, 2))
	seqs := make([]Sequence, n)
	for i := range seqs {
		s := Sequence{ID: fmt.Sprint("row ", i), Row: 2 * i, Answer: strings.Repeat("é", i%3), Source: "s", Prompt: "what \"is\" it\n", Meta: []Pair{{"a", "b"}}}
		for range 1 + rng.IntN(40) {
			s.IDs = append(s.IDs, rng.Int32N(1000))
			s.Mask = append(s.Mask, rng.IntN(2) == 1)
		}
		seqs[i] = s
	}
	return seqs
}

func TestTokensComeBackAsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	want := randomSequences(300)
	writeTokens(t, dir, want)
	tokens, err := OpenTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if err := tokens.Verify(); err != nil {
		t.Fatal(err)
	}
	total, longest := 0, 0
	for i := range want {
		got := tokens.Sequence(i)
		got.IDs, got.Mask = tokens.IDs(i, nil), tokens.Mask(i, nil)
		if !reflect.DeepEqual(got, want[i]) || tokens.Answer(i) != want[i].Answer || tokens.ID(i) != want[i].ID || tokens.Length(i) != len(want[i].IDs) {
			t.Fatalf("sequence %d: %+v, want %+v", i, got, want[i])
		}
		total += len(got.IDs)
		longest = max(longest, len(got.IDs))
		tokens.Forget(i)
	}
	m := tokens.Manifest()
	if m.Tokens != int64(total) || m.Sequences != 300 || m.Longest != longest || m.Tokenizer != "tok" || m.Template != "chat" || m.VocabSize != 1000 {
		t.Fatalf("%+v", m)
	}
}

// The vectors of doc/format-data.md.
func TestTokenFolderBytes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, dir, []Sequence{
		{IDs: []int32{151644, 872, 198}, Mask: []bool{false, false, true}, ID: "a", Answer: "42", Prompt: "6*7?"},
		{IDs: []int32{1, 2, 3, 4, 5, 6}, Mask: []bool{true, false, false, false, false, true}, ID: "b", Row: 2},
	})
	for name, want := range map[string]string{
		tokensFile: "5c500200" + "68030000" + "c6000000" + "01000000" + "02000000" + "03000000" + "04000000" + "05000000" + "06000000",
		maskFile:   "0c" + "01",
		indexFile: "0000000000000000" + "0000000000000000" + "03000000" + "00000000" +
			"0300000000000000" + "2900000000000000" + "06000000" + "02000000",
		rowsFile: hex.EncodeToString([]byte(`{"id":"a","answer":"42","prompt":"6*7?"}` + "\n" + `{"id":"b"}` + "\n")),
	} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(raw); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	golden := filepath.Join("testdata", "manifest.json")
	got, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(golden)
	if err != nil || string(got) != string(want) {
		t.Errorf("manifest (%v):\n%s", err, got)
	}
}

func TestOpenTokensSaysWhatIsWrong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	edit := func(name, old, new string) func() {
		return func() {
			path := filepath.Join(dir, name)
			raw, _ := os.ReadFile(path)
			_ = os.WriteFile(path, []byte(strings.Replace(string(raw), old, new, 1)), 0o666)
		}
	}
	for name, c := range map[string]struct {
		damage func()
		want   string
	}{
		"never finished":   {func() { os.Remove(filepath.Join(dir, manifestFile)) }, "is not a token folder: it has no manifest.json"},
		"newer":            {edit(manifestFile, `"version": 1`, `"version": 2`), "has version 2, this lpipe reads 1"},
		"something else":   {edit(manifestFile, "lpipe-tokens", "dvc"), `has format "dvc"`},
		"not JSON":         {edit(manifestFile, "{", "["), "read manifest.json"},
		"cut tokens":       {func() { os.Truncate(filepath.Join(dir, tokensFile), 4) }, "tokens.bin has 4 bytes where its manifest says"},
		"missing mask":     {func() { os.Remove(filepath.Join(dir, maskFile)) }, "mask.bits"},
		"lying index":      {func() { edit(indexFile, "\x00\x00\x00\x00\x00\x00\x00\x00", "\x01\x00\x00\x00\x00\x00\x00\x00")() }, "seq.idx is damaged at sequence 0"},
		"cut rows":         {func() { os.Truncate(filepath.Join(dir, rowsFile), 1) }, "rows.jsonl has 1 bytes"},
		"negative numbers": {edit(manifestFile, `"sequences": 3`, `"sequences": -3`), "impossible counts"},
	} {
		t.Run(name, func(t *testing.T) {
			os.RemoveAll(dir)
			writeTokens(t, dir, randomSequences(3))
			c.damage()
			tokens, err := OpenTokens(dir)
			if err == nil {
				tokens.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Fatalf("%v\nwant %s", err, c.want)
			}
		})
	}
}

func TestVerifyFindsAFlippedBit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, dir, randomSequences(3))
	raw, _ := os.ReadFile(filepath.Join(dir, tokensFile))
	raw[3] ^= 1
	_ = os.WriteFile(filepath.Join(dir, tokensFile), raw, 0o666)
	tokens, err := OpenTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	if err := tokens.Verify(); err == nil || !strings.Contains(err.Error(), "tokens.bin has BLAKE3") {
		t.Fatal(err)
	}
}

func TestPack(t *testing.T) {
	for name, c := range map[string]struct {
		lengths  []int
		capacity int
		want     [][]int
	}{
		"none":             {nil, 10, nil},
		"one":              {[]int{10}, 10, [][]int{{0}}},
		"tightest first":   {[]int{6, 5, 4, 5}, 10, [][]int{{0, 2}, {1, 3}}},
		"too long alone":   {[]int{12, 1}, 10, [][]int{{0}, {1}}},
		"equal keep order": {[]int{5, 5, 5, 5}, 10, [][]int{{0, 1}, {2, 3}}},
		"empty":            {[]int{0, 0, 3}, 4, [][]int{{2, 0, 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Pack(c.lengths, c.capacity); !reflect.DeepEqual(got, c.want) {
				t.Fatalf("%v, want %v", got, c.want)
			}
		})
	}
}

// The plain form: look at every pack for the tightest.
func TestPackAgreesWithThePlainSearch(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		capacity := 1 + rng.IntN(100)
		lengths := make([]int, rng.IntN(200))
		for i := range lengths {
			lengths[i] = 1 + rng.IntN(capacity)
		}
		packs := Pack(lengths, capacity)
		seen := make([]bool, len(lengths))
		for _, p := range packs {
			sum := 0
			for _, i := range p {
				if seen[i] {
					t.Fatal("a sequence twice")
				}
				seen[i] = true
				sum += lengths[i]
			}
			if sum > capacity {
				t.Fatalf("pack of %d in %d", sum, capacity)
			}
		}
		for i, ok := range seen {
			if !ok {
				t.Fatalf("sequence %d is in no pack", i)
			}
		}
		if want := plainPacks(lengths, capacity); len(packs) != want {
			t.Fatalf("%d packs, best fit makes %d", len(packs), want)
		}
	}
}

func plainPacks(lengths []int, capacity int) int {
	count := make([]int, capacity+1)
	for _, n := range lengths {
		count[n]++
	}
	var free []int
	for n := capacity; n >= 0; n-- {
		for range count[n] {
			best := -1
			for i, f := range free {
				if f >= n && (best < 0 || f < free[best]) {
					best = i
				}
			}
			if best < 0 {
				free = append(free, capacity)
				best = len(free) - 1
			}
			free[best] -= n
		}
	}
	return len(free)
}
