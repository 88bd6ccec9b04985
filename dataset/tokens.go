package dataset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the files of a token folder.
const (
	manifestFile = "manifest.json"
	tokensFile   = "tokens.bin"
	maskFile     = "mask.bits"
	indexFile    = "seq.idx"
	rowsFile     = "rows.jsonl"
)

const (
	tokensFormat  = "lpipe-tokens"
	tokensVersion = 1
	indexEntry    = 24 // bytes of one sequence in seq.idx
)

// Manifest describes a token folder. Writers fill the part above the counts.
type Manifest struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	// Tokenizer and Template are the fingerprints of what made the ids.
	Tokenizer string `json:"tokenizer"`
	Template  string `json:"template"`
	VocabSize int    `json:"vocab_size"`
	MaxTokens int    `json:"max_tokens,omitempty"`
	TrainOn   string `json:"train_on,omitempty"`
	// Dropped counts the rows that did not become sequences, by reason.
	Dropped map[string]int64 `json:"dropped,omitempty"`
	// Licenses counts the sequences by the licence of their rows, those without a known one left out. Writers count.
	Licenses map[string]int64 `json:"licenses,omitempty"`

	Sequences int64               `json:"sequences"`
	Tokens    int64               `json:"tokens"`
	Trained   int64               `json:"trained"` // tokens with their mask bit set
	Longest   int                 `json:"longest"`
	Files     map[string]FileSize `json:"files"`
}

// FileSize is the size and BLAKE3 of one file of the folder.
type FileSize struct {
	Size   int64  `json:"size"`
	BLAKE3 string `json:"blake3"`
}

// Sequence is one tokenised example.
type Sequence struct {
	IDs []int32
	// Mask says of each token whether it is trained on, as a target; as long as IDs.
	Mask []bool
	// Row is the number of the row that it was made from, from 0.
	Row int
	// ID, Answer, Source, License and Meta are the row's; Prompt is its Row.Prompt, which finds duplicates later.
	ID, Answer, Source, License, Prompt string
	Meta                                []Pair
}

// Tokens is an open token folder, memory mapped. It may be read from many goroutines.
type Tokens struct {
	dir                       string
	manifest                  Manifest
	tokens, mask, index, rows mapped
}

