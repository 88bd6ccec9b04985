package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// maxInstances bounds what one block makes: more is a mistake, and would fill memory before anyone sees it.
const maxInstances = 10000

// maxInstanceName bounds a name, which becomes a folder's.
const maxInstanceName = 200

// expand lists a block's instances: one without for_each and matrix.
func (d *decoder) expand(s *scope, b *stageBlock) ([]*instance, bool) {
	forEach, matrix := b.attrs["for_each"], b.attrs["matrix"]
	switch {
	case forEach != nil && matrix != nil:
		d.failAt(matrix.SrcRange, "Stage has both for_each and matrix", "Keep one of them; a matrix can have any number of names.")
		return nil, false
	case forEach != nil:
		b.instanced = true
		return d.expandForEach(s, forEach)
	case matrix != nil:
		b.instanced = true
		return d.expandMatrix(s, matrix)
	}
	return []*instance{{}}, true
}

const forEachForms = `Write a set, for_each = toset(["a", "b"]), a map, for_each = { a = 1, b = 2 }, or another stage with instances, for_each = stage.NAME.`

func (d *decoder) expandForEach(s *scope, attr *hclsyntax.Attribute) ([]*instance, bool) {
	v, ok := d.evalPublic(s, attr)
	if !ok {
		return nil, false
	}
	v = roundNumbers(v)
	elems := map[string]cty.Value{}
	switch bare, marks := v.Unmark(); {
	case isObject(bare):
		elems = valueMap(v)
	case bare.Type().IsSetType() && !bare.IsNull():
		for _, elem := range bare.AsValueSlice() {
			key, ok := textOf(elem)
			if !ok {
				d.failAt(attr.Expr.Range(), "for_each takes a set of names", "Here a set holds "+valueKind(elem)+". Use a map with short names as keys: for_each = { a = ..., b = ... }.")
				return nil, false
			}
			elems[key] = elem.WithMarks(marks)
		}
	case isList(bare):
		d.failAt(attr.Expr.Range(), "for_each takes a set or map, not a list", "The order of a list would be in the names. Wrap it: for_each = toset([...]).")
		return nil, false
	default:
		d.failAt(attr.Expr.Range(), "for_each takes a set or map", fmt.Sprintf("Here stands %s. %s", valueKind(bare), forEachForms))
		return nil, false
	}
	var instances []*instance
	for _, key := range sortedKeys(elems) {
		if elem := elems[key]; elem.IsNull() && offMark(elem) != nil {
			continue // of a stage that is switched off
		}
		instances = append(instances, &instance{key: key, each: eachValue(key, elems[key])})
	}
	return d.checkInstances(attr, instances)
}

func eachValue(key string, value cty.Value) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{"key": cty.StringVal(key), "value": value})
}

// expandMatrix makes every combination of the values; names are in alphabetical order.
func (d *decoder) expandMatrix(s *scope, attr *hclsyntax.Attribute) ([]*instance, bool) {
	v, ok := d.evalPublic(s, attr)
	if !ok {
		return nil, false
	}
	v = roundNumbers(v)
	if bare, _ := v.Unmark(); !isObject(bare) || bare.LengthInt() == 0 {
		d.failAt(attr.Expr.Range(), "matrix takes an object of lists", "Write it as: matrix = { rank = [8, 16], lr = [1e-4, 2e-4] }.")
		return nil, false
	}
	axes := valueMap(v)
	combinations := []map[string]cty.Value{{}}
	for _, name := range sortedKeys(axes) {
		values, ok := d.axis(attr, name, axes[name])
		if !ok {
			return nil, false
		}
		if len(combinations)*len(values) > maxInstances {
			d.failAt(attr.Expr.Range(), fmt.Sprintf("matrix gives more than %d instances", maxInstances), "Take fewer values.")
			return nil, false
		}
		var next []map[string]cty.Value
		for _, combination := range combinations {
			for _, value := range values {
				one := map[string]cty.Value{name: value}
				for other, value := range combination {
					one[other] = value
				}
				next = append(next, one)
			}
		}
		combinations = next
	}
	var instances []*instance
	for _, combination := range combinations {
		key := matrixKey(combination)
		instances = append(instances, &instance{key: key, each: eachValue(key, cty.ObjectVal(combination))})
	}
	slices.SortStableFunc(instances, func(a, b *instance) int { return strings.Compare(a.key, b.key) })
	return d.checkInstances(attr, instances)
}

// axis is one name of a matrix with its values; nulls are dropped.
func (d *decoder) axis(attr *hclsyntax.Attribute, name string, v cty.Value) ([]cty.Value, bool) {
	at := rangeIn(attr.Expr, name)
	if bare, _ := v.Unmark(); !isList(bare) {
		d.failAt(at, fmt.Sprintf("matrix.%s takes a list", name), fmt.Sprintf("Here stands %s. Write it as: %s = [...].", valueKind(bare), name))
		return nil, false
	}
	if !blockName().MatchString(name) {
		d.failAt(at, fmt.Sprintf("%q is no name in a matrix", name), "A name begins with a letter or _, and goes on with letters, digits, _ and -.")
		return nil, false
	}
	var values []cty.Value
	for i, value := range valueList(v) {
		bare, _ := value.Unmark()
		if bare.IsNull() {
			continue
		}
		if _, ok := textOf(bare); !ok {
			d.failAt(rangeIn(attr.Expr, name, fmt.Sprint(i)), fmt.Sprintf("matrix.%s holds %s", name, valueKind(bare)),
				"Its values become names of instances: strings, numbers or bools. For more, use for_each with a map.")
			return nil, false
		}
		values = append(values, value)
	}
	return values, true
}

// matrixKey is the instance's name: "lr=0.0001,rank=8".
func matrixKey(combination map[string]cty.Value) string {
	var parts []string
	for _, name := range sortedKeys(combination) {
		text, _ := textOf(plain(combination[name]))
		parts = append(parts, name+"="+text)
	}
	return strings.Join(parts, ",")
}

// checkInstances refuses names that cannot be a folder's or stand on a command line, and two of the same name.
func (d *decoder) checkInstances(attr *hclsyntax.Attribute, instances []*instance) ([]*instance, bool) {
	if len(instances) > maxInstances {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("%s gives more than %d instances", attr.Name, maxInstances), "Take fewer values.")
		return nil, false
	}
	ok := true
	for i, inst := range instances {
		switch {
		case !instanceName().MatchString(inst.key) || len(inst.key) > maxInstanceName:
			d.failAt(attr.Expr.Range(), fmt.Sprintf("%q is no name for an instance", inst.key), "It becomes a folder's name: letters, digits and _ . , = + - only, "+
				"not a dot first, at most 200 bytes. Use a map with short names as keys: for_each = { a = ..., b = ... }.")
			ok = false
		case i > 0 && instances[i-1].key == inst.key:
			d.failAt(attr.Expr.Range(), fmt.Sprintf("Two instances are called %q", inst.key), "Remove the value that stands twice.")
			ok = false
		}
	}
	return instances, ok
}
