package runner

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"lpipe/cache"
)

// lockSchema is the version of the lock file's format; doc/format-runner.md describes it. Schema 1 had no checks.
const lockSchema = 2

// Lock is what a lock file says: what every stage and source was when it was last brought up to date. It holds only
// what follows from content, so that another machine's run of the same thing changes nothing in it.
type Lock struct {
	Sources map[string]LockSource // by path
	Stages  map[string]LockStage  // by step name

	// texts are what encode writes for some of Stages. Whoever changes a stage removes its text.
	texts map[string]string
	// rest are stages, sorted by name and not in Stages, of which nothing is known but their text.
	rest []lockText
}

// LockSource is the content of a path that no stage makes.
type LockSource struct {
	cache.Content
	Stored bool   `json:"stored,omitempty"` // `lpipe add` put it into the cache
	Pin    string `json:"pin,omitempty"`    // of a download: the commit that a branch stood at, or the file's checksum
	From   string `json:"from,omitempty"`   // of a download: what the pin is of
	Choice string `json:"choice,omitempty"` // of a download: digest of include and exclude
}

// with is the same source with other content. The cache need not have that.
func (s LockSource) with(content cache.Content) *LockSource {
	s.Content, s.Stored = content, false
	return &s
}

// LockStage is the last finished state of a stage. Settings, Code, Tools and Env are digests of those parts of the
// key's description: they say which part changed where the description itself is not at hand.
type LockStage struct {
	Key      cache.Key             `json:"key"`
	Kind     string                `json:"kind"`
	Settings string                `json:"settings,omitempty"`
	Code     string                `json:"code,omitempty"`
	Tools    string                `json:"tools,omitempty"`
	Env      string                `json:"env,omitempty"`
	In       map[string]cache.ID   `json:"in,omitempty"`
	Out      map[string]LockOutput `json:"out"`
}

// LockOutput is an output's place and content.
type LockOutput struct {
	Path string `json:"path"`
	cache.Content
}

func newLock() *Lock {
	return &Lock{Sources: map[string]LockSource{}, Stages: map[string]LockStage{}}
}

// LockPath is the lock file of a profile, "" being none.
func LockPath(dir, profile string) string {
	if profile == "" {
		return filepath.Join(dir, "pipeline.lock")
	}
	return filepath.Join(dir, "pipeline."+profile+".lock")
}

