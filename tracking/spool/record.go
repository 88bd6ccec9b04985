package spool

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"sort"
	"strconv"

	"lpipe/cache"
)

// fileHead is the first line of every spool; the digit is the version.
const fileHead = "lpipe spool 1\n"

// Record is one thing to tell. Run names the run inside the spool, "" the one at the top; of the other fields one is set.
type Record struct {
	Run     string            `json:"run,omitempty"`
	Time    int64             `json:"time"` // milliseconds since 1970, never less than that of the record before
	Head    *Head             `json:"spool,omitempty"`
	Start   *Start            `json:"start,omitempty"`
	Step    int64             `json:"step,omitempty"` // of Metrics
	Metrics map[string]Number `json:"metrics,omitempty"`
	Params  map[string]string `json:"params,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Input   *Input            `json:"input,omitempty"`
	File    *File             `json:"file,omitempty"`
	End     string            `json:"end,omitempty"` // FINISHED, FAILED, KILLED
}

// Head is the first record of a spool.
type Head struct {
	ID         string `json:"id"`
	URI        string `json:"uri,omitempty"` // of the server that it is for; "": the one that sends decides
	Experiment string `json:"experiment"`
	Run        string `json:"run_id,omitempty"` // the server's id of a run that is there, to be the one at the top; its experiment counts
	State      string `json:"state,omitempty"`  // what must be the same for a later command to go on with this run
}

// Start begins a run, or goes on with one.
type Start struct {
	Name   string `json:"name"`
	Parent string `json:"parent,omitempty"` // in the spool; of the run at the top: none
	Key    string `json:"key,omitempty"`    // of the stage
}

// Input is a data set that a run reads.
type Input struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Type   string `json:"type"`
	Source string `json:"source"`
	As     string `json:"as"` // "training"
}

// File is a file or folder that a run leaves at the server.
type File struct {
	Path  string `json:"path"`            // where it goes
	At    string `json:"at"`              // where it stood, relative to the workspace
	Model string `json:"model,omitempty"` // not "": a model of this type
	cache.Content
}

// Number is a float64 whose JSON may be "NaN", "Infinity", "-Infinity".
type Number float64

// MarshalJSON writes the shortest form that gives the same number.
func (n Number) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
	}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(text []byte) error {
	if len(text) > 1 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	v, err := strconv.ParseFloat(string(text), 64)
	*n = Number(v)
	return err
}

// line is a record as the file has it: the CRC-32C of the JSON in 8 hexadecimal digits, a space, the JSON, a line end.
func (r *Record) line(b []byte) ([]byte, error) {
	from := len(b)
	b = append(b, "00000000 "...)
	var err error
	if r.Metrics != nil {
		b = r.appendMetrics(b)
	} else {
		var text []byte
		if text, err = json.Marshal(r); err != nil {
			return b[:from], fmt.Errorf("encode a record: %w", err)
		}
		b = append(b, text...)
	}
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(b[from+9:], castagnoli()))
	hex.Encode(b[from:], sum)
	return append(b, '\n'), nil
}

// appendMetrics is json.Marshal of a record of metrics, without what that costs: a step of training may have hundreds.
func (r *Record) appendMetrics(b []byte) []byte {
	b = append(b, '{')
	if r.Run != "" {
		b = append(appendString(append(b, `"run":`...), r.Run), ',')
	}
	b = strconv.AppendInt(append(b, `"time":`...), r.Time, 10)
	if r.Step != 0 {
		b = strconv.AppendInt(append(b, `,"step":`...), r.Step, 10)
	}
	b = append(b, `,"metrics":{`...)
	names := make([]string, 0, len(r.Metrics))
	for name := range r.Metrics {
		names = append(names, name)
	}
	sort.Strings(names)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		text, _ := r.Metrics[name].MarshalJSON()
		b = append(b, text...)
	}
	return append(b, "}}"...)
}

// appendString is a string in JSON; those of letters that stand for themselves need no encoder.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			text, _ := json.Marshal(s) // a string always can be
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// parseLine reads a line without its end; false if it is damaged.
func parseLine(line []byte) (r Record, good bool) {
	if len(line) < 10 || line[8] != ' ' {
		return r, false
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[9:], castagnoli()) {
		return r, false
	}
	if r, good = parseMetrics(line[9:]); good {
		return r, true
	}
	r = Record{}
	return r, json.Unmarshal(line[9:], &r) == nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
