package dataset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	flatbuffers "github.com/google/flatbuffers/go"
)

// arrowFolder is a data set as datasets.load_from_disk reads it: Arrow's IPC stream (arrow.apache.org/docs/format/Columnar.html,
// Message.fbs and Schema.fbs, metadata version 5) and two files of JSON.
type arrowFolder struct {
	dir    string
	out    *outFile
	ids    arrowList
	labels arrowList
	texts  [3]arrowText // id, source, answer
	rows   int64        // of the batch in hand
	total  int64
}

// arrowList and arrowText are a column of the batch in hand: offsets, and what lies between them.
type arrowList struct {
	offsets []int32
	items   []int32
}

type arrowText struct {
	offsets []int32
	bytes   []byte
}

var arrowTextNames = [...]string{"id", "source", "answer"}

const (
	arrowFile      = "data-00000-of-00001.arrow"
	arrowBatchRows = 1000 // as datasets writes them

	// Numbers of Schema.fbs and Message.fbs.
	arrowV5            = 4
	arrowHeaderSchema  = 1
	arrowHeaderBatch   = 3
	arrowTypeInt       = 2
	arrowTypeText      = 5
	arrowTypeList      = 12
	arrowFieldName     = 0
	arrowFieldNullable = 1
	arrowFieldTypeKind = 2
	arrowFieldType     = 3
	arrowFieldChildren = 5
)

func createArrowFolder(dir string) (*arrowFolder, error) {
	out, err := createOut(filepath.Join(dir, arrowFile))
	if err != nil {
		return nil, err
	}
	a := &arrowFolder{dir: dir, out: out}
	a.begin()
	a.message(arrowSchema(), nil)
	return a, nil
}

// begin empties the batch.
func (a *arrowFolder) begin() {
	a.rows = 0
	for _, l := range []*arrowList{&a.ids, &a.labels} {
		l.offsets, l.items = append(l.offsets[:0], 0), l.items[:0]
	}
	for i := range a.texts {
		a.texts[i].offsets, a.texts[i].bytes = append(a.texts[i].offsets[:0], 0), a.texts[i].bytes[:0]
	}
}

// Append implements Exporter.
func (a *arrowFolder) Append(s Sequence) error {
	a.ids.add(s.IDs)
	a.labels.add(labels(&s))
	for i, text := range []string{s.ID, s.Source, s.Answer} {
		a.texts[i].bytes = append(a.texts[i].bytes, text...)
		a.texts[i].offsets = append(a.texts[i].offsets, int32(len(a.texts[i].bytes)))
	}
	a.total++
	if a.rows++; a.rows == arrowBatchRows {
		a.flush()
	}
	return a.out.err
}

func (l *arrowList) add(items []int32) {
	l.items = append(l.items, items...)
	l.offsets = append(l.offsets, int32(len(l.items)))
}

// Close implements Exporter.
func (a *arrowFolder) Close() error {
	if a.rows > 0 {
		a.flush()
	}
	a.out.write([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}) // end of the stream
	if err := a.out.close(); err != nil {
		return err
	}
	feature := func(kind string) map[string]any { return map[string]any{"dtype": kind, "_type": "Value"} }
	list := map[string]any{"feature": feature("int32"), "_type": "List"}
	features := map[string]any{"input_ids": list, "labels": list}
	for _, name := range arrowTextNames {
		features[name] = feature("string")
	}
	info := map[string]any{"citation": "", "description": "Token sequences of lpipe.", "features": features, "homepage": "", "license": ""}
	state := map[string]any{"_data_files": []any{map[string]any{"filename": arrowFile}}, "_fingerprint": "0000000000000000", "_format_columns": nil,
		"_format_kwargs": map[string]any{}, "_format_type": nil, "_output_all_columns": false, "_split": nil}
	return errors.Join(writeJSON(filepath.Join(a.dir, "dataset_info.json"), info), writeJSON(filepath.Join(a.dir, "state.json"), state))
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(raw, '\n'), 0o666); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// message writes one: a mark, the length of its metadata, that, filled up to 8 bytes, and its body, which is already.
func (a *arrowFolder) message(metadata, body []byte) {
	for len(metadata)%8 != 0 {
		metadata = append(metadata, 0)
	}
	head := []byte{0xff, 0xff, 0xff, 0xff}
	a.out.write(binary.LittleEndian.AppendUint32(head, uint32(len(metadata))))
	a.out.write(metadata)
	a.out.write(body)
}