// OpenTokens opens the token folder dir. An error says what is wrong with it: no manifest (it was never
// finished, or is no token folder), an unknown version, a file of another size than the manifest says.
func OpenTokens(dir string) (*Tokens, error) {
	t := &Tokens{dir: dir}
	if err := t.readManifest(); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		to   *mapped
		size int64
	}{
		{tokensFile, &t.tokens, 4 * t.manifest.Tokens},
		{maskFile, &t.mask, (t.manifest.Tokens + 7) / 8},
		{indexFile, &t.index, indexEntry * t.manifest.Sequences},
		{rowsFile, &t.rows, t.manifest.Files[rowsFile].Size},
	} {
		m, err := mapFile(filepath.Join(dir, f.name))
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("open token folder %s: %w", dir, err)
		}
		*f.to = m
		if size := int64(len(m.data)); size != f.size || size != t.manifest.Files[f.name].Size {
			t.Close()
			return nil, fmt.Errorf("token folder %s: %s has %d bytes where its manifest says %d: make the folder again", dir, f.name, size, f.size)
		}
	}
	if err := t.checkIndex(); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Tokens) readManifest() error {
	raw, err := os.ReadFile(filepath.Join(t.dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not a token folder: it has no %s (the stage tokenize makes one)", t.dir, manifestFile)
	}
	if err != nil {
		return fmt.Errorf("read token folder: %w", err)
	}
	m := &t.manifest
	if err := json.Unmarshal(raw, m); err != nil {
		return fmt.Errorf("token folder %s: read %s: %w", t.dir, manifestFile, err)
	}
	if m.Format != tokensFormat {
		return fmt.Errorf("%s is not a token folder: its %s has format %q, not %q", t.dir, manifestFile, m.Format, tokensFormat)
	}
	if m.Version != tokensVersion {
		return fmt.Errorf("token folder %s has version %d, this lpipe reads %d: tokenise again, or use another lpipe", t.dir, m.Version, tokensVersion)
	}
	if m.Sequences < 0 || m.Tokens < 0 || m.Tokens > 1<<48 {
		return fmt.Errorf("token folder %s: %s has impossible counts", t.dir, manifestFile)
	}
	return nil
}

// checkIndex makes sure that no entry points outside the files, so that reading cannot. Of the index it keeps nothing in memory: with
// 24 bytes a sequence that would be the most there is of a large folder.
func (t *Tokens) checkIndex() error {
	const often = 1 << 16
	var next uint64
	for i := range t.Len() {
		if i%often == 0 {
			t.index.forget((i - 1) * indexEntry)
		}
		e := t.entry(i)
		if e.token != next || e.row > uint64(len(t.rows.data)) || i > 0 && e.row < t.entry(i-1).row {
			return fmt.Errorf("token folder %s: %s is damaged at sequence %d: make the folder again", t.dir, indexFile, i)
		}
		next += uint64(e.length)
	}
	if next != uint64(t.manifest.Tokens) {
		return fmt.Errorf("token folder %s: %s holds %d tokens, the manifest says %d: make the folder again", t.dir, indexFile, next, t.manifest.Tokens)
	}
	return nil
}

type entry struct {
	token, row uint64 // offsets: in tokens, and in bytes of rows.jsonl
	length     uint32
	number     uint32 // of the row
}

func (t *Tokens) entry(i int) entry {
	b := t.index.data[i*indexEntry : (i+1)*indexEntry]
	return entry{
		token:  binary.LittleEndian.Uint64(b),
		row:    binary.LittleEndian.Uint64(b[8:]),
		length: binary.LittleEndian.Uint32(b[16:]),
		number: binary.LittleEndian.Uint32(b[20:]),
	}
}

// Manifest describes the folder.
func (t *Tokens) Manifest() Manifest { return t.manifest }

// Len is the number of sequences.
func (t *Tokens) Len() int { return int(t.manifest.Sequences) }

// Length is the number of tokens of sequence i.
func (t *Tokens) Length(i int) int { return int(t.entry(i).length) }

// IDs appends the token ids of sequence i to dst.
func (t *Tokens) IDs(i int, dst []int32) []int32 {
	e := t.entry(i)
	b := t.tokens.data[4*e.token : 4*(e.token+uint64(e.length))]
	for ; len(b) > 0; b = b[4:] {
		dst = append(dst, int32(binary.LittleEndian.Uint32(b)))
	}
	return dst
}

// Mask appends to dst, for each token of sequence i, whether it is trained on as a target.
func (t *Tokens) Mask(i int, dst []bool) []bool {
	e := t.entry(i)
	for at := e.token; at < e.token+uint64(e.length); at++ {
		dst = append(dst, t.mask.data[at/8]>>(at%8)&1 == 1)
	}
	return dst
}

// Row is the number of the row that sequence i was made from, from 0.
func (t *Tokens) Row(i int) int { return int(t.entry(i).number) }

// Answer is the reference answer of sequence i, "" if unknown.
func (t *Tokens) Answer(i int) string { return t.record(i).Answer }

// ID is the id of the row that sequence i was made from.
func (t *Tokens) ID(i int) string { return t.record(i).ID }

// Sequence is everything about sequence i but its ids and mask.
func (t *Tokens) Sequence(i int) Sequence {
	r := t.record(i)
	return Sequence{Row: t.Row(i), ID: r.ID, Answer: r.Answer, Source: r.Source, License: r.License, Prompt: r.Prompt, Meta: pairsOf(r.Meta)}
}

// record is a line of rows.jsonl.
type record struct {
	ID      string            `json:"id"`
	Answer  string            `json:"answer,omitempty"`
	Source  string            `json:"source,omitempty"`
	License string            `json:"license,omitempty"`
	Prompt  string            `json:"prompt,omitempty"`
	Meta    map[string]string `json:"meta,omitempty"`
}

// record decodes the line of sequence i. A line that is not JSON gives an empty record: Verify tells damage.
func (t *Tokens) record(i int) record {
	var r record
	_ = json.Unmarshal(t.recordLine(i), &r)
	return r
}

func (t *Tokens) recordLine(i int) []byte {
	end := uint64(len(t.rows.data))
	if i+1 < t.Len() {
		end = t.entry(i + 1).row
	}
	return t.rows.data[t.entry(i).row:end]
}

// Forget tells the system that what is before sequence i is not needed soon, so that a pass over a folder larger than memory does not
// keep all of it resident.
func (t *Tokens) Forget(i int) {
	if i < t.Len() {
		e := t.entry(i)
		t.tokens.forget(int(4 * e.token))
		t.mask.forget(int(e.token / 8))
		t.index.forget(i * indexEntry)
		t.rows.forget(int(e.row))
	}
}

// Verify reads every file and compares it with the manifest's BLAKE3.
func (t *Tokens) Verify() error {
	for name, m := range map[string]mapped{tokensFile: t.tokens, maskFile: t.mask, indexFile: t.index, rowsFile: t.rows} {
		if sum := checksum(m.data); sum != t.manifest.Files[name].BLAKE3 {
			return fmt.Errorf("token folder %s: %s has BLAKE3 %s, its manifest says %s: make the folder again", t.dir, name, sum, t.manifest.Files[name].BLAKE3)
		}
	}
	return nil
}

// Close unmaps the folder. Nothing returned by other methods points into it.
func (t *Tokens) Close() error {
	return errors.Join(t.tokens.close(), t.mask.close(), t.index.close(), t.rows.close())
}
