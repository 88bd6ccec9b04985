package dataset

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

// Exporter writes a token folder's sequences for other programs. Append gets them in order, with ids and mask.
type Exporter interface {
	Append(s Sequence) error
	Close() error
}

// ExportFormats names the formats of CreateExport.
func ExportFormats() []string { return []string{"megatron", "bin.tok", "parquet", "arrow"} }

// Export writes all sequences of t into the folder dir, which must be empty, in a format:
//
//	megatron   tokens.bin, tokens.idx: Megatron-LM's indexed dataset, int32; one document a sequence. It knows no mask: mask.bin
//	           and mask.idx are the same with 0 and 1, uint8
//	bin.tok    tokens-00000.bin and so on: BIN.TOK version 3 with positions and masks, as llmq and surogate read
//	parquet    tokens-00000.parquet: columns input_ids, labels (-100 where not trained on), id, source, answer
//	arrow      the same columns as datasets.load_from_disk of Hugging Face reads
func Export(ctx context.Context, t *Tokens, dir, format string, progress func(done, total int)) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("export tokens: %w", err)
	}
	e, err := createExport(dir, format, t)
	if err != nil {
		return fmt.Errorf("export tokens: %w", err)
	}
	var ids []int32
	var mask []bool
	for i := range t.Len() {
		if i%1024 == 0 {
			t.Forget(i)
			progress(i, t.Len())
			if err := ctx.Err(); err != nil {
				return errors.Join(err, e.Close())
			}
		}
		s := t.Sequence(i)
		ids, mask = t.IDs(i, ids[:0]), t.Mask(i, mask[:0])
		s.IDs, s.Mask = ids, mask
		if err := e.Append(s); err != nil {
			return errors.Join(fmt.Errorf("export sequence %d: %w", i+1, err), e.Close())
		}
	}
	if err := e.Close(); err != nil {
		return fmt.Errorf("export tokens: %w", err)
	}
	return nil
}

func createExport(dir, format string, t *Tokens) (Exporter, error) {
	switch format {
	case "megatron":
		return createMegatron(dir)
	case "bin.tok":
		return &binTok{dir: dir, vocabulary: t.Manifest().VocabSize, most: math.MaxInt32, lengths: t}, nil
	case "parquet":
		return createTokenParquet(filepath.Join(dir, "tokens-00000.parquet"))
	case "arrow":
		return createArrowFolder(dir)
	}
	return nil, fmt.Errorf("there is no format %q", format)
}

// labels are what Hugging Face's trainers call the targets: the id where it is trained on, else -100.
func labels(s *Sequence) []int32 {
	out := make([]int32, len(s.IDs))
	for i, id := range s.IDs {
		if out[i] = -100; s.Mask[i] {
			out[i] = id
		}
	}
	return out
}

// outFile is a new file, buffered, with a sticky error.
type outFile struct {
	file *os.File
	buf  *bufio.Writer
	err  error
}

func createOut(path string) (*outFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	return &outFile{file: f, buf: bufio.NewWriterSize(f, 1<<20)}, nil
}

func (o *outFile) write(b []byte) {
	if o.err == nil {
		_, o.err = o.buf.Write(b)
	}
}

func (o *outFile) close() error {
	if o.err == nil {
		o.err = o.buf.Flush()
	}
	if o.err == nil {
		o.err = o.file.Sync()
	}
	return errors.Join(o.err, o.file.Close())
}

// megatron is Megatron-LM's indexed dataset (megatron/core/datasets/indexed_dataset.py): the .bin holds the elements, the .idx
// magic, version 1, a code for their type, the numbers of sequences and of documents plus one, the lengths (int32), the byte
// offsets (int64), and the first sequence of each document, and behind the last (int64).
type megatron struct {
	sets [2]*megatronSet // tokens, mask
}

type megatronSet struct {
	path    string
	bin     *outFile
	code    byte // 1: uint8, 4: int32
	size    int64
	lengths []int32
}

func createMegatron(dir string) (*megatron, error) {
	m := &megatron{}
	for i, set := range []megatronSet{{path: "tokens", code: 4, size: 4}, {path: "mask", code: 1, size: 1}} {
		set.path = filepath.Join(dir, set.path)
		bin, err := createOut(set.path + ".bin")
		if err != nil {
			return nil, err
		}
		set.bin = bin
		m.sets[i] = &set
	}
	return m, nil
}

// Append implements Exporter.
func (m *megatron) Append(s Sequence) error {
	ids, mask := make([]byte, 0, 4*len(s.IDs)), make([]byte, len(s.Mask))
	for i, id := range s.IDs {
		ids = binary.LittleEndian.AppendUint32(ids, uint32(id))
		if s.Mask[i] {
			mask[i] = 1
		}
	}
	for i, b := range [][]byte{ids, mask} {
		m.sets[i].bin.write(b)
		m.sets[i].lengths = append(m.sets[i].lengths, int32(len(s.IDs)))
	}
	return errors.Join(m.sets[0].bin.err, m.sets[1].bin.err)
}

// Close implements Exporter.
func (m *megatron) Close() error {
	return errors.Join(m.sets[0].close(), m.sets[1].close())
}

func (s *megatronSet) close() error {
	if err := s.bin.close(); err != nil {
		return err
	}
	idx, err := createOut(s.path + ".idx")
	if err != nil {
		return err
	}
	n := uint64(len(s.lengths))
	head := append([]byte("MMIDIDX\x00\x00"), binary.LittleEndian.AppendUint64(nil, 1)...)
	head = append(head, s.code)
	head = binary.LittleEndian.AppendUint64(head, n)
	idx.write(binary.LittleEndian.AppendUint64(head, n+1))
	for _, length := range s.lengths {
		idx.write(binary.LittleEndian.AppendUint32(nil, uint32(length)))
	}
	at := int64(0)
	for _, length := range s.lengths {
		idx.write(binary.LittleEndian.AppendUint64(nil, uint64(at)))
		at += int64(length) * s.size
	}
	for i := range n + 1 {
		idx.write(binary.LittleEndian.AppendUint64(nil, i))
	}
	return idx.close()
}

// tokenRow is a sequence in Parquet.
type tokenRow struct {
	InputIDs []int32 `parquet:"input_ids,list"`
	Labels   []int32 `parquet:"labels,list"`
	ID       string  `parquet:"id"`
	Source   string  `parquet:"source,dict"`
	Answer   string  `parquet:"answer"`
}

type tokenParquet struct {
	out     *outFile
	rows    *parquet.GenericWriter[tokenRow]
	pending int
}

func createTokenParquet(path string) (*tokenParquet, error) {
	out, err := createOut(path)
	if err != nil {
		return nil, err
	}
	return &tokenParquet{out: out, rows: parquet.NewGenericWriter[tokenRow](out.buf, parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}), parquet.CreatedBy("lpipe", "1", "tokens"), parquet.PageBufferSize(1<<20))}, nil
}

// Append implements Exporter.
func (p *tokenParquet) Append(s Sequence) error {
	_, err := p.rows.Write([]tokenRow{{s.IDs, labels(&s), s.ID, s.Source, s.Answer}})
	if p.pending += 8 * len(s.IDs); err == nil && p.pending >= groupBytes {
		p.pending, err = 0, p.rows.Flush()
	}
	return err
}

// Close implements Exporter.
func (p *tokenParquet) Close() error { return errors.Join(p.rows.Close(), p.out.close()) }
