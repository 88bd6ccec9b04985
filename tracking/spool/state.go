package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"lpipe/cache"
)

// Sent is how far the sending of a spool came: the file sent.json, replaced after each answer of the server. Without it
// all is sent again, which changes nothing there.
type Sent struct {
	Schema     int                 `json:"schema"` // 1
	At         int64               `json:"at"`     // bytes of the spool that need not be sent again
	Server     string              `json:"server,omitempty"`
	Experiment string              `json:"experiment,omitempty"` // the server's id
	Runs       map[string]*SentRun `json:"runs,omitempty"`       // by their names in the spool
	Refused    int                 `json:"refused,omitempty"`    // values that the server did not take
	Done       bool                `json:"done,omitempty"`       // the run at the top ended, and all is sent
	Error      string              `json:"error,omitempty"`      // why sending stopped last
}

// SentRun is a run that is known to the server.
type SentRun struct {
	ID        string            `json:"id"`
	Artifacts string            `json:"artifacts"`
	Models    map[string]string `json:"models,omitempty"` // model ids, by path
}

const sentSchema = 1

// ReadSent reads a spool's state; one that is missing or damaged is that of a spool of which nothing was sent.
func ReadSent(dir string) *Sent {
	s := &Sent{}
	data, err := os.ReadFile(filepath.Join(dir, sentFile))
	if err != nil || json.Unmarshal(data, s) != nil || s.Schema != sentSchema {
		s = &Sent{}
	}
	s.Schema = sentSchema
	if s.Runs == nil {
		s.Runs = map[string]*SentRun{}
	}
	return s
}

// write replaces the file by rename. Its loss costs requests, so it is not forced to the disk.
func (s *Sent) write(dir string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", sentFile, err)
	}
	temp := filepath.Join(dir, sentFile+".new")
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, filepath.Join(dir, sentFile))
}

// Info is what there is to say of a spool.
type Info struct {
	Dir   string
	Head  Head
	Sent  *Sent
	Size  int64  // bytes of the spool; 0 where all is sent and the file is gone
	Left  int64  // bytes not sent
	Begun int64  // milliseconds since 1970
	End   string // how the run at the top ended; "": it goes on, or was killed
}

// Read looks at a spool's folder. A folder that has no spool, because all is sent, has a state still.
func Read(dir string) (Info, error) {
	info := Info{Dir: dir, Sent: ReadSent(dir), Head: Head{ID: filepath.Base(dir)}}
	f, err := os.Open(filepath.Join(dir, dataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return info, err
	}
	info.Size = stat.Size()
	first, err := newReader(f, 0).next()
	if err != nil || first.Head == nil {
		return info, fmt.Errorf("read the spool %s: %w", dir, errors.Join(err, errNoHead))
	}
	info.Head, info.Begun = *first.Head, first.Time
	info.Left = max(0, info.Size-info.Sent.At)
	info.End, err = lastEnd(f, info.Size)
	return info, err
}

// lastEnd is how the run at the top ended, if the last record says so.
func lastEnd(f *os.File, size int64) (string, error) {
	tail := make([]byte, min(size, 4<<10))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return "", fmt.Errorf("read the end of a spool: %w", err)
	}
	lines := bytes.Split(tail, []byte("\n"))
	if len(lines) < 2 {
		return "", nil
	}
	record, good := parseLine(lines[len(lines)-2])
	if !good || record.Run != "" || len(lines[len(lines)-1]) > 0 {
		return "", nil
	}
	return record.End, nil
}

// Unsent lists the contents of files that the spools below a folder have not sent yet. A spool that cannot be read has none
// that could be sent.
func Unsent(root string) ([]cache.Content, error) {
	dirs, err := List(root)
	if err != nil {
		return nil, err
	}
	var all []cache.Content
	for _, dir := range dirs {
		info, err := Read(dir)
		if err != nil || info.Left == 0 {
			continue
		}
		f, err := os.Open(filepath.Join(dir, dataFile))
		if err != nil {
			return nil, err
		}
		for r := newReader(f, info.Sent.At); ; {
			record, err := r.next()
			if errors.Is(err, cache.ErrDamaged) && r.at > 0 {
				continue
			}
			if err != nil {
				break
			}
			if record.File != nil {
				all = append(all, record.File.Content)
			}
		}
		f.Close()
	}
	return all, nil
}

var errNoHead = errors.New("its first record does not say what it is")

// Drop gives a spool up, with all that was not sent.
func Drop(dir string) error { return os.RemoveAll(dir) }
