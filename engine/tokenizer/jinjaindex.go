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

// rewrite mends every x[y] in a tree of nodes, and limits it. The library has no walk over them,
// and keeps some in fields of its own, so this one goes by reflection.
func rewrite(v reflect.Value, l *jinjaLimits, seen map[uintptr]bool) {
	switch v.Kind() {
	case reflect.Interface:
		rewrite(v.Elem(), l, seen)
		if v.CanAddr() && !v.IsNil() {
			// Made anew from its address, since a field of the library's own may not be set.
			limitExpression(reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem())
		}
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		rewrite(v.Elem(), l, seen)
		switch node := reflect.NewAt(v.Type().Elem(), v.UnsafePointer()).Interface().(type) {
		case *nodes.GetItem:
			mend(node)
		case *nodes.Wrapper:
			limitBody(node, l)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			rewrite(v.Field(i), l, seen)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			rewrite(v.Index(i), l, seen)
		}
	case reflect.Map:
		for at := v.MapRange(); at.Next(); {
			rewrite(at.Value(), l, seen)
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
