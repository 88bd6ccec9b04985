// Package runnertest holds the rules that every stage kind must keep, for the tests of packages with kinds.
package runnertest

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"lpipe/runner"
)

// NudgeSettings changes every setting of a kind, nested ones too, one at a time, and expects the settings that the
// key counts to change: a setting that does not reach the key is a wrong hit waiting to happen. Settings tagged
// `key:"-"` must change nothing. Every setting must be documented.
func NudgeSettings(t testing.TB, k *runner.Kind) {
	t.Helper()
	n := nudger{t: t, kind: k}
	if first, second := render(k.New()), render(k.New()); first != second {
		t.Errorf("kind %s: New gives different defaults each time", k.Name)
	}
	count := n.fields(reflect.TypeOf(k.New()).Elem(), k.Name, true, func(s runner.Stage) reflect.Value {
		return reflect.ValueOf(s).Elem()
	})
	if count != len(k.Describe().Settings) {
		t.Errorf("kind %s: %d settings nudged, %d documented", k.Name, count, len(k.Describe().Settings))
	}
}

// render is what the key sees of the settings.
func render(s runner.Stage) string {
	var b strings.Builder
	for _, setting := range runner.KeySettings(s) {
		b.WriteString(setting.Name + "=" + setting.Value + "\n")
	}
	return b.String()
}

type nudger struct {
	t    testing.TB
	kind *runner.Kind
}

// fields nudges every setting of a struct; at finds the struct in a fresh stage.
func (n nudger) fields(t reflect.Type, path string, inKey bool, at func(runner.Stage) reflect.Value) int {
	n.t.Helper()
	count := 0
	for i := range t.NumField() {
		field := t.Field(i)
		tag, ok := field.Tag.Lookup("hcl")
		if !ok {
			if field.IsExported() {
				n.t.Errorf("%s: field %s has no hcl tag: it can neither be set nor reach the key", path, field.Name)
			}
			continue
		}
		count++
		name, _, _ := strings.Cut(tag, ",")
		if field.Tag.Get("doc") == "" {
			n.t.Errorf("%s.%s has no doc tag", path, name)
		}
		n.setting(field.Type, path+"."+name, inKey && field.Tag.Get("key") != "-", func(s runner.Stage) reflect.Value {
			return at(s).Field(i)
		})
	}
	return count
}

// setting nudges one setting, or each of an object's.
func (n nudger) setting(t reflect.Type, path string, inKey bool, at func(runner.Stage) reflect.Value) {
	n.t.Helper()
	switch {
	case ownForm(t):
		n.own(t, path, inKey, at)
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		n.fields(t.Elem(), path, inKey, func(s runner.Stage) reflect.Value {
			v := at(s)
			if v.IsNil() {
				v.Set(reflect.New(t.Elem()))
			}
			return v.Elem()
		})
		empty, left := n.kind.New(), n.kind.New() // an object without settings is not one left out
		at(empty).Set(reflect.New(t.Elem()))
		at(left).SetZero()
		if inKey && render(empty) == render(left) {
			n.t.Errorf("%s: the key's settings are the same whether it is given or left out", path)
		}
	case t.Kind() == reflect.Struct:
		n.fields(t, path, inKey, at)
	default:
		n.expect(path, inKey, at, func(v reflect.Value) { nudge(n.t, path, v) })
	}
}

// expect applies a change to one setting of a fresh stage and looks at what the key sees.
func (n nudger) expect(path string, inKey bool, at func(runner.Stage) reflect.Value, change func(reflect.Value)) {
	n.t.Helper()
	before, after := n.kind.New(), n.kind.New()
	at(before) // makes the object around the setting, if it was left out
	change(at(after))
	switch same := render(before) == render(after); {
	case inKey && same:
		n.t.Errorf("%s: changing it does not change the key's settings; a result of other settings would be taken", path)
	case !inKey && !same:
		n.t.Errorf("%s: is tagged key:\"-\", but changes the key's settings", path)
	}
}

// nudge changes a value of a plain type.
func nudge(t testing.TB, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.Float32, reflect.Float64:
		v.SetFloat(v.Float() + 0.5)
	case reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		if !v.IsNil() {
			fresh.Elem().Set(v.Elem())
		}
		nudge(t, path, fresh.Elem())
		v.Set(fresh)
	case reflect.Slice:
		elem := reflect.New(v.Type().Elem()).Elem()
		if elem.Kind() != reflect.Struct {
			nudge(t, path, elem)
		}
		v.Set(reflect.Append(v, elem))
	case reflect.Map:
		fresh := reflect.MakeMap(v.Type())
		elem := reflect.New(v.Type().Elem()).Elem()
		if elem.Kind() != reflect.Struct {
			nudge(t, path, elem)
		}
		fresh.SetMapIndex(reflect.ValueOf("nudged").Convert(v.Type().Key()), elem)
		v.Set(fresh)
	default:
		switch {
		case v.CanInt():
			v.SetInt(v.Int() + 1)
		case v.CanUint():
			v.SetUint(v.Uint() + 1)
		default:
			t.Errorf("%s: a setting of type %s cannot be decoded", path, v.Type())
		}
	}
}

// ownForm reports whether a type reads its setting itself.
func ownForm(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t != reflect.TypeFor[time.Duration]() &&
		(p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()))
}

// forms are values that settings of several forms may take; each kind takes some.
var forms = []string{`"nudged"`, `"7m"`, `"7s"`, `"7MB"`, `["nudged"]`, `["a","b"]`, `7`, `0.37`, `true`, `false`, `{}`,
	`"none"`, `"all"`, `"row"`, `"prompt"`, `[]`, `{"threshold":0.37}`, `{"beta1":0.37}`}

// own offers a setting that reads itself many forms, and expects each that makes another value to change the key.
func (n nudger) own(t reflect.Type, path string, inKey bool, at func(runner.Stage) reflect.Value) {
	n.t.Helper()
	taken := 0
	for _, form := range forms {
		s := n.kind.New()
		target := at(s)
		was := reflect.New(t).Elem()
		was.Set(target)
		if !read(target.Addr().Interface(), form) || reflect.DeepEqual(was.Interface(), target.Interface()) {
			continue
		}
		taken++
		n.expect(path+" = "+form, inKey, at, func(v reflect.Value) { read(v.Addr().Interface(), form) })
	}
	if taken == 0 {
		n.t.Errorf("%s: takes none of the forms that runnertest knows; add one that it takes", path)
	}
}

func read(target any, form string) bool {
	switch own := target.(type) {
	case json.Unmarshaler:
		return own.UnmarshalJSON([]byte(form)) == nil
	case encoding.TextUnmarshaler:
		var text string
		if json.Unmarshal([]byte(form), &text) != nil {
			text = form
		}
		return own.UnmarshalText([]byte(text)) == nil
	}
	return false
}
