package runner

import (
	"encoding"
	"encoding/json"
	"reflect"

	"lpipe/cache"
)

// A pipelineReader reads what a pipelineWriter wrote.
type pipelineReader struct {
	forms
	reader
	text  string // all that is read: strings are parts of it
	kinds map[string]*Kind
	kind  *Kind // of the step that is being read
	err   error

	steps  []int            // as the pipelineWriter's
	wanted func(i int) bool // of the steps, which are read; nil: all
}

func (d *pipelineReader) string() string {
	n := int(d.uvarint())
	from := len(d.text) - len(d.b)
	if d.take(n) == nil {
		return ""
	}
	return d.text[from : from+n]
}

func (d *pipelineReader) value(v reflect.Value, f *form) {
	switch f.how {
	case asFields:
		for _, field := range f.fields {
			d.value(v.Field(field.index), field.form)
		}
	case asPointer:
		if d.byte() != 0 {
			v.Set(reflect.New(v.Type().Elem()))
			d.value(v.Elem(), f.elem)
		}
	case asList:
		d.list(v, f)
	case asMap:
		d.pairs(v, f)
	case asString:
		v.SetString(d.string())
	case asBool:
		v.SetBool(d.byte() != 0)
	case asFloat:
		v.SetFloat(d.float())
	case asInt:
		v.SetInt(d.varint())
	case asUint:
		v.SetUint(d.uvarint())
	case asKind:
		if d.kind = d.kinds[d.string()]; d.kind == nil {
			d.fail(cache.ErrDamaged)
		}
		v.Set(reflect.ValueOf(d.kind))
	case asStage:
		d.stage(v)
	case asOwn:
		d.own(v)
	default:
		d.fail(cache.ErrDamaged)
	}
}

func (d *pipelineReader) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b, d.bad = nil, true
}

// length is that of a list or map; false: it is nil.
func (d *pipelineReader) length() (int, bool) {
	n := d.uvarint()
	if n > uint64(len(d.b))+1 {
		d.fail(cache.ErrDamaged)
	}
	if n == 0 || d.bad {
		return 0, false
	}
	return int(n - 1), true
}

func (d *pipelineReader) list(v reflect.Value, f *form) {
	n, some := d.length()
	if !some {
		return
	}
	if v.Type() == reflect.TypeFor[[]*Step]() {
		if len(d.steps) != n {
			d.fail(cache.ErrDamaged)
			return
		}
		if d.wanted != nil {
			d.wantedSteps(v, f)
			return
		}
	}
	v.Set(reflect.MakeSlice(v.Type(), n, n))
	for i := range n {
		d.value(v.Index(i), f.elem)
	}
}

// wantedSteps reads some of the steps, and passes over the others.
func (d *pipelineReader) wantedSteps(v reflect.Value, f *form) {
	for i, size := range d.steps {
		if !d.wanted(i) {
			d.take(size)
			continue
		}
		step := reflect.New(v.Type().Elem()).Elem()
		d.value(step, f.elem)
		v.Set(reflect.Append(v, step))
	}
}

func (d *pipelineReader) pairs(v reflect.Value, f *form) {
	n, some := d.length()
	if !some {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), n))
	for range n {
		key := reflect.ValueOf(d.string()).Convert(v.Type().Key())
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(one, f.elem)
		v.SetMapIndex(key, one)
	}
}

// own has a value read itself.
func (d *pipelineReader) own(v reflect.Value) {
	text := d.string()
	if d.bad {
		return
	}
	var err error
	switch own := v.Addr().Interface().(type) {
	case json.Unmarshaler:
		err = own.UnmarshalJSON([]byte(text))
	case encoding.TextUnmarshaler:
		var plain string
		if err = json.Unmarshal([]byte(text), &plain); err == nil {
			err = own.UnmarshalText([]byte(plain))
		}
	default:
		err = json.Unmarshal([]byte(text), own)
	}
	if err != nil {
		d.fail(err)
	}
}

// stage makes the stage of the step that is being read: its kind stands before it.
func (d *pipelineReader) stage(v reflect.Value) {
	if d.kind == nil {
		d.fail(cache.ErrDamaged)
		return
	}
	stage := d.kind.New()
	fields := settingsStruct(stage)
	f := d.settings(fields.Type())
	for _, field := range f.fields {
		fields.Field(field.index).SetZero()
	}
	d.value(fields, f)
	if checker, ok := stage.(interface{ Check() error }); ok && !d.bad {
		if err := checker.Check(); err != nil { // it may fill in what it derives
			d.fail(err)
		}
	}
	v.Set(reflect.ValueOf(stage))
}
