package runner

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// settingError is a value that does not fit its setting; path leads to it inside of an object or list.
type settingError struct {
	path []string
	want string // what the setting takes; "" if detail says it all
	got  string
	text string
}

func (e *settingError) under(name string) *settingError {
	e.path = append([]string{name}, e.path...)
	return e
}

func wrongType(want string, v cty.Value) *settingError {
	return &settingError{want: want, got: valueKind(v)}
}

// valueKind says what a value is, with an article.
func valueKind(v cty.Value) string {
	t := v.Type()
	switch {
	case v.IsNull():
		return "null"
	case t == cty.String:
		return "a string"
	case t == cty.Number:
		return "a number"
	case t == cty.Bool:
		return "a bool"
	case t.IsObjectType() || t.IsMapType():
		return "an object"
	}
	return "a list"
}

// setValue puts an unmarked value into a setting. Null leaves it as it is: a setting left out.
func setValue(target reflect.Value, v cty.Value) *settingError {
	if v.IsNull() {
		return nil
	}
	if target.Kind() == reflect.Pointer {
		return setPointer(target, v)
	}
	if target.Type() == durationType {
		return setDuration(target, v)
	}
	if own, ok := target.Addr().Interface().(json.Unmarshaler); ok {
		return ownError(own.UnmarshalJSON([]byte(canonicalJSON(v))))
	}
	if own, ok := target.Addr().Interface().(encoding.TextUnmarshaler); ok {
		text, ok := textOf(v)
		if !ok {
			return wrongType("a string", v)
		}
		return ownError(own.UnmarshalText([]byte(text)))
	}
	switch target.Kind() {
	case reflect.String:
		return setString(target, v)
	case reflect.Bool:
		return setBool(target, v)
	case reflect.Float32, reflect.Float64:
		return setFloat(target, v)
	case reflect.Slice:
		return setList(target, v)
	case reflect.Map:
		return setMap(target, v)
	case reflect.Struct:
		return setObject(target, v)
	case reflect.Interface:
		return ownError(json.Unmarshal([]byte(canonicalJSON(v)), target.Addr().Interface()))
	}
	return setWhole(target, v)
}

// setPointer fills a copy of what the setting points to, so that defaults stay and are not shared.
func setPointer(target reflect.Value, v cty.Value) *settingError {
	fresh := reflect.New(target.Type().Elem())
	if !target.IsNil() {
		fresh.Elem().Set(target.Elem())
	}
	if err := setValue(fresh.Elem(), v); err != nil {
		return err
	}
	target.Set(fresh)
	return nil
}

// ownError is what a setting's own reader says.
func ownError(err error) *settingError {
	if err == nil {
		return nil
	}
	return &settingError{text: err.Error()}
}

func setString(target reflect.Value, v cty.Value) *settingError {
	text, ok := textOf(v)
	if !ok {
		return wrongType("a string", v)
	}
	target.SetString(text)
	return nil
}

func setBool(target reflect.Value, v cty.Value) *settingError {
	text, _ := textOf(v)
	if text != "true" && text != "false" {
		return wrongType("true or false", v)
	}
	target.SetBool(text == "true")
	return nil
}

// numberIn reads a number, also one in a string: each.value of toset(["8", "16"]) is a string.
func numberIn(v cty.Value) (float64, bool) {
	switch v.Type() {
	case cty.Number:
		return number(v), true
	case cty.String:
		parsed, err := cty.ParseNumberVal(v.AsString())
		if err == nil {
			return number(parsed), true
		}
	}
	return 0, false
}

func setFloat(target reflect.Value, v cty.Value) *settingError {
	f, ok := numberIn(v)
	if !ok {
		return wrongType("a number", v)
	}
	target.SetFloat(f)
	return nil
}

func setWhole(target reflect.Value, v cty.Value) *settingError {
	f, ok := numberIn(v)
	if !ok {
		return wrongType("a whole number", v)
	}
	if f != float64(int64(f)) {
		return &settingError{want: "a whole number", got: formatNumber(f)}
	}
	if target.CanUint() {
		if f < 0 || target.OverflowUint(uint64(f)) {
			return &settingError{want: "a whole number from 0", got: formatNumber(f)}
		}
		target.SetUint(uint64(f))
		return nil
	}
	if target.OverflowInt(int64(f)) {
		return &settingError{want: "a smaller number", got: formatNumber(f)}
	}
	target.SetInt(int64(f))
	return nil
}

func setDuration(target reflect.Value, v cty.Value) *settingError {
	if v.Type() != cty.String {
		return wrongType(`a duration ("90s", "15m", "6h", "2d")`, v)
	}
	duration, err := ParseDuration(v.AsString())
	if err != nil {
		return &settingError{want: `a duration ("90s", "15m", "6h", "2d")`, got: strconv.Quote(v.AsString())}
	}
	target.SetInt(int64(duration))
	return nil
}

// setList fills a list; nulls, of stages switched off, are dropped.
func setList(target reflect.Value, v cty.Value) *settingError {
	if !isList(v) {
		return wrongType("a "+settingType(target.Type()), v)
	}
	list := reflect.MakeSlice(target.Type(), 0, v.LengthInt())
	for i, elem := range v.AsValueSlice() {
		if elem.IsNull() {
			continue
		}
		item := reflect.New(target.Type().Elem()).Elem()
		if err := setValue(item, elem); err != nil {
			return err.under(strconv.Itoa(i))
		}
		list = reflect.Append(list, item)
	}
	target.Set(list)
	return nil
}

func setMap(target reflect.Value, v cty.Value) *settingError {
	if !isObject(v) {
		return wrongType("a "+settingType(target.Type()), v)
	}
	m := reflect.MakeMap(target.Type())
	for name, elem := range v.AsValueMap() {
		if elem.IsNull() {
			continue
		}
		item := reflect.New(target.Type().Elem()).Elem()
		if err := setValue(item, elem); err != nil {
			return err.under(name)
		}
		m.SetMapIndex(reflect.ValueOf(name).Convert(target.Type().Key()), item)
	}
	target.Set(m)
	return nil
}

// setObject fills a struct by its hcl tags; what the object leaves out keeps its default.
func setObject(target reflect.Value, v cty.Value) *settingError {
	if !isObject(v) {
		return wrongType("an object", v)
	}
	fields := settingFields(target.Type())
	given := v.AsValueMap()
	for _, name := range sortedKeys(given) {
		if !hasField(fields, name) {
			return (&settingError{text: fmt.Sprintf("it has no %q. %s", name, suggest(name, fieldNames(fields), "settings"))}).under(name)
		}
	}
	for _, f := range fields {
		elem, ok := given[f.name]
		if !ok || elem.IsNull() {
			if !f.optional {
				return &settingError{text: fmt.Sprintf("it lacks %q", f.name)}
			}
			continue
		}
		if err := setValue(target.Field(f.index), elem); err != nil {
			return err.under(f.name)
		}
	}
	return nil
}

func hasField(fields []settingField, name string) bool {
	for _, f := range fields {
		if f.name == name {
			return true
		}
	}
	return false
}

func fieldNames(fields []settingField) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}
