package dataset

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// binTok writes files of the BIN.TOK format, version 3 (IST-DASLab/llmq, invergent-ai/surogate): a header of 1,024 bytes, magic
// and int32 version, bytes a token, tokens, size of the vocabulary, whether there are masks, whether documents do not overlap;
// the tokens (int32), the position of each in its document (int32), then a mask bit each, the lowest bit of a byte first. A
// mask belongs to an input: that of token i says whether token i+1 is trained on. A file has less than 2^31 tokens.
type binTok struct {
	dir        string
	vocabulary int
	most       int64 // tokens of a file
	lengths    lengths
	next       int // sequence
	files      int
	now        *binTokFile
}

// lengths are those of the sequences to be exported; *Tokens fits.
type lengths interface {
	Len() int
	Length(i int) int
}

// binTokFile is the file being written. How many tokens it will have is known from the start, so that all parts are
// written side by side and none is kept.
type binTokFile struct {
	file                    *os.File
	ids, positions, mask    *bufio.Writer
	scratch                 []byte
	tokens, written, behind int64 // behind: the sequence after the last
	bits                    byte  // of the mask, not written yet
}

const binTokHeader = 1024

// Append implements Exporter.
func (b *binTok) Append(s Sequence) error {
	if b.now == nil {
		if err := b.create(); err != nil {
			return err
		}
	}
	if err := b.now.append(&s); err != nil {
		return err
	}
	if b.next++; int64(b.next) == b.now.behind {
		return b.Close()
	}
	return nil
}

// create begins the next file, with as many sequences as it may have.
func (b *binTok) create() error {
	f := &binTokFile{behind: int64(b.next)}
	for i := b.next; i < b.lengths.Len(); i++ {
		n := int64(b.lengths.Length(i))
		if f.tokens > 0 && f.tokens+n > b.most {
			break
		}
		f.tokens, f.behind = f.tokens+n, int64(i+1)
	}
	file, err := os.OpenFile(filepath.Join(b.dir, fmt.Sprintf("tokens-%05d.bin", b.files)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	b.files++
	b.now, f.file = f, file
	part := func(at int64) *bufio.Writer { return bufio.NewWriterSize(io.NewOffsetWriter(file, at), 1<<20) }
	f.ids, f.positions, f.mask = part(binTokHeader), part(binTokHeader+4*f.tokens), part(binTokHeader+8*f.tokens)
	head := append(make([]byte, 0, binTokHeader), "BIN.TOK\n"...)
	for _, v := range []int64{3, 4, f.tokens, int64(b.vocabulary), 1, 1} {
		head = binary.LittleEndian.AppendUint32(head, uint32(v))
	}
	_, err = file.WriteAt(head[:binTokHeader], 0)
	return err
}

func (f *binTokFile) append(s *Sequence) error {
	raw := f.scratch[:0]
	for _, id := range s.IDs {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
	}
	_, err := f.ids.Write(raw)
	raw = raw[:0]
	for i := range s.IDs {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(i))
	}
	_, err2 := f.positions.Write(raw)
	raw = raw[:0]
	for i := range s.IDs {
		if i+1 < len(s.Mask) && s.Mask[i+1] {
			f.bits |= 1 << (f.written % 8)
		}
		if f.written++; f.written%8 == 0 || f.written == f.tokens {
			raw = append(raw, f.bits)
			f.bits = 0
		}
	}
	f.scratch = raw
	_, err3 := f.mask.Write(raw)
	return errors.Join(err, err2, err3)
}

// Close implements Exporter.
func (b *binTok) Close() error {
	f := b.now
	if f == nil {
		return nil
	}
	b.now = nil
	err := errors.Join(f.ids.Flush(), f.positions.Flush(), f.mask.Flush())
	if err == nil {
		err = f.file.Sync()
	}
	return errors.Join(err, f.file.Close())
}
