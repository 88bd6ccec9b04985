package runner

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/gocty"
)

// isObject reports whether a value is a known object or map.
func isObject(v cty.Value) bool {
	t := v.Type()
	return (t.IsObjectType() || t.IsMapType()) && v.IsKnown() && !v.IsNull()
}

// isList reports whether a value is a known list, tuple or set.
func isList(v cty.Value) bool {
	t := v.Type()
	return (t.IsTupleType() || t.IsListType() || t.IsSetType()) && v.IsKnown() && !v.IsNull()
}

// valueMap is an object's content; marks of the whole go to each part.
func valueMap(v cty.Value) map[string]cty.Value {
	v, marks := v.Unmark()
	values := v.AsValueMap()
	if len(marks) > 0 {
		for name, inner := range values {
			values[name] = inner.WithMarks(marks)
		}
	}
	return values
}

// valueList is a list's content; marks of the whole go to each part.
func valueList(v cty.Value) []cty.Value {
	v, marks := v.Unmark()
	values := v.AsValueSlice()
	if len(marks) > 0 {
		for i := range values {
			values[i] = values[i].WithMarks(marks)
		}
	}
	return values
}

// withoutNulls drops the nulls in lists, those of stages that are switched off.
func withoutNulls(v cty.Value) cty.Value {
	switch {
	case isList(v):
		var kept []cty.Value
		for _, elem := range v.AsValueSlice() {
			if !elem.IsNull() {
				kept = append(kept, withoutNulls(elem))
			}
		}
		return cty.TupleVal(kept)
	case isObject(v) && v.LengthInt() > 0:
		values := v.AsValueMap()
		for name, inner := range values {
			values[name] = withoutNulls(inner)
		}
		return cty.ObjectVal(values)
	}
	return v
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// rangeIn finds where a part of an object or list is written: the path's steps are names and list positions. It
// goes as deep as the file is literal.
func rangeIn(expr hclsyntax.Expression, path ...string) hcl.Range {
	for _, step := range path {
		inner := partOf(expr, step)
		if inner == nil {
			break
		}
		expr = inner
	}
	return expr.Range()
}

func partOf(expr hclsyntax.Expression, step string) hclsyntax.Expression {
	switch e := expr.(type) {
	case *hclsyntax.ObjectConsExpr:
		for _, item := range e.Items {
			if name, ok := literalKey(item.KeyExpr); ok && name == step {
				return item.ValueExpr
			}
		}
	case *hclsyntax.TupleConsExpr:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(e.Exprs) {
			return e.Exprs[i]
		}
	case *hclsyntax.ParenthesesExpr:
		return partOf(e.Expression, step)
	}
	return nil
}

func literalKey(expr hclsyntax.Expression) (string, bool) {
	v, diags := expr.Value(nil)
	if diags.HasErrors() || v.Type() != cty.String || !v.IsKnown() || v.IsNull() {
		return "", false
	}
	return v.AsString(), true
}

// checkRepeats reports a name that an object gives twice, of which HCL would silently take the last.
func (d *decoder) checkRepeats(attr *hclsyntax.Attribute) {
	object, ok := attr.Expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		return
	}
	first := map[string]hcl.Range{}
	for _, item := range object.Items {
		name, ok := literalKey(item.KeyExpr)
		if !ok {
			continue
		}
		if at, twice := first[name]; twice {
			d.failAt(item.KeyExpr.Range(), fmt.Sprintf("%s gives %q twice", attr.Name, name),
				fmt.Sprintf("The first stands at %s. Rename or remove one of them.", place(at)))
		}
		first[name] = item.KeyExpr.Range()
	}
}

// checkName checks a label against the form of names.
func (d *decoder) checkName(block *hclsyntax.Block, label int, noun string) bool {
	name := block.Labels[label]
	if blockName().MatchString(name) {
		return true
	}
	d.failAt(block.LabelRanges[label], fmt.Sprintf("%q is no name for a %s", name, noun),
		"A name begins with a letter or _, and goes on with letters, digits, _ and -.")
	return false
}

func (d *decoder) declaredTwice(block *hclsyntax.Block, what string, first *hclsyntax.Block) {
	d.failAt(block.DefRange(), what+" is declared twice",
		fmt.Sprintf("The first stands at %s. Rename or remove one of them.", place(first.DefRange())))
}

// checkAttrs reports settings and blocks that do not belong into a block.
func (d *decoder) checkAttrs(body *hclsyntax.Body, known []string, what string, blocks ...string) {
	d.checkKnown(body, known, what, func(name string) string { return suggest(name, slices.Concat(known, blocks), "settings") }, blocks...)
}

// checkKnown is checkAttrs with a remedy of its own.
func (d *decoder) checkKnown(body *hclsyntax.Body, known []string, what string, remedy func(name string) string, blocks ...string) {
	for _, attr := range sortedAttrs(body.Attributes) {
		if !slices.Contains(known, attr.Name) {
			d.failAt(attr.NameRange, fmt.Sprintf("Unknown setting %q in %s", attr.Name, what), remedy(attr.Name))
		}
	}
	for _, inner := range body.Blocks {
		switch {
		case slices.Contains(blocks, inner.Type):
		case slices.Contains(known, inner.Type):
			d.failAt(inner.TypeRange, fmt.Sprintf("%s is a setting, not a block", inner.Type), fmt.Sprintf("Write it with an equals sign: %s = { ... }", inner.Type))
		default:
			d.failAt(inner.TypeRange, fmt.Sprintf("Unknown block %q in %s", inner.Type, what), remedy(inner.Type))
		}
	}
}

// literal evaluates an attribute in which nothing may be referred to, into a bool or string.
func (d *decoder) literal(attr *hclsyntax.Attribute, target any, want string) {
	v, ok := d.eval(d.valueScope(attr.Name), attr.Expr)
	if !ok {
		return
	}
	typed := cty.NilVal
	t, err := gocty.ImpliedType(target)
	if err == nil {
		typed, err = convert.Convert(plain(v), t)
	}
	if err == nil && !typed.IsNull() {
		err = gocty.FromCtyValue(typed, target)
	}
	if err != nil {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("%s takes %s", attr.Name, want), "Here stands "+valueKind(v)+".")
	}
}