// ReadLock reads a lock file; a missing one is an empty lock. What cannot be trusted is an error that is
// cache.ErrDamaged and says what to do.
func ReadLock(path string) (*Lock, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newLock(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	return parseLock(filepath.Base(path), data)
}

func parseLock(name string, data []byte) (*Lock, error) {
	if lock, plain := scanLock(data); plain {
		return lock, nil
	}
	if conflicted(data) {
		return nil, fmt.Errorf("%s holds a merge conflict; lpipe repro rebuilds it from recorded results: %w", name, cache.ErrDamaged)
	}
	lock, schema, err := decodeLock(data)
	switch {
	case err != nil && schema > lockSchema:
		return nil, newerLock(name, schema)
	case err != nil:
		return nil, fmt.Errorf("%s: %w (%w); lpipe repro rebuilds it from recorded results", name, cache.ErrDamaged, err)
	case schema > lockSchema && !asOurs(data, lock, schema):
		return nil, newerLock(name, schema)
	case schema > lockSchema: // nothing is lost by writing it anew
		return nil, fmt.Errorf("%s has schema %d and this lpipe knows %d: it was written by a newer lpipe, or the number is damaged; all else is as this one writes it, so lpipe repro or fsck --repair does so: %w",
			name, schema, lockSchema, cache.ErrDamaged)
	case schema < 1:
		return nil, fmt.Errorf("%s: %w (schema %d); lpipe repro rebuilds it from recorded results", name, cache.ErrDamaged, schema)
	}
	return lock, nil
}

func newerLock(name string, schema int) error {
	return fmt.Errorf("%s has schema %d and this lpipe knows %d: it was written by a newer lpipe; install that one", name, schema, lockSchema)
}

// asOurs tells whether a lock is, but for the number of its schema, what this version writes.
func asOurs(data []byte, lock *Lock, schema int) bool {
	number := func(n int) []byte { return fmt.Appendf(nil, "{\n  \"schema\": %d,\n", n) }
	return bytes.Equal(bytes.Replace(data, number(schema), number(lockSchema), 1), lock.encode())
}

// decodeLock reads a lock and checks each record. Schema 1 had no checks; what it is 0 in has no schema.
func decodeLock(data []byte) (lock *Lock, schema int, err error) {
	lock = newLock()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err = eachField(d, func(field string) error {
		switch field {
		case "schema":
			return d.Decode(&schema)
		case "sources":
			return eachField(d, func(path string) error {
				var one checkedSource
				if err := d.Decode(&one); err != nil {
					return err
				}
				lock.Sources[path] = one.LockSource
				return fits(schema, "source", path, one.Check, one.check)
			})
		case "stages":
			return eachField(d, func(name string) error {
				var one checkedStage
				if err := d.Decode(&one); err != nil {
					return err
				}
				lock.Stages[name] = one.LockStage
				return fits(schema, "stage", name, one.Check, one.LockStage.check)
			})
		}
		return fmt.Errorf("unknown field %q", field)
	})
	if err == nil {
		if _, after := d.Token(); after != io.EOF {
			err = errors.New("more after the end")
		}
	}
	return lock, schema, err
}

func fits(schema int, what, name, check string, want func(string) string) error {
	if schema == 1 && check == "" || check == want(name) {
		return nil
	}
	return fmt.Errorf("the record of %s %s is not what its check says", what, name)
}

// eachField reads a JSON object and calls read at each of its fields' values. A field that stands twice is an error.
func eachField(d *json.Decoder, read func(name string) error) error {
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return cmp.Or(err, errors.New("no object where one must be"))
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] {
			return fmt.Errorf("%q stands twice", name)
		}
		seen[name] = true
		if err := read(name); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func conflicted(data []byte) bool {
	for _, mark := range []string{"<<<<<<< ", ">>>>>>> "} {
		if bytes.HasPrefix(data, []byte(mark)) || bytes.Contains(data, []byte("\n"+mark)) {
			return true
		}
	}
	return false
}

// encode gives the file's bytes: sorted, a source on one line, a stage on a few, so that merges of Git touch only
// what changed.
func (l *Lock) encode() []byte {
	b := fmt.Appendf(make([]byte, 0, 512*len(l.Stages)+256*len(l.Sources)), "{\n  \"schema\": %d,\n  \"sources\": {", lockSchema)
	b = appendSorted(b, "    ", l.Sources, func(b []byte, path string, s LockSource) []byte { return s.append(b, path) })
	b = append(b, "},\n  \"stages\": {"...)
	return append(l.appendStages(b), "}\n}\n"...)
}

func (s LockSource) append(b []byte, path string) []byte {
	b = append(appendContent(append(b, '{'), s.Content), ifSo(s.Stored, `,"stored":true`)...)
	b = appendFields(b, [][2]string{{`,"pin":`, s.Pin}, {`,"from":`, s.From}, {`,"choice":`, s.Choice}, {`,"check":`, s.check(path)}})
	return append(b, '}')
}

func (s LockStage) append(b []byte, name string) []byte {
	b = hex.AppendEncode(append(b, "{\n      \"key\":\""...), s.Key[:])
	b = appendJSONString(append(b, `","kind":`...), s.Kind)
	b = appendFields(b, [][2]string{{`,"settings":`, s.Settings}, {`,"code":`, s.Code}, {`,"tools":`, s.Tools}, {`,"env":`, s.Env}, {`,"check":`, s.check(name)}})
	b = append(b, ',')
	if len(s.In) > 0 {
		b = append(b, "\n      \"in\": {"...)
		for i, name := range sortedKeys(s.In) {
			if i > 0 {
				b = append(b, ',')
			}
			id := s.In[name]
			b = append(hex.AppendEncode(append(appendJSONString(b, name), ":\""...), id[:]), '"')
		}
		b = append(b, "},"...)
	}
	b = append(b, "\n      \"out\": {"...)
	b = appendSorted(b, "        ", s.Out, func(b []byte, _ string, o LockOutput) []byte {
		b = append(appendJSONString(append(b, `{"path":`...), o.Path), ',')
		return append(appendContent(b, o.Content), '}')
	})
	return append(b, "}\n    }"...)
}

// appendContent writes the fields of a content.
func appendContent(b []byte, c cache.Content) []byte {
	b = append(hex.AppendEncode(append(b, `"id":"`...), c.ID[:]), '"')
	b = append(append(b, ifSo(c.Dir, `,"dir":true`)...), ifSo(c.Exec, `,"exec":true`)...)
	b = strconv.AppendInt(append(b, `,"size":`...), c.Size, 10)
	if c.Files != 0 {
		b = strconv.AppendInt(append(b, `,"files":`...), c.Files, 10)
	}
	return b
}

func ifSo(on bool, text string) string {
	if on {
		return text
	}
	return ""
}

// appendFields writes those of some fields that are not empty.
func appendFields(b []byte, fields [][2]string) []byte {
	for _, field := range fields {
		if field[1] != "" {
			b = appendJSONString(append(b, field[0]...), field[1])
		}
	}
	return b
}

// appendSorted writes a map's entries, each beginning on a line of its own, and the line break before the closing
// brace.
func appendSorted[V any](b []byte, indent string, entries map[string]V, write func([]byte, string, V) []byte) []byte {
	for i, name := range sortedKeys(entries) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendJSONString(append(append(b, '\n'), indent...), name)
		b = write(append(b, ": "...), name, entries[name])
	}
	if len(entries) > 0 {
		b = append(append(b, '\n'), indent[2:]...)
	}
	return b
}

// compact is a value's JSON without escapes for HTML.
func compact(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("runner: a value that JSON cannot hold")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// writeFile replaces a file by rename, durably. temp is a path on the same file system that nobody else uses: what a
// kill leaves there is overwritten the next time.
func writeFile(path, temp string, data []byte) error {
	if err := writeDurably(temp, data); err != nil {
		return err
	}
	return moveDurably(temp, path)
}

// writeDurably writes a file whose bytes, not its name, are then durable, or leaves none.
func writeDurably(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

// moveDurably puts a file in the place of another, or removes it.
func moveDurably(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		os.Remove(from)
		return err
	}
	return syncDir(filepath.Dir(to))
}

// syncDir makes renames in a folder durable. File systems that cannot sync a folder say so by EINVAL.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

// syncUp makes the names in a folder of .lpipe durable, and those of the folders above it up to the workspace: any of
// them may be new, and made by a command that was killed before it could sync.
func syncUp(dir string) error {
	for {
		if err := syncDir(dir); err != nil {
			return err
		}
		if !strings.Contains(dir+"/", "/.lpipe/") {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}
