package dataset

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// sequenceLengths fits lengths.
type sequenceLengths []Sequence

func (s sequenceLengths) Len() int         { return len(s) }
func (s sequenceLengths) Length(i int) int { return len(s[i].IDs) }

// Whatever lengths sequences have, each file holds whole ones, in order, and its parts are as long as its header says.
func TestBinTokFilesHoldWholeSequences(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		all := make(sequenceLengths, r.IntN(30))
		for i := range all {
			for range 1 + r.IntN(25) {
				all[i].IDs = append(all[i].IDs, r.Int32N(1000))
				all[i].Mask = append(all[i].Mask, r.IntN(2) == 0)
			}
		}
		dir := t.TempDir()
		e := &binTok{dir: dir, vocabulary: 1000, most: 20, lengths: all}
		for _, s := range all {
			if err := e.Append(s); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		next := 0
		for file := 0; next < len(all); file++ {
			raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("tokens-%05d.bin", file)))
			if err != nil {
				t.Fatal(err)
			}
			next = checkBinTok(t, raw, all, next)
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != e.files {
			t.Errorf("%d files, %d written", len(files), e.files)
		}
	}
}

// checkBinTok compares a file with the sequences from next on, as the format has them, and returns which comes then.
func checkBinTok(t *testing.T, raw []byte, all sequenceLengths, next int) int {
	t.Helper()
	n := int(binary.LittleEndian.Uint32(raw[16:]))
	var ids, positions []byte
	mask, count := make([]byte, (n+7)/8), 0
	for ; count < n; next++ {
		s := all[next]
		for i, id := range s.IDs {
			ids = binary.LittleEndian.AppendUint32(ids, uint32(id))
			positions = binary.LittleEndian.AppendUint32(positions, uint32(i))
			if i+1 < len(s.Mask) && s.Mask[i+1] {
				mask[count/8] |= 1 << (count % 8)
			}
			count++
		}
	}
	if count != n || n > 20 && n != len(all[next-1].IDs) || !slices.Equal(raw[binTokHeader:], slices.Concat(ids, positions, mask)) {
		t.Fatalf("a file of %d tokens holds other ones than sequences up to %d", n, next)
	}
	return next
}
