package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
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
	files      int
	now        *binTokFile
}

type binTokFile struct {
	out       *outFile
	positions []int32
	mask      []byte
	tokens    int64
}

const binTokHeader = 1024

// Append implements Exporter.
func (b *binTok) Append(s Sequence) error {
	if b.now != nil && b.now.tokens+int64(len(s.IDs)) > b.most {
		if err := b.finish(); err != nil {
			return err
		}
	}
	if b.now == nil {
		out, err := createOut(filepath.Join(b.dir, fmt.Sprintf("tokens-%05d.bin", b.files)))
		if err != nil {
			return err
		}
		b.files++
		b.now = &binTokFile{out: out}
		out.write(make([]byte, binTokHeader)) // filled in by finish
	}
	f := b.now
	raw := make([]byte, 0, 4*len(s.IDs))
	for i, id := range s.IDs {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
		f.positions = append(f.positions, int32(i))
		if f.tokens%8 == 0 {
			f.mask = append(f.mask, 0)
		}
		if i+1 < len(s.Mask) && s.Mask[i+1] {
			f.mask[f.tokens/8] |= 1 << (f.tokens % 8)
		}
		f.tokens++
	}
	f.out.write(raw)
	return f.out.err
}

// finish writes what stands behind the tokens, and the header.
func (b *binTok) finish() error {
	f := b.now
	b.now = nil
	for _, position := range f.positions {
		f.out.write(binary.LittleEndian.AppendUint32(nil, uint32(position)))
	}
	f.out.write(f.mask)
	head := append(make([]byte, 0, binTokHeader), "BIN.TOK\n"...)
	for _, v := range []int64{3, 4, f.tokens, int64(b.vocabulary), 1, 1} {
		head = binary.LittleEndian.AppendUint32(head, uint32(v))
	}
	err := f.out.buf.Flush()
	if err == nil {
		_, err = f.out.file.WriteAt(head, 0)
	}
	return errors.Join(err, f.out.close())
}

// Close implements Exporter.
func (b *binTok) Close() error {
	if b.now == nil {
		return nil
	}
	return b.finish()
}
