package cache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"time"
)

// Result is what a key led to.
type Result struct {
	Outputs     map[string]Content `json:"outputs"`     // by the output's name
	Description string             `json:"description"` // the text whose hash is the key
	Record      Record             `json:"record"`
	// Inputs lists, by input, the files of folders that may be nowhere else when somebody asks which of them changed.
	Inputs     map[string]map[string]ID `json:"inputs,omitempty"`
	Signatures []Signature              `json:"signatures,omitempty"`
	// From says which remote a result was read from; none for one that was made here. It is this cache's business and not sent.
	From string `json:"from,omitempty"`
}

// Signature says that somebody vouches for a result: that this key led to these outputs. See remote.SignedText.
type Signature struct {
	Key       string `json:"key"`       // "ed25519:" and the public key in base64
	Signature string `json:"signature"` // base64
}

// Record tells who made a result, when, where and how. It proves nothing and counts in no hash.
type Record struct {
	Stage   string             `json:"stage"`
	Kind    string             `json:"kind"`
	User    string             `json:"user,omitempty"`
	Host    string             `json:"host,omitempty"`
	Device  string             `json:"device,omitempty"`
	Version string             `json:"version,omitempty"` // of lpipe
	Run     string             `json:"run,omitempty"`
	Started time.Time          `json:"started"`
	Seconds float64            `json:"seconds"`
	Log     *Content           `json:"log,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
}

// Contents are all that the result needs: its outputs and its log.
func (r *Result) Contents() []Content {
	var list []Content
	for _, c := range r.Outputs {
		list = append(list, c)
	}
	if r.Record.Log != nil {
		list = append(list, *r.Record.Log)
	}
	return list
}

// resultMagic starts an encoded result; the digit is the version. The rest of the first line is the BLAKE3 hash
// of all lines after it.
const resultMagic = "lpipe result 1 "

// Encode gives the result's file: a line with version and checksum, a line with the key, and JSON.
func (r *Result) Encode(k Key) ([]byte, error) {
	body, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode result %s: %w", k, err)
	}
	body = fmt.Appendf(nil, "%s\n%s\n", k, body)
	return append([]byte(resultMagic+Sum(body).String()+"\n"), body...), nil
}

// DecodeResult reads what Encode writes for this key. Errors are ErrDamaged.
func DecodeResult(k Key, data []byte) (*Result, error) {
	first, body, _ := bytes.Cut(data, []byte("\n"))
	sum, ok := bytes.CutPrefix(first, []byte(resultMagic))
	if !ok {
		return nil, damaged("result %s: it does not start with %q", k, resultMagic)
	}
	if string(sum) != Sum(body).String() {
		return nil, damaged("result %s: its checksum does not fit", k)
	}
	key, text, _ := bytes.Cut(body, []byte("\n"))
	if string(key) != k.String() {
		return nil, damaged("result %s: it is the result of %s", k, key)
	}
	var r Result
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, damaged("result %s: %v", k, err)
	}
	return &r, nil
}

func (c *Cache) resultPath(k Key) string { return c.hashPath("results", k) }

// PutResult records a result, durably, in place of an older one. Its objects must be stored before: a result
// without its content would be a false hit.
func (c *Cache) PutResult(k Key, r *Result) error {
	end, err := c.beginNow()
	if err != nil {
		return err
	}
	defer end()
	data, err := r.Encode(k)
	if err != nil {
		return err
	}
	if err := c.disk.writeFile(c.in("tmp"), c.resultPath(k), data, 0o644); err != nil {
		return fmt.Errorf("record result %s: %w", k, err)
	}
	return nil
}

// Result is the result recorded under a key: ErrNotFound without one, ErrDamaged for one that cannot be trusted.
// Whether its content is here is another question: see Missing.
func (c *Cache) Result(k Key) (*Result, error) {
	data, err := os.ReadFile(c.resultPath(k))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("result %s: %w", k, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("result %s: %w", k, err)
	}
	return DecodeResult(k, data)
}

// Results gives the keys of all results, in order.
func (c *Cache) Results() iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for f, err := range c.hashFiles("results") {
			if err == nil && !f.named {
				continue // fsck reports it
			}
			if !yield(Key(f.hash), err) || err != nil {
				return
			}
		}
	}
}

// DeleteResult forgets a result. Its content goes with the next gc.
func (c *Cache) DeleteResult(k Key) error {
	if err := c.disk.remove(c.resultPath(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete result %s: %w", k, err)
	}
	return nil
}

// hashFile is a file in one of the fan-out folders.
type hashFile struct {
	path  string
	hash  [32]byte
	named bool // its name is a hash in its place
}

// hashFiles lists objects, trees or results, in order.
func (c *Cache) hashFiles(kind string) iter.Seq2[hashFile, error] {
	return func(yield func(hashFile, error) bool) {
		top, err := os.ReadDir(c.in(kind))
		if err != nil {
			yield(hashFile{}, err)
			return
		}
		for _, d := range top {
			if !d.IsDir() { // a file where a folder should be
				if !yield(hashFile{path: c.in(kind, d.Name())}, nil) {
					return
				}
				continue
			}
			names, err := os.ReadDir(c.in(kind, d.Name()))
			if err != nil {
				yield(hashFile{}, err)
				return
			}
			for _, n := range names {
				id, err := ParseID(d.Name() + n.Name())
				f := hashFile{path: c.in(kind, d.Name(), n.Name()), hash: id, named: err == nil && len(d.Name()) == 2}
				if !yield(f, nil) {
					return
				}
			}
		}
	}
}
