package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// maxHeader is the limit of the reference implementation; a longer header is an attack or damage.
const maxHeader = 100 << 20

const metadataKey = "__metadata__"

// header is the decoded first part of a file.
type header struct {
	tensors  []Tensor // in the order of their bytes
	metadata map[string]string
	data     int64 // where the data section begins in the file
}

// parseHeader decodes and checks the header of a file that begins with front (at least the whole header)
// and is size bytes long.
func parseHeader(front []byte, size int64) (*header, error) {
	if size < 8 || len(front) < 8 {
		return nil, fmt.Errorf("it has %d bytes, too few for a safetensors file", size)
	}
	n := binary.LittleEndian.Uint64(front)
	if n > maxHeader {
		return nil, fmt.Errorf("its header claims %d bytes, more than the format allows (%d): not a safetensors file, or damaged", n, maxHeader)
	}
	if int64(n) > size-8 || int64(n) > int64(len(front)-8) {
		return nil, fmt.Errorf("its header claims %d bytes, but the file has only %d: it is truncated", n, size)
	}
	h := &header{data: 8 + int64(n)}
	if err := h.decode(front[8 : 8+n]); err != nil {
		return nil, fmt.Errorf("its header is not valid: %w", err)
	}
	return h, h.check(size - h.data)
}

// decode reads the JSON token by token: encoding/json alone would let the second of two equal names win.
func (h *header) decode(text []byte) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil {
		return err
	} else if t != json.Delim('{') {
		return errors.New("it does not begin with an object")
	}
	seen := map[string]bool{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		name := t.(string) // inside an object the decoder returns only strings as keys
		if seen[name] {
			return fmt.Errorf("the name %q stands twice", name)
		}
		seen[name] = true
		if name == metadataKey {
			if err := dec.Decode(&h.metadata); err != nil {
				return fmt.Errorf("%s: %w", metadataKey, err)
			}
			continue
		}
		tensor, err := decodeTensor(dec, name)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		h.tensors = append(h.tensors, tensor)
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows the object")
	}
	return nil
}

func decodeTensor(dec *json.Decoder, name string) (Tensor, error) {
	var entry struct {
		DType   DType   `json:"dtype"`
		Shape   *[]int  `json:"shape"`
		Offsets []int64 `json:"data_offsets"`
	}
	if err := dec.Decode(&entry); err != nil {
		return Tensor{}, err
	}
	if entry.Shape == nil || len(entry.Offsets) != 2 {
		return Tensor{}, errors.New("it lacks a shape or its two offsets")
	}
	return Tensor{Name: name, DType: entry.DType, Shape: *entry.Shape, begin: entry.Offsets[0], end: entry.Offsets[1]}, nil
}

// check sorts the tensors by place and refuses any that overlap, leave a hole, or do not fit.
func (h *header) check(size int64) error {
	for _, t := range h.tensors {
		if err := t.check(size); err != nil {
			return err
		}
	}
	slices.SortStableFunc(h.tensors, func(a, b Tensor) int {
		if a.begin != b.begin {
			return int(min(max(a.begin-b.begin, -1), 1))
		}
		return int(min(max(a.end-b.end, -1), 1))
	})
	end, before := int64(0), "the beginning"
	for _, t := range h.tensors {
		switch {
		case t.begin < end:
			return fmt.Errorf("tensors %q and %s overlap at byte %d of the data", t.Name, before, t.begin)
		case t.begin > end:
			return fmt.Errorf("between %s and tensor %q lie %d bytes that belong to no tensor", before, t.Name, t.begin-end)
		}
		end, before = t.end, fmt.Sprintf("%q", t.Name)
	}
	if end != size {
		return fmt.Errorf("its tensors take %d bytes, but the file has %d bytes of data", end, size)
	}
	return nil
}

// encodeHeader writes the length and the header of tensors whose offsets are set, in their order. Metadata
// comes first, its keys sorted; spaces fill the header up to a multiple of 8 bytes.
func encodeHeader(tensors []Tensor, metadata map[string]string) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 8))
	b.WriteByte('{')
	if len(metadata) > 0 {
		b.WriteString(`"` + metadataKey + `":{`)
		keys := make([]string, 0, len(metadata))
		for k := range metadata {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(',')
			}
			quote(b, k)
			b.WriteByte(':')
			quote(b, metadata[k])
		}
		b.WriteByte('}')
	}
	for i, t := range tensors {
		if i > 0 || len(metadata) > 0 {
			b.WriteByte(',')
		}
		quote(b, t.Name)
		fmt.Fprintf(b, `:{"dtype":"%s","shape":[`, t.DType)
		for j, d := range t.Shape {
			if j > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(b, d)
		}
		fmt.Fprintf(b, `],"data_offsets":[%d,%d]}`, t.begin, t.end)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len()-8 > maxHeader {
		return nil, fmt.Errorf("%d tensors need a header of %d bytes, more than the format allows (%d)", len(tensors), b.Len()-8, maxHeader)
	}
	binary.LittleEndian.PutUint64(b.Bytes(), uint64(b.Len()-8))
	return b.Bytes(), nil
}

// quote appends s as a JSON string without HTML escapes, which the reference implementation does not make.
func quote(b *bytes.Buffer, s string) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	enc.Encode(s)           // a string cannot fail, nor can a buffer
	b.Truncate(b.Len() - 1) // the encoder's newline
}
