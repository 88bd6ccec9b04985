package runner

import (
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"unsafe"

	"github.com/hashicorp/hcl/v2"

	"lpipe/cache"
)

// decodedMagic begins .lpipe/decoded; its last byte is the version.
const decodedMagic = "lpdecod\x02"

// ReadDecoded returns what Decode would: the pipeline that it made under the same circumstances when last asked, if
// none of the files and folders that it read differs since. False means only that Decode must be asked.
func ReadDecoded(c Circumstances) (*Pipeline, bool) { return readDecodedSteps(c, nil) }

// readDecodedSteps is ReadDecoded for a pipeline with those steps only of whose places wanted is true; nil wants all.
func readDecodedSteps(c Circumstances, wanted func(i int) bool) (*Pipeline, bool) {
	on, answer, holds := readBasis("decoded", decodedMagic, c)
	if !holds {
		return nil, false
	}
	p, err := decodePipeline(answer, c.Decode.Kinds, wanted)
	if err != nil {
		return nil, false
	}
	p.reads = decodeReads{from: c.Decode.Dir, marks: on.marks, folder: on.folder, names: on.names}
	return p, true
}

// errSecret is a pipeline in which values stand that must not be written down.
var errSecret = errors.New("it holds sensitive values")

// KeepDecoded writes a pipeline, decoded without any diagnostic, down for ReadDecoded. An error says why it could
// not, which is no reason to worry: it will be decoded again.
func (p *Pipeline) KeepDecoded(c Circumstances) error {
	if p.secret() {
		return errSecret
	}
	answer, err := encodePipeline(p)
	if err != nil {
		return err
	}
	// What does not read back as it was is not kept: a kind's settings may have forms of their own.
	read, err := decodePipeline(answer, c.Decode.Kinds, nil)
	if err != nil {
		return err
	}
	shown := *p
	shown.HCL, shown.reads = nil, decodeReads{}
	if !reflect.DeepEqual(read, &shown) {
		return errors.New("some of its settings cannot be kept")
	}
	return writeBasis("decoded", decodedMagic, c, p, p.reads.again(p.Dir), answer)
}

// secret tells whether values of sensitive variables or of the environment are in the pipeline.
func (p *Pipeline) secret() bool {
	hidden := func(settings []Setting) bool {
		for _, s := range settings {
			if s.Sensitive {
				return true
			}
		}
		return false
	}
	for _, s := range p.Sources {
		if hidden(s.Settings) {
			return true
		}
	}
	for _, s := range p.Steps {
		if hidden(s.Settings) || len(s.EnvHidden) > 0 || len(s.SecretEnv) > 0 {
			return true
		}
	}
	return false
}

// Parsed are the files of HCL, parsed now where the pipeline was not: what FormatDiagnostics shows lines of.
func (p *Pipeline) Parsed() map[string]*hcl.File {
	if p.HCL != nil {
		return p.HCL
	}
	p.HCL = map[string]*hcl.File{}
	for _, name := range p.Files {
		at := name
		if !filepath.IsAbs(name) {
			at = filepath.Join(p.reads.from, name)
		}
		if src, err := readSmall(at, maxPipelineFile); err == nil {
			p.HCL[name], _ = parseHCL(src, name)
		}
	}
	return p.HCL
}

func encodePipeline(p *Pipeline) ([]byte, error) {
	e := pipelineWriter{forms: forms{}}
	e.value(reflect.ValueOf(p).Elem(), e.of(reflect.TypeFor[Pipeline]()))
	return append(appendPlaces(nil, e.steps), e.b...), e.err
}

// decodePipeline reads what encodePipeline wrote, and of the steps those of whose places wanted is true; nil wants all. Strings
// are parts of data, which nobody changes after this.
func decodePipeline(data []byte, kinds []*Kind, wanted func(i int) bool) (*Pipeline, error) {
	d := pipelineReader{forms: forms{}, reader: reader{b: data}, text: unsafe.String(unsafe.SliceData(data), len(data)), kinds: map[string]*Kind{}, wanted: wanted}
	d.steps = d.places(len(data))
	for _, kind := range kinds {
		d.kinds[kind.Name] = kind
	}
	p := &Pipeline{}
	d.value(reflect.ValueOf(p).Elem(), d.of(reflect.TypeFor[Pipeline]()))
	if d.err == nil && (d.bad || len(d.b) > 0) {
		d.err = cache.ErrDamaged
	}
	return p, d.err
}

// form says how values of a type are kept.
type form struct {
	how    int
	fields []formField // of a struct
	elem   *form       // of a list, map or pointer
}

type formField struct {
	index int
	*form
}

const (
	asFields = iota
	asPointer
	asList
	asMap // with strings for keys
	asString
	asBool
	asFloat
	asInt
	asUint
	asKind  // a *Kind: its name
	asStage // its settings
	asOwn   // as JSON or text that the type itself writes and reads
	asNothing
)

