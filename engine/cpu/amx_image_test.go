//go:build amd64

package cpu

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"testing"
	"unsafe"
)

// image is what an emulated machine starts from: tools/amx/stub.S, records that it works off, the assembled blocks and their operands.
type image struct{ bytes []byte }

const (
	imageAt      = 0x7c00
	imageRecords = 0x400
	imageCode    = 0x800
	imageCodes   = 0x200     // for each function
	imageMost    = 120 * 512 // what the stub loads
)

// put adds values, and returns where the machine will have them.
func (m *image) put(v any) uint64 {
	m.bytes = append(m.bytes, make([]byte, -len(m.bytes)&63)...)
	at := imageAt + len(m.bytes)
	m.bytes, _ = binary.Append(m.bytes, binary.LittleEndian, v)
	return uint64(at)
}

func at(address uint64) *float32 { return *(**float32)(unsafe.Pointer(&address)) }

// The blocks as assembled, with operands and the results that the formula gives, fit an emulated machine. `make amx` has it in
// LPIPE_AMX_IMAGE, behind the assembled stub, and runs it.
func TestBlockImage(t *testing.T) {
	const n, apart = 80, 34 // of k, of C's rows
	m := &image{make([]byte, imageCode+4*imageCodes)}
	rng := rand.New(rand.NewPCG(7, 8))
	a, b, panel := make([]uint16, 32*n), make([]uint16, n*32), make([]float32, n/2*32)
	for i := range a {
		a[i], b[i] = half(float32(4*rng.NormFloat64())), half(float32(rng.NormFloat64()))
	}
	for i := range panel {
		panel[i] = pair(b[i/32*64+i%32], b[i/32*64+32+i%32])
	}
	atA, atB, record := m.put(asPairs(a)), m.put(panel), imageRecords
	for _, s := range [][2]int{{13, 9}, {16, 31}, {27, 16}, {32, 32}, {31, 17}} {
		rows, cols := s[0], s[1]
		low, right := (rows-1)/16, (cols-1)/16
		code := imageCode + (2*low+right)*imageCodes
		f := assembled(t, (kernel{}).withBlocks().blocks[low][right])
		copy(m.bytes[code:], unsafe.Slice((*byte)(pointer(f)), imageCodes))
		c := noise(rng, 32*apart)
		atC := m.put(c)
		for i := range rows {
			for j := range cols {
				c[i*apart+j] = blockSum(c[i*apart+j], a[i*n:][:n], every(b[j:], 32, n))
			}
		}
		want := m.put(c)
		for from, parts := 0, n/2/blockPairs; from < n/2; from, parts = from+parts*blockPairs, 1 {
			call := blockCall{lda: n * 2, ldb: 128, ldbPart: 128 * blockPairs, ldc: apart * 4, parts: parts, panels: 1}
			call.config.shape(rows, cols, min(blockPairs, n/2-from))
			call.a, call.aLow = at(atA+uint64(from)*4), at(atA+uint64(low*16*n/2+from)*4)
			call.b, call.c, call.cLow = at(atB+uint64(from)*128), at(atC), at(atC+uint64(low*16*apart)*4)
			length := uint64(0)
			if from > 0 {
				length = uint64(4 * len(c)) // compared once all of k is done
			}
			words := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&call)), unsafe.Sizeof(call)))
			for i, v := range []uint64{imageAt + uint64(code), m.put(words), atC, want, length} {
				binary.LittleEndian.PutUint64(m.bytes[record+8*i:], v)
			}
			record += 40
		}
	}
	if len(m.bytes) > imageMost || record+8 > imageCode {
		t.Fatalf("the image has %d bytes, and records up to %#x", len(m.bytes), record)
	}
	path := os.Getenv("LPIPE_AMX_IMAGE")
	if path == "" {
		return
	}
	stub, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copy(m.bytes, stub[:imageRecords])
	if err := os.WriteFile(path, append(m.bytes, make([]byte, 20*16*63*512-len(m.bytes))...), 0o644); err != nil {
		t.Fatal(err)
	}
}
