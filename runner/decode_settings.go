package runner

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"
)

// A kind's settings are the fields of its stage struct that carry an `hcl:"name"` or `hcl:"name,optional"` tag.

// settingField is such a field.
type settingField struct {
	name     string
	index    int
	optional bool
	inKey    bool
}

// settingFields lists the settings of a struct type in the order of its fields.
func settingFields(t reflect.Type) []settingField {
	var fields []settingField
	for i := range t.NumField() {
		field := t.Field(i)
		tag, ok := field.Tag.Lookup("hcl")
		if !ok || !field.IsExported() {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		fields = append(fields, settingField{name: name, index: i, optional: option == "optional", inKey: field.Tag.Get("key") != "-"})
	}
	return fields
}

// settingsStruct is the struct behind a stage.
func settingsStruct(s any) reflect.Value {
	v := reflect.ValueOf(s)
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		panic("runner: a stage must be a pointer to a struct")
	}
	return v
}

// KeySettings renders every setting of a stage that counts in the key, defaults too, sorted by name. Writing a
// default into the file therefore changes nothing.
func KeySettings(s Stage) []Setting {
	v := settingsStruct(s)
	var settings []Setting
	for _, f := range settingFields(v.Type()) {
		if f.inKey {
			settings = append(settings, Setting{Name: f.name, Value: string(appendSetting(nil, v.Field(f.index)))})
		}
	}
	sort.Slice(settings, func(i, j int) bool { return settings[i].Name < settings[j].Name })
	return settings
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// ownForm reports whether a type reads its settings itself, in several forms perhaps.
func ownForm(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(jsonUnmarshalerType) || p.Implements(textUnmarshalerType) || t == durationType
}

// settingType names a type as messages and documentation do.
func settingType(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case ownForm(t):
		return strings.ToLower(t.Name())
	}
	switch t.Kind() {
	case reflect.Pointer:
		return settingType(t.Elem())
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		return "list of " + settingType(t.Elem()) + "s"
	case reflect.Map:
		return "map of " + settingType(t.Elem()) + "s"
	case reflect.Struct:
		return "object"
	case reflect.Interface:
		return "any value"
	}
	return "whole number"
}

// appendSetting renders a setting's value as canonical JSON.
func appendSetting(b []byte, v reflect.Value) []byte {
	if v.Type() == durationType {
		return appendJSONString(b, time.Duration(v.Int()).String())
	}
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return append(b, "null"...)
		}
	}
	if own, ok := appendMarshaled(b, v); ok {
		return own
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return appendSetting(b, v.Elem())
	case reflect.String:
		return appendJSONString(b, v.String())
	case reflect.Bool:
		return fmt.Appendf(b, "%t", v.Bool())
	case reflect.Float32, reflect.Float64:
		return append(b, formatNumber(v.Float())...)
	case reflect.Slice, reflect.Array:
		return appendSettingList(b, v)
	case reflect.Map:
		return appendSettingMap(b, v)
	case reflect.Struct:
		return appendSettingStruct(b, v)
	}
	if v.CanUint() {
		return append(b, formatNumber(float64(v.Uint()))...)
	}
	return append(b, formatNumber(float64(v.Int()))...)
}

// appendMarshaled asks a value that renders itself; its JSON is brought into canonical form.
func appendMarshaled(b []byte, v reflect.Value) ([]byte, bool) {
	if v.CanAddr() && v.Kind() != reflect.Pointer {
		v = v.Addr()
	}
	switch own := v.Interface().(type) {
	case json.Marshaler:
		text, err := own.MarshalJSON()
		if err != nil {
			panic("runner: a setting's MarshalJSON fails: " + err.Error())
		}
		return appendCanonicalText(b, text), true
	case encoding.TextMarshaler:
		text, err := own.MarshalText()
		if err != nil {
			panic("runner: a setting's MarshalText fails: " + err.Error())
		}
		return appendJSONString(b, string(text)), true
	}
	return b, false
}

func appendCanonicalText(b, text []byte) []byte {
	var v any
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&v); err != nil {
		panic("runner: a setting's MarshalJSON writes no JSON: " + err.Error())
	}
	return appendSetting(b, reflect.ValueOf(&v).Elem())
}

func appendSettingList(b []byte, v reflect.Value) []byte {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSetting(b, v.Index(i))
	}
	return append(b, ']')
}

func appendSettingMap(b []byte, v reflect.Value) []byte {
	keys := v.MapKeys()
	sort.Slice(keys, func(i, j int) bool { return keys[i].String() < keys[j].String() })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendJSONString(b, key.String()), ':')
		b = appendSetting(b, v.MapIndex(key))
	}
	return append(b, '}')
}

// appendSettingStruct renders an object by its hcl tags, or, of a type that reads itself, by its exported fields: as
// their json tags or, in small letters, they themselves are called.
func appendSettingStruct(b []byte, v reflect.Value) []byte {
	fields := settingFields(v.Type())
	if len(fields) == 0 {
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if name == "" || name == "-" {
					name = strings.ToLower(field.Name)
				}
				fields = append(fields, settingField{name: name, index: i, inKey: true})
			}
		}
	}
	sort.Slice(fields, func(i, j int) bool { return fields[i].name < fields[j].name })
	b = append(b, '{')
	first := true
	for _, f := range fields {
		if !f.inKey {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendJSONString(b, f.name), ':')
		b = appendSetting(b, v.Field(f.index))
	}
	return append(b, '}')
}