// forms are those of all types that were met, and of stages' structs. A struct is kept by its exported fields, a
// stage by its settings.
type forms map[reflect.Type]*form

func (t forms) of(typ reflect.Type) *form {
	f, known := t[typ]
	if !known {
		f = &form{}
		t[typ] = f // first: a type may hold itself
		f.how = t.how(typ)
		switch f.how {
		case asFields:
			f.fields = t.fields(typ)
		case asPointer, asList, asMap:
			f.elem = t.of(typ.Elem())
		}
	}
	return f
}

func (t forms) how(typ reflect.Type) int {
	switch p := reflect.PointerTo(typ); {
	case typ == reflect.TypeFor[*Kind]():
		return asKind
	case typ == reflect.TypeFor[Stage]():
		return asStage
	case typ.Kind() == reflect.Interface,
		p.Implements(jsonUnmarshalerType) && p.Implements(reflect.TypeFor[json.Marshaler]()),
		p.Implements(textUnmarshalerType) && p.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return asOwn
	}
	switch kind := typ.Kind(); kind {
	case reflect.Struct:
		return asFields
	case reflect.Pointer:
		return asPointer
	case reflect.Slice:
		return asList
	case reflect.String:
		return asString
	case reflect.Bool:
		return asBool
	case reflect.Float32, reflect.Float64:
		return asFloat
	default:
		switch {
		case kind == reflect.Map && typ.Key().Kind() == reflect.String:
			return asMap
		case kind >= reflect.Int && kind <= reflect.Int64:
			return asInt
		case kind >= reflect.Uint && kind <= reflect.Uintptr:
			return asUint
		}
		return asNothing
	}
}

func (t forms) fields(typ reflect.Type) []formField {
	var fields []formField
	for i := range typ.NumField() {
		if f := typ.Field(i); f.IsExported() && f.Type != reflect.TypeFor[map[string]*hcl.File]() {
			fields = append(fields, formField{i, t.of(f.Type)})
		}
	}
	return fields
}

// settings is the form of a stage's struct.
func (t forms) settings(typ reflect.Type) *form {
	f, known := t[typ]
	if !known {
		f = &form{}
		t[typ] = f
		for _, setting := range settingFields(typ) {
			f.fields = append(f.fields, formField{setting.index, t.of(typ.Field(setting.index).Type)})
		}
	}
	return f
}

// A pipelineWriter writes values one behind the other, without names: the types say what follows. Numbers are
// LEB128, signed ones in zigzag, floats 64 bits; lengths are one more than they are, 0 for nil.
type pipelineWriter struct {
	forms
	b     []byte
	steps []int // how many bytes each of the pipeline's steps takes
	err   error
}

func (e *pipelineWriter) value(v reflect.Value, f *form) {
	switch f.how {
	case asFields:
		for _, field := range f.fields {
			e.value(v.Field(field.index), field.form)
		}
	case asPointer:
		if e.b = append(e.b, bit(!v.IsNil())); !v.IsNil() {
			e.value(v.Elem(), f.elem)
		}
	case asList:
		if e.length(v) {
			for i := range v.Len() {
				from := len(e.b)
				if e.value(v.Index(i), f.elem); v.Type() == reflect.TypeFor[[]*Step]() {
					e.steps = append(e.steps, len(e.b)-from)
				}
			}
		}
	case asMap:
		if e.length(v) {
			keys := v.MapKeys()
			slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
			for _, key := range keys {
				e.b = appendText(e.b, key.String())
				e.value(v.MapIndex(key), f.elem)
			}
		}
	case asString:
		e.b = appendText(e.b, v.String())
	case asBool:
		e.b = append(e.b, bit(v.Bool()))
	case asFloat:
		e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(v.Float()))
	case asInt:
		e.b = binary.AppendVarint(e.b, v.Int())
	case asUint:
		e.b = binary.AppendUvarint(e.b, v.Uint())
	case asKind:
		e.b = appendText(e.b, v.Interface().(*Kind).Name)
	case asStage:
		s := settingsStruct(v.Interface())
		e.value(s, e.settings(s.Type()))
	case asOwn:
		e.b = appendText(e.b, string(appendSetting(nil, v)))
	default:
		e.err = fmt.Errorf("a value of type %v cannot be kept", v.Type())
	}
}

// length writes that of a list or map; false: it is nil.
func (e *pipelineWriter) length(v reflect.Value) bool {
	n := 0
	if !v.IsNil() {
		n = v.Len() + 1
	}
	e.b = binary.AppendUvarint(e.b, uint64(n))
	return n > 0
}

func bit(on bool) byte {
	if on {
		return 1
	}
	return 0
}
