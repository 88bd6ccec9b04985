package runner

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// readIn reads `in`: name to path, list of paths, map of paths, or null.
func (body *stageBody) readIn() {
	d, attr := body.d, body.b.attrs["in"]
	given := map[string]cty.Value{}
	if attr != nil {
		d.checkRepeats(attr)
		v, ok := d.evalPublic(body.plain, attr)
		if !ok {
			return
		}
		switch bare, _ := v.Unmark(); {
		case isObject(bare):
			given = valueMap(v)
		case !bare.IsNull():
			d.failAt(attr.Expr.Range(), "in takes an object of paths", fmt.Sprintf("Here stands %s. Write it as: in = { NAME = PATH }.", valueKind(bare)))
			return
		}
	}
	for _, name := range sortedKeys(given) {
		body.readPort(attr, name, given[name])
	}
	for _, port := range body.inst.inPorts {
		if port.Optional || body.b.kind.InPlace {
			continue
		}
		if v, ok := given[port.Name]; !ok {
			at := body.b.block.DefRange()
			if attr != nil {
				at = attr.SrcRange
			}
			d.failAt(at, fmt.Sprintf("Input %q is missing", port.Name), fmt.Sprintf("Kind %q needs it (%s). Add it: in = { %s = PATH }.", body.b.kind.Name, port.Doc, port.Name))
		} else if bare, _ := v.Unmark(); bare.IsNull() {
			body.nullInput(attr, port.Name, v)
		} else if isList(bare) && len(body.dropNulls(v)) == 0 {
			body.emptyList(rangeIn(attr.Expr, port.Name), port.Name, v)
		}
	}
}

// emptyList reports a list in which there is nothing, perhaps because all of it is switched off.
func (body *stageBody) emptyList(at hcl.Range, name string, v cty.Value) {
	for _, elem := range valueList(v) {
		if ref := offMark(elem); ref != nil {
			body.d.failAt(at, switchedOff, "Nothing is left of the list: "+switchedOffInput(ref))
			return
		}
	}
	body.d.failAt(at, fmt.Sprintf("Input %q is an empty list", name), "Name at least one path.")
}

func (body *stageBody) nullInput(attr *hclsyntax.Attribute, name string, v cty.Value) {
	at := rangeIn(attr.Expr, name)
	if ref := offMark(v); ref != nil {
		body.d.failAt(at, switchedOff, switchedOffInput(ref))
		return
	}
	body.d.failAt(at, fmt.Sprintf("Input %q is null", name), fmt.Sprintf("Kind %q needs it. Give it a path.", body.b.kind.Name))
}

// dropNulls lists what is not null in a list.
func (body *stageBody) dropNulls(v cty.Value) []cty.Value {
	var kept []cty.Value
	for _, elem := range valueList(v) {
		if bare, _ := elem.Unmark(); !bare.IsNull() {
			kept = append(kept, elem)
		}
	}
	return kept
}

// readPort reads the paths of one name in `in`.
func (body *stageBody) readPort(attr *hclsyntax.Attribute, name string, v cty.Value) {
	d, at := body.d, rangeIn(attr.Expr, name)
	port := Port{Name: name, List: true, Map: true}
	if !body.b.kind.InPlace {
		known := portNamed(body.inst.inPorts, name)
		if known == nil {
			body.unknownPort(at, name)
			return
		}
		port = *known
	} else if !blockName().MatchString(name) {
		d.failAt(at, fmt.Sprintf("%q is no name for an input", name), "A name begins with a letter or _, and goes on with letters, digits, _ and -.")
		return
	}
	switch bare, _ := v.Unmark(); {
	case bare.IsNull():
	case isList(bare) && port.List:
		for i, elem := range body.dropNulls(v) {
			body.addInput(rangeIn(attr.Expr, name, fmt.Sprint(i)), attr, StepInput{Name: fmt.Sprintf("%s[%d]", name, i), Port: name}, elem)
		}
	case isObject(bare) && port.Map:
		elems := valueMap(v)
		for _, key := range sortedKeys(elems) {
			if elem, _ := elems[key].Unmark(); !elem.IsNull() {
				body.addInput(rangeIn(attr.Expr, name, key), attr, StepInput{Name: name + "." + key, Port: name, Key: key}, elems[key])
			}
		}
	case isList(bare), isObject(bare):
		d.failAt(at, fmt.Sprintf("Input %q takes %s, not %s", name, portForms(port), valueKind(bare)), body.portRemedy(bare))
	default:
		body.addInput(at, attr, StepInput{Name: name, Port: name}, v)
	}
}

// portRemedy looks for what is most often meant by an object or list in the place of a path.
func (body *stageBody) portRemedy(v cty.Value) string {
	if isObject(v) {
		return `Name one of its paths: stage.NAME.OUTPUT, stage.NAME["INSTANCE"].OUTPUT or source.NAME.path.`
	}
	return "Name one of them."
}

func portForms(port Port) string {
	switch {
	case port.List && port.Map:
		return "a path, a list or a map of paths"
	case port.List:
		return "a path or a list of paths"
	case port.Map:
		return "a path or a map of paths"
	}
	return "one path"
}

func (body *stageBody) unknownPort(at hcl.Range, name string) {
	var known []string
	for _, port := range body.inst.inPorts {
		known = append(known, port.Name)
	}
	detail := suggest(name, known, "inputs")
	if portNamed(body.b.kind.In, name) != nil {
		detail = fmt.Sprintf("It does not go with the stage's other inputs and settings. %s", suggest("", known, "inputs with these"))
	}
	body.d.failAt(at, fmt.Sprintf("Kind %q has no input %q here", body.b.kind.Name, name), detail)
}

// addInput adds one path. A reference whose path the input's path has nothing to do with is an input of its own.
func (body *stageBody) addInput(at hcl.Range, attr *hclsyntax.Attribute, in StepInput, v cty.Value) {
	v, marks := v.UnmarkDeep()
	if v.Type() != cty.String {
		body.d.failAt(at, fmt.Sprintf("Input %q takes a path", in.Name), fmt.Sprintf("Here stands %s.", valueKind(v)))
		return
	}
	if name := v.AsString(); name == "" || strings.ContainsRune(name, 0) {
		body.d.failAt(at, fmt.Sprintf("Input %q has no path", in.Name), "Name a file or folder, or remove the line.")
		return
	}
	in.Path, in.Range = body.d.relative(v.AsString()), at
	body.step.In = append(body.step.In, in)
	for mark := range marks {
		if ref, ok := mark.(*refMark); ok && ref.off == nil && !related(in.Path, ref.path) {
			body.refs = append(body.refs, settingRef{attr, 0, ref})
		}
	}
}

// related reports whether one path is the other or lies below it.
func related(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") || a == "." && !filepath.IsAbs(b)
}
