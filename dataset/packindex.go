package dataset

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
)

// A pack index says which sequences of a token folder, or parts of them, make packs of a length: the folder is read as it is,
// whatever the length. doc/format-data.md has the file, byte by byte.
const (
	packMagic  = "lppacks\x01" // the last byte is the version
	packHeader = 64
	packPage   = 4096 // sections begin at a page
	pieceSize  = 12   // bytes of a piece
)

// Piece is a sequence's tokens from From on, Count of them.
type Piece struct{ Sequence, From, Count int }

// Overlong says what becomes of a sequence longer than a pack.
type Overlong string

// The ways; split makes several pieces of one sequence.
const (
	Drop     Overlong = "drop"
	Truncate Overlong = "truncate"
	Split    Overlong = "split"
)

// PackCounts is what packing gave.
type PackCounts struct {
	Packs, Pieces   int
	Tokens          int64
	Overlong, Empty int // sequences longer than a pack, and pieces left out because nothing of them is trained on
}

// CreatePacks packs a token folder's sequences into packs of so many tokens, best fit decreasing, and writes the index to
// path. The same folder and settings give the same bytes.
func CreatePacks(path string, t *Tokens, length int, overlong Overlong) (PackCounts, error) {
	if length < 2 || length > math.MaxInt32 || int64(t.Len()) > math.MaxUint32 {
		return PackCounts{}, fmt.Errorf("pack: %d sequences in packs of %d tokens do not fit the format", t.Len(), length)
	}
	pieces, counts := t.pieces(length, overlong)
	lengths := make([]int, len(pieces))
	for i, p := range pieces {
		lengths[i] = p.Count
		counts.Tokens += int64(p.Count)
	}
	packs := Pack(lengths, length)
	counts.Packs, counts.Pieces = len(packs), len(pieces)
	if err := writePacks(path, t, length, packs, pieces); err != nil {
		return counts, fmt.Errorf("write pack index: %w", err)
	}
	return counts, nil
}

// pieces are the sequences that fit into a length, and what becomes of the others.
func (t *Tokens) pieces(length int, overlong Overlong) ([]Piece, PackCounts) {
	var counts PackCounts
	pieces := make([]Piece, 0, t.Len())
	var mask []bool
	for i := range t.Len() {
		n := t.Length(i)
		if n <= length {
			pieces = append(pieces, Piece{i, 0, n})
			continue
		}
		counts.Overlong++
		if overlong == Drop {
			continue
		}
		mask = t.Mask(i, mask[:0])
		for from := 0; from < n; from += length {
			if end := min(from+length, n); hasTarget(mask[from:end]) {
				pieces = append(pieces, Piece{i, from, end - from})
			} else {
				counts.Empty++
			}
			if overlong == Truncate {
				break
			}
		}
	}
	return pieces, counts
}

// hasTarget says whether a token is trained on that another one predicts.
func hasTarget(mask []bool) bool {
	for _, on := range mask[1:] {
		if on {
			return true
		}
	}
	return false
}

