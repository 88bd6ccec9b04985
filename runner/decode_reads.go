package runner

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/cache"
)

// decodeReads is what of the disk a pipeline was made from.
type decodeReads struct {
	from    string         // the folder that names of files are relative to
	witness *cache.Witness // nil: marks say what it would
	marks   cache.Marks
	// folder says that the pipeline files are those found in the workspace; names are what was found. They are compared
	// by name: the folder's own times change with every lock that is written there.
	folder bool
	names  []string
}

// again is the witness, also of a pipeline that was not decoded now.
func (d decodeReads) again(workspace string) *cache.Witness {
	if d.witness != nil {
		return d.witness
	}
	return d.marks.Witness(workspace)
}

// Circumstances are what an answer hangs on beside files: how lpipe was called, in which environment, and which lpipe.
type Circumstances struct {
	Decode  DecodeOptions
	Program string   // the file of this program: another build is another circumstance
	Env     []string // environment variables that count, beside those that the pipeline reads
	Words   []string // whatever else
}

// workspace is the folder that a pipeline decoded under these circumstances has.
func (c Circumstances) workspace() (string, error) {
	if len(c.Decode.Files) == 0 {
		return filepath.Abs(c.Decode.Dir)
	}
	first := c.Decode.Files[0]
	if !filepath.IsAbs(first) {
		first = filepath.Join(c.Decode.Dir, first)
	}
	first, err := filepath.Abs(first)
	return filepath.Dir(first), err
}

// digest tells circumstances apart; names are the environment variables that the pipeline reads. Values go in as parts
// of one hash: they may be secrets.
func (c Circumstances) digest(names []string) (cache.ID, error) {
	dir, err := filepath.Abs(c.Decode.Dir)
	if err != nil {
		return cache.ID{}, err
	}
	var b []byte
	list := func(words ...string) {
		b = binary.AppendUvarint(b, uint64(len(words)))
		for _, word := range words {
			b = appendText(b, word)
		}
	}
	list(dir, c.Decode.Profile, c.Decode.Version)
	list(c.Decode.Files...)
	list(c.Decode.Vars...)
	list(c.Decode.VarFiles...)
	list(c.Words...)
	for _, name := range slices.Concat(c.Env, names) {
		value, set := "", false
		if c.Decode.Getenv != nil {
			value, set = c.Decode.Getenv(name)
		}
		if b = append(b, 0); set {
			b[len(b)-1] = 1
		}
		list(name, value)
	}
	for _, name := range slices.Sorted(slices.Values(c.Decode.Environ)) {
		if strings.HasPrefix(name, varPrefix) {
			list(name) // one of no variable is a mistake
		}
	}
	return cache.Sum(b), nil
}

// A basis is the head of a file that remembers an answer: what must be as it was for the answer to hold.
type basis struct {
	circumstances cache.ID
	envNames      []string
	folder        bool
	names         []string
	marks         cache.Marks
}

// The files that remember answers begin with their own eight bytes, the length of the rest and its CRC-32C.
const basisHead = 8 + 8 + 4

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// writeBasis writes an answer and all that it hangs on into a file of .lpipe, by rename but not synced: it may be lost.
// An error says why it could not be relied on, if it is not one of the disk.
func writeBasis(name, magic string, c Circumstances, p *Pipeline, witness *cache.Witness, answer []byte) error {
	witness.Look(c.Program, true)
	if err := witness.Settled(); err != nil {
		return err
	}
	digest, err := c.digest(p.EnvNames)
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(p.Dir, ".lpipe", name), encodeBasis(magic, digest, p, witness, answer))
}

// encodeBasis gives the file's bytes.
func encodeBasis(magic string, digest cache.ID, p *Pipeline, witness *cache.Witness, answer []byte) []byte {
	b := append([]byte(magic), make([]byte, basisHead-len(magic))...)
	b = append(b, digest[:]...)
	b = appendTexts(b, p.EnvNames)
	if b = append(b, 0); p.reads.folder {
		b[len(b)-1] = 1
	}
	b = appendTexts(b, p.reads.names)
	marks := witness.Append(nil)
	b = append(binary.AppendUvarint(b, uint64(len(marks))), marks...)
	b = append(b, answer...)
	binary.LittleEndian.PutUint64(b[8:], uint64(len(b)-basisHead))
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[basisHead:], castagnoli()))
	return b
}

// readBasis reads such a file if all that its answer hangs on is as it was.
func readBasis(name, magic string, c Circumstances) (on basis, answer []byte, holds bool) {
	workspace, err := c.workspace()
	if err != nil {
		return on, nil, false
	}
	on, answer, known := readRemembered(workspace, name, magic)
	return on, answer, known && on.asked(c, workspace) && on.marks.Hold(workspace)
}

// readRemembered reads such a file, whatever has changed since.
func readRemembered(workspace, name, magic string) (on basis, answer []byte, known bool) {
	data, err := os.ReadFile(filepath.Join(workspace, ".lpipe", name))
	if err != nil {
		return on, nil, false
	}
	on, answer, err = decodeBasis(magic, data)
	return on, answer, err == nil
}

// decodeBasis reads such a file. Whatever is wrong with it is an error.
func decodeBasis(magic string, data []byte) (_ basis, answer []byte, err error) {
	if len(data) < basisHead || string(data[:8]) != magic || binary.LittleEndian.Uint64(data[8:]) != uint64(len(data)-basisHead) ||
		binary.LittleEndian.Uint32(data[16:]) != crc32.Checksum(data[basisHead:], castagnoli()) {
		return basis{}, nil, cache.ErrDamaged
	}
	var one basis
	r := reader{b: data[basisHead:]}
	copy(one.circumstances[:], r.take(len(one.circumstances)))
	one.envNames = r.texts()
	one.folder = r.byte() != 0
	one.names = r.texts()
	marks := r.take(int(r.uvarint()))
	if r.bad {
		return basis{}, nil, cache.ErrDamaged
	}
	one.marks, err = cache.ReadMarks(marks)
	return one, r.b, err
}

// asked tells whether the circumstances are as they were, and the names of pipeline files.
func (one basis) asked(c Circumstances, workspace string) bool {
	digest, err := c.digest(one.envNames)
	if err != nil || digest != one.circumstances {
		return false
	}
	if one.folder {
		entries, err := os.ReadDir(workspace)
		if err != nil || !slices.Equal(pipelineNames(entries), one.names) {
			return false
		}
	}
	return true
}

// reader takes values off the front of bytes; after the first that is not there it is bad and gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte {
	if one := r.take(1); one != nil {
		return one[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) float() float64 {
	if eight := r.take(8); eight != nil {
		return math.Float64frombits(binary.LittleEndian.Uint64(eight))
	}
	return 0
}

func (r *reader) text() string { return string(r.take(int(r.uvarint()))) }

// count is a number of things that follow, each of a byte at least.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return 0
	}
	return int(n)
}

func (r *reader) texts() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = r.text()
	}
	return list
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func appendTexts(b []byte, texts []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(texts)))
	for _, text := range texts {
		b = appendText(b, text)
	}
	return b
}

// replaceFile puts a file that may be lost at a path: it is not synced, and where two do so at once its checksum tells.
// What a kill leaves at the other path is overwritten the next time.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
