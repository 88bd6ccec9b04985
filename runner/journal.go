package runner

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lpipe/cache"
)

// journalHead is the first line of every journal.
const journalHead = "lpipe journal 1\n"

// entry is one record of the journal. Exactly one of Stage, Source and Begin is set.
type entry struct {
	Profile string      `json:"profile,omitempty"`
	Stage   string      `json:"stage,omitempty"` // this stage finished: Done is its line of the lock
	Done    *LockStage  `json:"done,omitempty"`
	Source  string      `json:"source,omitempty"` // a source's content
	Content *LockSource `json:"content,omitempty"`
	Begin   string      `json:"begin,omitempty"` // this stage is about to write in place
	Run     string      `json:"run,omitempty"`
	Paths   []string    `json:"paths,omitempty"` // what it will write, relative to the workspace
}

// journal is an append-only file of what the run in progress has finished. A line is the first 16 hexadecimal digits
// of the BLAKE3 hash of the rest, a space, and JSON without line breaks.
type journal struct {
	path string
	f    *os.File

	mu    sync.Mutex
	named bool // the journal's own name is durable
	err   error
}

// readJournal returns the records of a journal and the length of its good part. What follows the first record that
// is damaged or cut was never acknowledged, or cannot be told from it.
func readJournal(path string) (entries []entry, good int64, total int64, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, 0, nil
	}
	if err != nil {
		return nil, 0, 0, fmt.Errorf("read journal: %w", err)
	}
	entries, good = parseJournal(data)
	return entries, good, int64(len(data)), nil
}

// parseJournal returns the records of a journal's good part, and its length.
func parseJournal(data []byte) (entries []entry, good int64) {
	rest, ok := bytes.CutPrefix(data, []byte(journalHead))
	if !ok {
		return nil, 0
	}
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		var e entry
		if !goodLine(line) || json.Unmarshal(line[17:], &e) != nil {
			break
		}
		entries = append(entries, e)
		rest = after
	}
	return entries, int64(len(data) - len(rest))
}

// journalDamage is nil for a journal that is good to its end, or to an end that is torn: nobody was told of what that
// lacks, after a loss of power or while somebody writes it.
func journalDamage(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	if _, good := parseJournal(data); good < int64(len(withoutTorn(data, goodLine))) {
		return fmt.Errorf("%w after byte %d of %d", cache.ErrDamaged, good, len(data))
	}
	return nil
}

func lineSum(text []byte) string {
	sum := cache.Sum(text)
	return hex.EncodeToString(sum[:8])
}

func goodLine(line []byte) bool {
	return len(line) >= 18 && line[16] == ' ' && lineSum(line[17:]) == string(line[:16])
}

// withoutTorn is an append-only text without the end that a loss of power leaves: a line that has no end, or zeros that
// were never written over. A whole line whose end alone is wrong stays: that is damage.
func withoutTorn(data []byte, good func(line []byte) bool) []byte {
	written := bytes.TrimRight(data, "\x00")
	at := bytes.LastIndexByte(written, '\n') + 1
	if len(written) < len(data) || at < len(data) && !good(data[at:len(data)-1]) {
		return data[:at]
	}
	return data
}

// openJournal opens a journal for appending after its good part.
func openJournal(path string, good int64) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, f: f}
	if good == 0 {
		err = f.Truncate(0)
		if err == nil {
			_, err = f.WriteAt([]byte(journalHead), 0)
		}
		good = int64(len(journalHead))
	} else {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// append writes records. They survive a kill of the process from now on, a loss of power from the next sync.
func (j *journal) append(entries ...entry) error {
	var b bytes.Buffer
	for _, e := range entries {
		text := compact(e)
		fmt.Fprintf(&b, "%s %s\n", lineSum(text), text)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	if _, err := j.f.Write(b.Bytes()); err != nil {
		j.err = fmt.Errorf("write journal: %w", err)
	}
	return j.err
}

// sync makes durable what was written, and at first the journal's name and those of the folders above it.
// Appending goes on meanwhile.
func (j *journal) sync() error {
	j.mu.Lock()
	named, err := j.named, j.err
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err = j.f.Sync(); err == nil && !named {
		err = syncUp(filepath.Dir(j.path))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.err = fmt.Errorf("sync journal: %w", err)
		return j.err
	}
	j.named = true
	return nil
}

// syncAfter makes what was written until now durable if that much time passes before the function that it returns is called,
// which must be.
func (j *journal) syncAfter(delay time.Duration) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-over:
		case <-time.After(delay):
			j.sync() // the next record finds its error
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// close ends the writing. The file stays: only a written lock makes it superfluous.
func (j *journal) close() error { return j.f.Close() }
