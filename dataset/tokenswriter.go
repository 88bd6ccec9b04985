package dataset

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/zeebo/blake3"
)

// TokensWriter makes a token folder. The folder counts as one only when Close has written its manifest.
type TokensWriter struct {
	dir      string
	manifest Manifest
	tokens   *hashedFile
	mask     *hashedFile
	index    *hashedFile
	rows     *hashedFile

	bits    byte // mask bits not yet written: those of the last Tokens%8 tokens
	scratch []byte
	err     error // sticky
}

// CreateTokens makes the folder dir, which must not exist or be empty. Of m the part above the counts is used.
func CreateTokens(dir string, m Manifest) (*TokensWriter, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("make token folder: %w", err)
	}
	if old, err := os.ReadDir(dir); err != nil || len(old) > 0 {
		return nil, fmt.Errorf("make token folder: %s is not empty", dir)
	}
	m.Format, m.Version = tokensFormat, tokensVersion
	m.Sequences, m.Tokens, m.Trained, m.Longest, m.Licenses, m.Files = 0, 0, 0, 0, nil, nil
	w := &TokensWriter{dir: dir, manifest: m}
	for _, f := range []struct {
		name string
		to   **hashedFile
	}{{tokensFile, &w.tokens}, {maskFile, &w.mask}, {indexFile, &w.index}, {rowsFile, &w.rows}} {
		file, err := createHashed(filepath.Join(dir, f.name))
		if err != nil {
			w.abandon()
			return nil, fmt.Errorf("make token folder: %w", err)
		}
		*f.to = file
	}
	return w, nil
}

// Manifest is what will be written; Dropped may be changed until Close.
func (w *TokensWriter) Manifest() *Manifest { return &w.manifest }

// Append adds a sequence. After an error every call returns that error.
func (w *TokensWriter) Append(s Sequence) error {
	if w.err != nil {
		return w.err
	}
	w.err = w.append(s)
	return w.err
}

func (w *TokensWriter) append(s Sequence) error {
	if len(s.IDs) != len(s.Mask) {
		return fmt.Errorf("write tokens of row %q: %d ids but %d mask bits", s.ID, len(s.IDs), len(s.Mask))
	}
	if len(s.IDs) == 0 || len(s.IDs) > math.MaxInt32 || s.Row < 0 || int64(s.Row) > math.MaxUint32 {
		return fmt.Errorf("write tokens of row %q: %d tokens of row number %d do not fit the format", s.ID, len(s.IDs), s.Row)
	}
	b := binary.LittleEndian.AppendUint64(w.scratch[:0], uint64(w.manifest.Tokens))
	b = binary.LittleEndian.AppendUint64(b, uint64(w.rows.size))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s.IDs)))
	b = binary.LittleEndian.AppendUint32(b, uint32(s.Row))
	if err := w.index.write(b); err != nil {
		return err
	}
	b, err := appendIDs(b[:0], s.IDs)
	if err != nil {
		return fmt.Errorf("write tokens of row %q: %w", s.ID, err)
	}
	if err := w.tokens.write(b); err != nil {
		return err
	}
	b = w.appendMask(b[:0], s.Mask)
	if err := w.mask.write(b); err != nil {
		return err
	}
	if s.License != "" {
		if w.manifest.Licenses == nil {
			w.manifest.Licenses = map[string]int64{}
		}
		w.manifest.Licenses[s.License]++
	}
	w.manifest.Sequences++
	w.manifest.Longest = max(w.manifest.Longest, len(s.IDs))
	w.scratch = appendRecord(b[:0], &s)
	return w.rows.write(w.scratch)
}

// appendIDs appends ids as they stand in the file.
func appendIDs(b []byte, ids []int32) ([]byte, error) {
	at := len(b)
	b = slices.Grow(b, 4*len(ids))[:at+4*len(ids)]
	to, signs := b[at:], int32(0)
	for i, id := range ids {
		signs |= id
		binary.LittleEndian.PutUint32(to[4*i:], uint32(id))
	}
	if signs < 0 {
		return nil, fmt.Errorf("token id %d", slices.Min(ids))
	}
	return b, nil
}

