package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// sameBoundaries fails unless the block scanner and its plain twin cut s alike.
func sameBoundaries(t *testing.T, tables *classTables, s []byte, digits int) {
	t.Helper()
	var want, got []uint32
	for i := 0; i < len(s); i = pretokenEnd(s, i, digits) {
		want = append(want, uint32(i))
	}
	var b blockScanner
	b.reset(digits, tables)
	for i := 0; i < len(s); {
		got, i = b.scan(s, i, got, len(got)+10)
	}
	if !slices.Equal(got, want) {
		k := 0
		for k < min(len(got), len(want)) && got[k] == want[k] {
			k++
		}
		from := 0
		if k > 0 {
			from = int(want[k-1])
		}
		t.Fatalf("%d digits: cut differently in %q: %v, want %v", digits, s[from:min(len(s), from+80)], got[k:min(k+3, len(got))], want[k:min(k+3, len(want))])
	}
}

func TestBlockScannerEqualsItsTwin(t *testing.T) {
	r, tables := rand.New(rand.NewPCG(13, 14)), newClassTables()
	ascii := strings.Split("a,b,The,apples,HTTP, ,  ,\n,\r\n,\t,',','s,'LL,'re,'x,1,22,4567,!,..,==,(,_,\x00,\x7f,\v,\f, \n, '", ",")
	wide := strings.Split("é,ж,语,क,ि,्,०,か,ー,〇,ก,้,한,😀,𐐀,٣,²,𝟙, ,。,„,…,　, ,ſ,'ſ,'s,','é,!語,!!語,\n,  ,ab,7,\u0301", ",")
	for n := range 6000 {
		var b strings.Builder
		pieces := ascii
		if n%2 == 1 {
			pieces = wide
		}
		for range 1 + r.IntN(200) {
			if r.IntN(60) == 0 {
				b.WriteString(randomText(r))
			}
			if r.IntN(40) == 0 {
				b.WriteString(strings.Repeat(pieces[r.IntN(len(pieces))], r.IntN(150)))
			}
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		for _, digits := range []int{1, 3} {
			sameBoundaries(t, tables, []byte(b.String()), digits)
		}
	}
}

func TestBlockScannerOnEveryPairAtEveryOffset(t *testing.T) {
	tables := newClassTables()
	parts := []string{"a", "S", "'", "1", " ", "\n", "\r", "\t", "!", "\u00a0", "é", "ſ", "1234"}
	for offset := 55; offset < 70; offset++ {
		prefix := strings.Repeat("x", offset)
		for _, a := range parts {
			for _, b := range parts {
				for _, c := range parts {
					for _, d := range []string{"", "z", " ", "\n", "\n" + strings.Repeat(" ", 70), strings.Repeat(" ", 70) + "\nq"} {
						sameBoundaries(t, tables, []byte(prefix+a+b+c+d), 3)
					}
				}
			}
		}
	}
}

func TestInspectEqualsItsTwins(t *testing.T) {
	r, tables := rand.New(rand.NewPCG(17, 18)), newClassTables()
	settled := strings.Split("é,ж,語,ग,ก,한,٣,。,　,ſ,a,b c d e f,long enough to fill a block of sixty-four bytes all by itself.", ",")
	marked := strings.Split("e\u0301,क\u093c,\u0301,̣,ि,्,😀,\u1161,\u212b,é\u0316,\u0345", ",")
	damage := []string{"\x80", "\xc0\x80", "\xc3", "\xe0\x80\x80", "\xe8\xaa", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5", "\xff", "\xe8\xaa\x9e\x9e"}
	for n := range 20000 {
		var b strings.Builder
		for range 1 + r.IntN(100) {
			b.WriteString(settled[r.IntN(len(settled))])
			switch {
			case n%3 > 0 && r.IntN(50) == 0:
				b.WriteString(marked[r.IntN(len(marked))])
			case n%3 == 2 && r.IntN(100) == 0:
				b.WriteString(damage[r.IntN(len(damage))])
			}
		}
		s := []byte(b.String())[r.IntN(2)*(b.Len()%3):]
		valid := utf8.Valid(s)
		nfc := valid
		if valid {
			from, _ := doubtful(s)
			nfc = from == len(s)
		}
		if gotValid, gotNFC := tables.inspect(s); gotValid != valid || gotNFC != nfc {
			t.Fatalf("%q: valid %v, NFC %v; want %v, %v", s, gotValid, gotNFC, valid, nfc)
		}
	}
}

func TestClassifyEqualsItsTwin(t *testing.T) {
	r, tables := rand.New(rand.NewPCG(15, 16)), newClassTables()
	for n := range 2000 {
		s := make([]byte, 1+64*(1+r.IntN(batchBlocks)))
		for i := range s {
			s[i] = byte(r.IntN(256 >> r.IntN(2)))
		}
		for i := r.IntN(4); n%2 == 1 && i+3 <= len(s); i += 3 {
			utf8.EncodeRune(s[i:], windowsAt[r.IntN(2)]+r.Int32N(1<<11))
		}
		got, want := make([]classMasks, len(s)/64), make([]classMasks, len(s)/64)
		tables.classify(got, s)
		if tables.classifyPlain(want, s); !slices.Equal(got, want) {
			t.Fatalf("%x, want %x, of %q", got, want, s)
		}
	}
}

// Looking up by vectors finds the keys and the ids that the plain loops find.
func TestLookUpEqualsItsTwin(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	c := newPieceCache()
	for range 400 {
		var s []byte
		bounds := []uint32{0}
		for range 1 + r.IntN(70) {
			for range 1 + r.IntN(r.IntN(30)+1)*(1+r.IntN(20)/19*10) {
				s = append(s, byte(r.IntN(3)))
			}
			bounds = append(bounds, uint32(len(s)))
		}
		s = append(s, make([]byte, 16)...)
		table := c.table.Load()
		want, got := make([]wantedPiece, len(bounds)-1), make([]wantedPiece, len(bounds)-1)
		preparePlain(want, s, bounds)
		table.prepare(got, s, bounds)
		if !slices.Equal(got, want) {
			t.Fatalf("%d, %d: keys %v, want %v", s, bounds, got, want)
		}
		room := make([]int32, 0, 4*len(want))
		wantIDs, wantFound := table.emitPlain(room, want)
		gotIDs, gotFound := table.emit(make([]int32, 0, 4*len(want)), want)
		if gotFound != wantFound || !slices.Equal(gotIDs, wantIDs) {
			t.Fatalf("%d ids of %d pieces, want %d of %d", len(gotIDs), gotFound, len(wantIDs), wantFound)
		}
		for k := gotFound; k < len(want); k++ { // the next time it is there
			ids := make([]int32, 1+r.IntN(6))
			for i := range ids {
				ids[i] = int32(want[k].lo>>8) & maxID
			}
			if piece := s[bounds[k]:bounds[k+1]]; len(piece) <= longMax {
				if _, found := c.table.Load().find(nil, &want[k], piece); !found {
					c.add(&want[k], piece, ids)
				}
				if got, found := c.table.Load().find(nil, &want[k], piece); !found || len(got) == 0 || got[0] != ids[0] {
					t.Fatalf("%d of %q, want %d", got, piece, ids)
				}
			}
		}
	}
}

// TestPositions compares the positions of random masks, of few bits and of many.
func TestPositions(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 2000 {
		masks := make([]uint64, rng.IntN(batchBlocks+1))
		for i := range masks {
			for range rng.IntN(3) {
				masks[i] |= rng.Uint64()
			}
			masks[i] &^= rng.Uint64() << rng.IntN(64)
		}
		if round%5 == 0 && len(masks) > 0 {
			masks[0] = ^uint64(0)
		}
		before, from := make([]uint32, rng.IntN(9), 9), rng.Uint32N(1<<31)
		got, want := appendPositions(before, masks, from), positionsPlain(slices.Clone(before), masks, from)
		if !slices.Equal(got, want) {
			t.Fatalf("%x from %d: %d, plainly %d", masks, from, got, want)
		}
	}
}
