package cache

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"os"
	"testing"
)

// FuzzResult: a file that is a result of a key is one again when it is written.
func FuzzResult(f *testing.F) {
	key := SumKey("x")
	good, err := (&Result{Outputs: map[string]Content{"out": {ID: Sum(nil), Files: 1}}, Description: "x"}).Encode(key)
	noError(f, err)
	f.Add(good)
	f.Add([]byte(resultMagic + Sum([]byte(key.String()+"\n{}")).String() + "\n" + key.String() + "\n{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum stands in the way of everything: what follows it is tried as well with the right one.
		for _, file := range [][]byte{data, append([]byte(resultMagic+Sum(append([]byte(key.String()+"\n"), data...)).String()+"\n"+key.String()+"\n"), data...)} {
			r, err := DecodeResult(key, file)
			if err != nil {
				continue
			}
			r.Contents()
			again, err := r.Encode(key)
			if err != nil {
				continue // a time that RFC 3339 cannot hold
			}
			if _, err := DecodeResult(key, again); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzRecords: whatever the file of records holds, an object that is not there is not taken for good, and what is known of
// others stays known when one more is added.
func FuzzRecords(f *testing.F) {
	id := Sum([]byte("x"))
	head := append([]byte(recordMagic), make([]byte, recordSize-len(recordMagic))...)
	f.Add(append(head, record{ino: 1, size: 2, settled: true}.append(nil, id)...), false)
	f.Add(append(head, make([]byte, 3*recordSize)...), true)
	f.Add(head, false)
	path := f.TempDir() + "/stat"
	f.Fuzz(func(t *testing.T, data []byte, sums bool) {
		for at := recordSize; sums && at+recordSize <= len(data); at += recordSize {
			rec := data[at : at+recordSize]
			binary.LittleEndian.PutUint32(rec[76:], crc32.Checksum(rec[:76], castagnoli()))
		}
		noError(t, os.WriteFile(path, data, 0o644))
		r := records{path: path}
		if r.intact(Sum([]byte("another")), fileStat{ino: 9, size: 9, mtime: 9}) && len(data) < 3*recordSize {
			t.Error("a record of what was never recorded")
		}
		r.note(id, fileStat{ino: 3}, true)
		want := maps.Collect(r.known.All())
		r.flush()
		again := records{path: path}
		again.refresh()
		if info, err := os.Stat(path); err != nil || info.Size()%recordSize != 0 {
			t.Errorf("%d bytes, %v", info.Size(), err)
		}
		if got := maps.Collect(again.known.All()); r.read > 0 && !maps.Equal(got, want) {
			t.Errorf("%v instead of %v", got, want)
		}
	})
}

// FuzzMend: what one bit has made wrong comes back.
func FuzzMend(f *testing.F) {
	f.Add([]byte("/home/project"), uint16(13))
	f.Fuzz(func(t *testing.T, data []byte, bit uint16) {
		if len(data) == 0 || len(data) > 200 {
			return
		}
		want := Sum(data)
		bad := append([]byte(nil), data...)
		at := int(bit) % (8 * len(bad))
		bad[at/8] ^= 1 << (at % 8)
		if got, ok := Mend(bad, func(b []byte) bool { return Sum(b) == want }); !ok || string(got) != string(data) {
			t.Errorf("%q", got)
		}
	})
}
