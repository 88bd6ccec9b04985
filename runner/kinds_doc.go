package runner

import (
	"reflect"
)

// KindDoc describes a kind as `lpipe kinds` prints it; it is made from the code, so it cannot lag behind.
type KindDoc struct {
	Name     string       `json:"name"`
	Doc      string       `json:"doc"`
	Version  int          `json:"version"`
	InPlace  bool         `json:"in_place"` // takes inputs and outputs of any name
	In       []Port       `json:"in"`
	Out      []Port       `json:"out"`
	Settings []SettingDoc `json:"settings"`
}

// SettingDoc describes one setting.
type SettingDoc struct {
	Name     string       `json:"name"`
	Type     string       `json:"type"`    // "whole number", "list of strings", "object"
	Default  string       `json:"default"` // canonical JSON; "" if it must be given
	Required bool         `json:"required"`
	Unit     string       `json:"unit,omitempty"`
	Doc      string       `json:"doc"`
	InKey    bool         `json:"in_key"`
	Fields   []SettingDoc `json:"fields,omitempty"` // of objects
}

// Describe documents the kind: ports as declared, settings from the struct's tags hcl, doc, unit, type and key.
func (k *Kind) Describe() KindDoc {
	doc := KindDoc{Name: k.Name, Doc: k.Doc, Version: k.Version, InPlace: k.InPlace, In: k.In, Out: k.Out}
	doc.Settings = describeFields(settingsStruct(k.New()))
	return doc
}

func describeFields(v reflect.Value) []SettingDoc {
	var docs []SettingDoc
	for _, f := range settingFields(v.Type()) {
		tag := v.Type().Field(f.index).Tag
		doc := SettingDoc{Name: f.name, Type: tag.Get("type"), Required: !f.optional, Unit: tag.Get("unit"),
			Doc: tag.Get("doc"), InKey: f.inKey}
		if doc.Type == "" {
			doc.Type = settingType(v.Type().Field(f.index).Type)
		}
		if f.optional {
			doc.Default = string(appendSetting(nil, v.Field(f.index)))
		}
		if inner := objectOf(v.Field(f.index)); inner.IsValid() {
			doc.Fields = describeFields(inner)
		}
		docs = append(docs, doc)
	}
	return docs
}

// objectOf is the struct behind a setting that is an object, with its defaults where it has any.
func objectOf(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v = reflect.New(v.Type().Elem())
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct {
		v = reflect.New(v.Type().Elem()).Elem()
	}
	if v.Kind() != reflect.Struct || ownForm(v.Type()) {
		return reflect.Value{}
	}
	return v
}