// appendMask appends the whole bytes of the mask's bits behind those that wait, counts tokens and trained ones, and lets the
// rest wait.
func (w *TokensWriter) appendMask(b []byte, mask []bool) []byte {
	waiting := w.manifest.Tokens % 8
	w.manifest.Tokens += int64(len(mask))
	for len(mask) >= 8 {
		eight := byte(0)
		for i, on := range mask[:8] {
			eight |= bit(on) << i
		}
		w.manifest.Trained += int64(bits.OnesCount8(eight))
		b = append(b, w.bits|eight<<waiting)
		w.bits = byte(uint16(eight) << waiting >> 8)
		mask = mask[8:]
	}
	for _, on := range mask {
		w.manifest.Trained += int64(bit(on))
		w.bits |= bit(on) << waiting
		if waiting++; waiting == 8 {
			b = append(b, w.bits)
			w.bits, waiting = 0, 0
		}
	}
	return b
}

// bit is 1 for true. The compiler makes no jump of it.
func bit(on bool) byte {
	if on {
		return 1
	}
	return 0
}

func appendRecord(b []byte, s *Sequence) []byte {
	b = appendString(append(b, `{"id":`...), s.ID)
	for _, f := range []struct{ name, value string }{{"answer", s.Answer}, {"source", s.Source}, {"license", s.License}, {"prompt", s.Prompt}} {
		if f.value != "" {
			b = append(append(append(b, `,"`...), f.name...), `":`...)
			b = appendString(b, f.value)
		}
	}
	b = appendMeta(b, s.Meta)
	return append(b, "}\n"...)
}

// Close writes what is buffered and then the manifest; only then the folder is one. It returns the first
// error of the whole writing.
func (w *TokensWriter) Close() error {
	if w.err == nil && w.manifest.Tokens%8 != 0 {
		w.err = w.mask.write([]byte{w.bits})
	}
	w.manifest.Files = map[string]FileSize{}
	for name, f := range map[string]*hashedFile{tokensFile: w.tokens, maskFile: w.mask, indexFile: w.index, rowsFile: w.rows} {
		if err := f.finish(); err != nil && w.err == nil {
			w.err = err
		}
		w.manifest.Files[name] = FileSize{Size: f.size, BLAKE3: hex.EncodeToString(f.sum.Sum(nil))}
	}
	if w.err != nil {
		return fmt.Errorf("write token folder %s: %w", w.dir, w.err)
	}
	raw, err := json.MarshalIndent(w.manifest, "", " ")
	if err == nil {
		err = writeWhole(filepath.Join(w.dir, manifestFile), append(raw, '\n'))
	}
	if err != nil {
		w.err = fmt.Errorf("write token folder %s: %w", w.dir, err)
	} else {
		w.err = errors.New("the token folder is closed")
		return nil
	}
	return w.err
}

// Abandon closes the files of a folder that is not to be finished.
func (w *TokensWriter) Abandon() {
	w.abandon()
	if w.err == nil {
		w.err = errors.New("the token folder was abandoned")
	}
}

func (w *TokensWriter) abandon() {
	for _, f := range []*hashedFile{w.tokens, w.mask, w.index, w.rows} {
		if f != nil {
			f.file.Close()
		}
	}
}

// hashedFile writes a new file and hashes what passes.
type hashedFile struct {
	file *eagerFile
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
}

func createHashed(path string) (*hashedFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	h := &hashedFile{file: &eagerFile{File: f}, sum: blake3.New()}
	h.buf = bufio.NewWriterSize(io.MultiWriter(h.file, h.sum), 1<<20)
	return h, nil
}

func (h *hashedFile) write(b []byte) error {
	h.size += int64(len(b))
	_, err := h.buf.Write(b)
	return err
}

func (h *hashedFile) finish() error {
	err := h.buf.Flush()
	if err == nil {
		err = h.file.Sync()
	}
	return errors.Join(err, h.file.Close())
}

// writeWhole writes a file by a temporary one beside it, so that it is there whole or not at all.
func writeWhole(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func checksum(data []byte) string {
	sum := blake3.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func pairsOf(m map[string]string) []Pair {
	if len(m) == 0 {
		return nil
	}
	pairs := make([]Pair, 0, len(m))
	for name, value := range m {
		pairs = append(pairs, Pair{name, value})
	}
	sort.Slice(pairs, func(a, b int) bool { return pairs[a].Name < pairs[b].Name })
	return pairs
}