// flush writes the batch in hand.
func (a *arrowFolder) flush() {
	var body []byte
	var buffers, nodes [][2]int64 // offset and length; rows and nulls
	buffer := func(b []byte) {
		buffers = append(buffers, [2]int64{int64(len(body)), int64(len(b))})
		body = append(body, b...)
		for len(body)%8 != 0 {
			body = append(body, 0)
		}
	}
	for _, l := range []*arrowList{&a.ids, &a.labels} {
		nodes = append(nodes, [2]int64{a.rows, 0}, [2]int64{int64(len(l.items)), 0})
		buffer(nil) // no nulls
		buffer(int32Bytes(l.offsets))
		buffer(nil)
		buffer(int32Bytes(l.items))
	}
	for i := range a.texts {
		nodes = append(nodes, [2]int64{a.rows, 0})
		buffer(nil)
		buffer(int32Bytes(a.texts[i].offsets))
		buffer(a.texts[i].bytes)
	}
	a.message(arrowBatch(a.rows, nodes, buffers, int64(len(body))), body)
	a.begin()
}

func int32Bytes(v []int32) []byte {
	b := make([]byte, 0, 4*len(v))
	for _, one := range v {
		b = binary.LittleEndian.AppendUint32(b, uint32(one))
	}
	return b
}

// arrowBatch is the metadata of a RecordBatch.
func arrowBatch(rows int64, nodes, buffers [][2]int64, body int64) []byte {
	b := flatbuffers.NewBuilder(1024)
	structs := func(list [][2]int64) flatbuffers.UOffsetT {
		b.StartVector(16, len(list), 8)
		for i := len(list) - 1; i >= 0; i-- {
			b.Prep(8, 16)
			b.PrependInt64(list[i][1])
			b.PrependInt64(list[i][0])
		}
		return b.EndVector(len(list))
	}
	bufferList := structs(buffers)
	nodeList := structs(nodes)
	b.StartObject(4)
	b.PrependInt64Slot(0, rows, 0)
	b.PrependUOffsetTSlot(1, nodeList, 0)
	b.PrependUOffsetTSlot(2, bufferList, 0)
	return arrowMessage(b, arrowHeaderBatch, b.EndObject(), body)
}

// arrowSchema is the metadata of the columns: two lists of int32, then texts.
func arrowSchema() []byte {
	b := flatbuffers.NewBuilder(1024)
	var fields []flatbuffers.UOffsetT
	for _, name := range []string{"input_ids", "labels"} {
		b.StartObject(2) // Int
		b.PrependInt32Slot(0, 32, 0)
		b.PrependBoolSlot(1, true, false)
		item := arrowField(b, "item", arrowTypeInt, b.EndObject(), nil)
		b.StartObject(0) // List
		fields = append(fields, arrowField(b, name, arrowTypeList, b.EndObject(), []flatbuffers.UOffsetT{item}))
	}
	for _, name := range arrowTextNames {
		b.StartObject(0) // Utf8
		fields = append(fields, arrowField(b, name, arrowTypeText, b.EndObject(), nil))
	}
	list := offsets(b, fields)
	b.StartObject(4) // Schema, little-endian by default
	b.PrependUOffsetTSlot(1, list, 0)
	return arrowMessage(b, arrowHeaderSchema, b.EndObject(), 0)
}

func arrowField(b *flatbuffers.Builder, name string, kind byte, typ flatbuffers.UOffsetT, children []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	text, below := b.CreateString(name), offsets(b, children)
	b.StartObject(7)
	b.PrependUOffsetTSlot(arrowFieldName, text, 0)
	b.PrependBoolSlot(arrowFieldNullable, true, false)
	b.PrependByteSlot(arrowFieldTypeKind, kind, 0)
	b.PrependUOffsetTSlot(arrowFieldType, typ, 0)
	b.PrependUOffsetTSlot(arrowFieldChildren, below, 0)
	return b.EndObject()
}

func offsets(b *flatbuffers.Builder, list []flatbuffers.UOffsetT) flatbuffers.UOffsetT {
	b.StartVector(4, len(list), 4)
	for i := len(list) - 1; i >= 0; i-- {
		b.PrependUOffsetT(list[i])
	}
	return b.EndVector(len(list))
}

// arrowMessage wraps a header.
func arrowMessage(b *flatbuffers.Builder, kind byte, header flatbuffers.UOffsetT, body int64) []byte {
	b.StartObject(5)
	b.PrependInt16Slot(0, arrowV5, 0)
	b.PrependByteSlot(1, kind, 0)
	b.PrependUOffsetTSlot(2, header, 0)
	b.PrependInt64Slot(3, body, 0)
	b.Finish(b.EndObject())
	return b.FinishedBytes()
}
