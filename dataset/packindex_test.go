package dataset

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func openTokens(t *testing.T, seqs []Sequence) *Tokens {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, dir, seqs)
	tokens, err := OpenTokens(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tokens.Close() })
	return tokens
}

// Whatever the length, each sequence is in one pack, whole, cut, in parts or not at all, and no pack is too long.
func TestPacksHoldEverySequence(t *testing.T) {
	tokens := openTokens(t, randomSequences(500))
	for _, length := range []int{7, 40, 64, 1000} {
		for _, overlong := range []Overlong{Drop, Truncate, Split} {
			path := filepath.Join(t.TempDir(), "pack.idx")
			counts, err := CreatePacks(path, tokens, length, overlong)
			if err != nil {
				t.Fatal(err)
			}
			packs, err := OpenPacks(path, tokens)
			if err != nil {
				t.Fatal(err)
			}
			var all []Piece
			for i := range packs.Len() {
				all = packs.Pack(i, all)
			}
			slices.SortFunc(all, func(a, b Piece) int {
				if a.Sequence != b.Sequence {
					return a.Sequence - b.Sequence
				}
				return a.From - b.From
			})
			if want := wantedPieces(tokens, length, overlong); !reflect.DeepEqual(all, want) || packs.Length() != length || len(all) != counts.Pieces {
				t.Errorf("length %d, %s: %d pieces, want %d", length, overlong, len(all), len(want))
			}
			packs.Close()
		}
	}
}

// wantedPieces are a length's pieces as the doc says.
func wantedPieces(tokens *Tokens, length int, overlong Overlong) (want []Piece) {
	for i := range tokens.Len() {
		n := tokens.Length(i)
		mask := tokens.Mask(i, nil)
		for from := 0; from < n; from += length {
			count := min(length, n-from)
			if n <= length || overlong != Drop && (from == 0 || overlong == Split) && slices.Contains(mask[from+1:from+count], true) {
				want = append(want, Piece{i, from, count})
			}
		}
	}
	return want
}

// The bytes of the page doc/format-data.md: its token folder, packs of 4 tokens, split.
func TestPackIndexBytes(t *testing.T) {
	tokens := openTokens(t, []Sequence{
		{ID: "a", Answer: "42", Prompt: "6*7?", IDs: []int32{151644, 872, 198}, Mask: []bool{false, false, true}},
		{ID: "b", Row: 2, IDs: []int32{1, 2, 3, 4, 5, 6}, Mask: []bool{true, false, false, false, false, true}},
	})
	path := filepath.Join(t.TempDir(), "pack.idx")
	counts, err := CreatePacks(path, tokens, 4, Split)
	if err != nil || counts != (PackCounts{Packs: 2, Pieces: 2, Tokens: 5, Overlong: 1, Empty: 1}) {
		t.Fatalf("%+v, %v", counts, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(`6c707061636b7301 0400000000000000 0200000000000000 0200000000000000
		42e48bcdd06aabfa786ef3c4d526362077c5bcbf8a41b9773b21eed5973ff581`)
	head, _ := hex.DecodeString(strings.Join(want, ""))
	starts, _ := hex.DecodeString("000000000000000001000000000000000200000000000000")
	pieces, _ := hex.DecodeString("000000000000000003000000" + "010000000400000002000000")
	page := func(b []byte) []byte { return append(b, make([]byte, 4096-len(b))...) }
	if !slices.Equal(raw, slices.Concat(page(head), page(starts), pieces)) {
		t.Errorf("%x %x %x", raw[:64], raw[4096:4096+24], raw[8192:])
	}
}

// An index that is cut, of another folder, of another version or that points elsewhere is refused; nothing panics.
func TestDamagedPackIndexes(t *testing.T) {
	tokens := openTokens(t, randomSequences(50))
	path := filepath.Join(t.TempDir(), "pack.idx")
	if _, err := CreatePacks(path, tokens, 64, Drop); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(data []byte) error {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		packs, err := OpenPacks(path, tokens)
		if err == nil {
			for i := range packs.Len() {
				for _, p := range packs.Pack(i, nil) {
					_ = tokens.IDs(p.Sequence, nil)[p.From : p.From+p.Count]
				}
			}
			packs.Close()
		}
		return err
	}
	for _, n := range []int{0, 7, 63, 4096, len(whole) - 1} {
		if try(whole[:n]) == nil {
			t.Errorf("%d bytes of %d were taken", n, len(whole))
		}
	}
	for at := 0; at < len(whole); at++ {
		if at == packHeader {
			at = packPage
		}
		if at > packPage+64 {
			at += 22
		}
		data := slices.Clone(whole)
		data[min(at, len(data)-1)] ^= 0x81
		if err := try(data); (at < 8 || at >= 16 && at < packHeader) && err == nil { // another length may be
			t.Errorf("a flipped byte %d was taken", at)
		} else if at == 7 && !strings.Contains(err.Error(), "version 128") {
			t.Error(err)
		}
	}
	other := openTokens(t, randomSequences(49))
	if err := os.WriteFile(path, whole, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPacks(path, other); err == nil || !strings.Contains(err.Error(), "another token folder") {
		t.Error(err)
	}
}
