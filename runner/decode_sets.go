package runner

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// ExperimentSet is one variable of `exp run --set` with its values: several, or one.
type ExperimentSet struct {
	Name   string
	Values []string // canonical JSON
}

// readExperiment gives the values of an experiment's instance.
func (d *decoder) readExperiment() {
	at := hcl.Range{Filename: "experiment", Start: hcl.InitialPos, End: hcl.InitialPos}
	for _, name := range sortedKeys(d.opts.Experiment) {
		v := d.variable(name)
		if v == nil {
			d.fail(fmt.Sprintf("The experiment sets a variable %q that there is not", name), d.variableRemedy(name), nil)
			continue
		}
		data := []byte(d.opts.Experiment[name])
		typ, err := ctyjson.ImpliedType(data)
		var value cty.Value
		if err == nil {
			value, err = ctyjson.Unmarshal(data, typ)
		}
		if err != nil {
			v.broken = true
			d.fail(fmt.Sprintf("The experiment's value of %q cannot be read", name), fmt.Sprintf("It is not JSON: %v.", err), nil)
			continue
		}
		d.give(v, value, "experiment", at)
	}
}

// decodeSets reads the values of --set.
func (d *decoder) decodeSets() {
	seen := map[string]bool{}
	for _, pair := range d.opts.Sets {
		name, text, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		v := d.variable(name)
		switch {
		case !ok || name == "":
			d.fail(fmt.Sprintf("--set %q has no value", pair), "Write it as --set NAME=VALUE, or --set 'NAME=[VALUE, VALUE]'.", nil)
		case v == nil:
			d.fail(fmt.Sprintf("--set names a variable %q that there is not", name), d.variableRemedy(name), nil)
		case v.sensitive:
			d.fail(fmt.Sprintf("Variable %q is sensitive", name), "An experiment records its values, so it cannot set this one.", nil)
		case seen[name]:
			d.fail(fmt.Sprintf("--set names %q twice", name), fmt.Sprintf("Write all values in one: --set '%s=[VALUE, VALUE]'.", name), nil)
		default:
			seen[name] = true
			if values, ok := d.setValues(v, text); ok {
				d.p.Sets = append(d.p.Sets, ExperimentSet{name, values})
			}
		}
	}
}

// setValues are the values that a text means: of a list, unless the variable takes the list itself, each element. A
// text that is no HCL is a string, where the variable takes one.
func (d *decoder) setValues(v *variable, text string) ([]string, bool) {
	from := "--set " + v.name
	at := hcl.Range{Filename: from, Start: hcl.InitialPos, End: hcl.Pos{Line: 1, Column: 1 + len(text), Byte: len(text)}}
	expr, diags := hclsyntax.ParseExpression([]byte(text), from, hcl.InitialPos)
	d.p.HCL[from] = &hcl.File{Bytes: []byte(text)}
	if diags.HasErrors() || len(expr.Variables()) > 0 {
		if v.typ == cty.String || v.typ == cty.DynamicPseudoType {
			return []string{canonicalJSON(cty.StringVal(text))}, true
		}
		d.failAt(at, fmt.Sprintf("Variable %q cannot take this value", v.name), fmt.Sprintf("Its type is %s (%s), whose values are written as "+
			"in HCL: %s; several as a list.", typeexpr.TypeString(v.typ), place(v.block.DefRange()), exampleOf(v.typ)))
		return nil, false
	}
	useRoundedNumbers(expr)
	value, ok := d.eval(d.valueScope("A variable's value"), expr)
	if !ok {
		return nil, false
	}
	value = plain(value)
	if !isList(value) {
		return d.setConverted(v, at, value)
	}
	elements := valueList(value)
	if len(elements) == 0 && v.typ != cty.DynamicPseudoType && v.typ.IsPrimitiveType() {
		d.failAt(at, fmt.Sprintf("--set %s holds no value", v.name), fmt.Sprintf("Write it as --set '%s=[VALUE, VALUE]'.", v.name))
		return nil, false
	}
	if !v.typ.IsPrimitiveType() && v.typ != cty.DynamicPseudoType && !allConvert(elements, v.typ) {
		return d.setConverted(v, at, value)
	}
	return d.setConverted(v, at, elements...)
}

func allConvert(values []cty.Value, t cty.Type) bool {
	for _, value := range values {
		if _, err := convert.Convert(value, t); err != nil {
			return false
		}
	}
	return len(values) > 0
}

func (d *decoder) setConverted(v *variable, at hcl.Range, values ...cty.Value) (texts []string, ok bool) {
	for i, value := range values {
		typed, err := convert.Convert(value, v.typ)
		if err != nil {
			which := ""
			if len(values) > 1 {
				which = fmt.Sprintf("value %d, ", i+1)
			}
			d.failAt(at, fmt.Sprintf("Variable %q cannot take this value", v.name), fmt.Sprintf("Its type is %s (%s): %s%s.",
				typeexpr.TypeString(v.typ), place(v.block.DefRange()), which, convertError(err)))
			return nil, false
		}
		texts = append(texts, canonicalJSON(roundNumbers(typed)))
	}
	return texts, true
}
