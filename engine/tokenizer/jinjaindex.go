package tokenizer

import (
	"reflect"

	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
)

// In gonja 2.9.1, x[-n] of a list with n members is undefined, so that the usual
// content.split('</think>')[-1] would leave the whole content out without a word. Also, a
// text is indexed by bytes, and a dict by no number. So each x[y] of a parsed template
// becomes (x|indexable)[y], which is right.

const indexable = "indexable"

// mendIndexes rewrites every x[y] in a tree of nodes. The library has no walk over them, and
// keeps some in fields of its own, so this one goes by reflection.
func mendIndexes(v reflect.Value, seen map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Interface:
		mendIndexes(v.Elem(), seen)
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		mendIndexes(v.Elem(), seen)
		if v.Type() == reflect.TypeFor[*nodes.GetItem]() {
			// Made anew from its address, since a value read through a field of the library's
			// own may not be used.
			mend(reflect.NewAt(v.Type().Elem(), v.UnsafePointer()).Interface().(*nodes.GetItem))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			mendIndexes(v.Field(i), seen)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			mendIndexes(v.Index(i), seen)
		}
	case reflect.Map:
		for at := v.MapRange(); at.Next(); {
			mendIndexes(at.Value(), seen)
		}
	}
}

func mend(g *nodes.GetItem) {
	target, ok := g.Node.(nodes.Expression)
	if !ok {
		return
	}
	g.Node = &nodes.FilteredExpression{Expression: target, Filters: []*nodes.FilterCall{{Token: g.Location, Name: indexable}}}
}

// indexed is a value that answers x[y] as Python does.
type indexed struct{ value *exec.Value }

func jinjaIndexable(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	if in.IsError() || in.IsNil() {
		return in
	}
	return exec.AsValue(&indexed{in})
}

// GetItem returns what stands at an index or a key, and whether something does.
func (x *indexed) GetItem(key any) (*exec.Value, bool) {
	i, number := key.(int)
	switch {
	case number && x.value.IsDict():
		if d, ok := x.value.Interface().(*exec.Dict); ok {
			for _, p := range d.Pairs {
				if p.Key.IsInteger() && p.Key.Integer() == i {
					return p.Value, true
				}
			}
		}
		return exec.AsValue(nil), false
	case number && x.value.IsString():
		runes := []rune(x.value.String())
		if i < 0 {
			i += len(runes)
		}
		if i < 0 || i >= len(runes) {
			return exec.AsValue(nil), false
		}
		return exec.AsValue(string(runes[i])), true
	case number:
		if i < 0 {
			i += x.value.Len()
		}
		if i < 0 || i >= x.value.Len() {
			return exec.AsValue(nil), false
		}
		return x.value.GetItem(i)
	}
	if text, ok := key.(string); ok {
		return x.value.Get(text)
	}
	return x.value.GetItem(key)
}