func writePacks(path string, t *Tokens, length int, packs [][]int, pieces []Piece) error {
	out, err := createOut(path + ".part")
	if err != nil {
		return err
	}
	defer os.Remove(path + ".part") // where it was not renamed
	of, err := hex.DecodeString(t.manifest.Files[indexFile].BLAKE3)
	if err != nil {
		out.err = err
	}
	head := binary.LittleEndian.AppendUint64([]byte(packMagic), uint64(length))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(packs)))
	head = binary.LittleEndian.AppendUint64(head, uint64(len(pieces)))
	out.write(append(append(head, of...), make([]byte, packPage-packHeader)...))
	at := uint64(0)
	for _, pack := range packs {
		out.write(binary.LittleEndian.AppendUint64(nil, at))
		at += uint64(len(pack))
	}
	out.write(binary.LittleEndian.AppendUint64(nil, at))
	out.write(make([]byte, -8*(len(packs)+1)&(packPage-1)))
	for _, pack := range packs {
		for _, i := range pack {
			p := pieces[i]
			b := binary.LittleEndian.AppendUint32(nil, uint32(p.Sequence))
			b = binary.LittleEndian.AppendUint32(b, uint32(p.From))
			out.write(binary.LittleEndian.AppendUint32(b, uint32(p.Count)))
		}
	}
	if err := out.close(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// Packs is an open pack index, memory mapped.
type Packs struct {
	file           mapped
	length         int
	starts, pieces []byte
}

// OpenPacks opens the index at path of the token folder t. One of another folder is an error, and so is one that points outside
// of it.
func OpenPacks(path string, t *Tokens) (*Packs, error) {
	file, err := mapFile(path)
	if err != nil {
		return nil, fmt.Errorf("open pack index: %w", err)
	}
	p := &Packs{file: file}
	if err := p.check(t); err != nil {
		file.close()
		return nil, fmt.Errorf("pack index %s: %w", path, err)
	}
	return p, nil
}

func (p *Packs) check(t *Tokens) error {
	data := p.file.data
	if len(data) < packPage || string(data[:7]) != packMagic[:7] {
		return fmt.Errorf("it is none")
	}
	if data[7] != packMagic[7] {
		return fmt.Errorf("it has version %d, this lpipe reads %d: pack again, or use another lpipe", data[7], packMagic[7])
	}
	if hex.EncodeToString(data[32:packHeader]) != t.manifest.Files[indexFile].BLAKE3 {
		return fmt.Errorf("it was made of another token folder than %s: pack again", t.dir)
	}
	length, packs, pieces := binary.LittleEndian.Uint64(data[8:]), binary.LittleEndian.Uint64(data[16:]), binary.LittleEndian.Uint64(data[24:])
	size := uint64(len(data))
	if length > math.MaxInt32 || packs > size/8 || pieces > size/pieceSize {
		return fmt.Errorf("it has impossible counts: pack again")
	}
	second := (packPage + 8*(packs+1) + packPage - 1) / packPage * packPage
	if size != second+pieces*pieceSize {
		return fmt.Errorf("it has %d bytes, not %d: pack again", size, second+pieces*pieceSize)
	}
	p.length, p.starts, p.pieces = int(length), data[packPage:packPage+8*(packs+1)], data[second:]
	return p.checkPieces(t, pieces)
}

func (p *Packs) checkPieces(t *Tokens, pieces uint64) error {
	if p.start(0) != 0 || p.start(p.Len()) != pieces {
		return fmt.Errorf("it is damaged: pack again")
	}
	var pack []Piece
	for i := range p.Len() {
		if p.start(i) >= p.start(i+1) || p.start(i+1) > pieces {
			return fmt.Errorf("it is damaged at pack %d: pack again", i)
		}
		sum := 0
		pack = p.Pack(i, pack[:0])
		for _, x := range pack {
			if x.Sequence >= t.Len() || x.Count < 1 || x.From+x.Count > t.Length(x.Sequence) {
				return fmt.Errorf("it is damaged at pack %d: pack again", i)
			}
			sum += x.Count
		}
		if sum > p.length {
			return fmt.Errorf("pack %d has %d tokens, more than %d: pack again", i, sum, p.length)
		}
	}
	return nil
}

func (p *Packs) start(i int) uint64 { return binary.LittleEndian.Uint64(p.starts[8*i:]) }

// Len is the number of packs.
func (p *Packs) Len() int { return len(p.starts)/8 - 1 }

// Length is how many tokens a pack may have.
func (p *Packs) Length() int { return p.length }

// Pack appends the pieces of pack i to dst, in their order.
func (p *Packs) Pack(i int, dst []Piece) []Piece {
	for at := p.start(i); at < p.start(i+1); at++ {
		b := p.pieces[pieceSize*at:]
		word := func(k int) int { return int(binary.LittleEndian.Uint32(b[k:])) }
		dst = append(dst, Piece{word(0), word(4), word(8)})
	}
	return dst
}

// Close unmaps the index.
func (p *Packs) Close() error { return p.file.close() }
