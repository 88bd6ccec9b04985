package runner

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// readOut reads `out` and fills in the outputs left out.
func (d *decoder) readOut(s *scope, b *stageBlock, inst *instance) bool {
	failures := len(d.diags)
	attr := b.attrs["out"]
	if attr == nil {
		for _, port := range inst.outPorts {
			d.addDefault(inst.step, port, b.block.DefRange())
		}
		return true
	}
	d.checkRepeats(attr)
	v, ok := d.evalPublic(s, attr)
	if !ok {
		return false
	}
	v = plain(v)
	switch {
	case isList(v) && b.kind.InPlace:
		d.outNames(attr, inst.step, v)
	case isObject(v):
		d.outObject(attr, inst, v)
	case v.IsNull():
		for _, port := range inst.outPorts {
			d.addDefault(inst.step, port, attr.SrcRange)
		}
	default:
		d.failAt(attr.Expr.Range(), "out takes an object of paths", fmt.Sprintf(`Here stands %s. Write it as: out = { NAME = "PATH" }.`, valueKind(v)))
	}
	return len(d.diags) == failures
}

// outNames reads a shell's list of names, whose paths are the default ones.
func (d *decoder) outNames(attr *hclsyntax.Attribute, step *Step, v cty.Value) {
	for i, elem := range v.AsValueSlice() {
		at := rangeIn(attr.Expr, fmt.Sprint(i))
		if elem.IsNull() {
			continue
		}
		name, ok := textOf(elem)
		folder := strings.HasSuffix(name, "/")
		name = strings.TrimSuffix(name, "/")
		if !ok || !d.outName(step, name, at) {
			if !ok {
				d.failAt(at, "out takes a list of names", fmt.Sprintf("Here stands %s.", valueKind(elem)))
			}
			continue
		}
		step.Out = append(step.Out, StepOutput{Name: name, Path: d.defaultPath(step, name, ""), Folder: folder, Cache: true, Push: true, Range: at})
	}
}

// outName checks the name of a shell's output.
func (d *decoder) outName(step *Step, name string, at hcl.Range) bool {
	if !blockName().MatchString(name) {
		d.failAt(at, fmt.Sprintf("%q is no name for an output", name), `A name begins with a letter or _, and goes on with letters, digits, _ and -. A path goes with a name: out = { NAME = "PATH" }.`)
		return false
	}
	for _, out := range step.Out {
		if out.Name == name {
			d.failAt(at, fmt.Sprintf("out gives %q twice", name), "Remove one of them.")
			return false
		}
	}
	return true
}

// outObject reads names with paths; then come the kind's required outputs that it leaves out.
func (d *decoder) outObject(attr *hclsyntax.Attribute, inst *instance, v cty.Value) {
	values := v.AsValueMap()
	var names []string
	for _, port := range inst.outPorts {
		names = append(names, port.Name)
	}
	for _, name := range sortedKeys(values) {
		at := rangeIn(attr.Expr, name)
		port := portNamed(inst.outPorts, name)
		switch {
		case inst.step.Kind.InPlace:
			if d.outName(inst.step, name, at) && !values[name].IsNull() {
				d.outPath(inst.step, Port{Name: name}, values[name], at)
			}
		case port == nil:
			d.failAt(at, fmt.Sprintf("Kind %q has no output %q here", inst.step.Kind.Name, name), suggest(name, names, "outputs"))
		case !values[name].IsNull():
			d.outPath(inst.step, *port, values[name], at)
		}
	}
	for _, port := range inst.outPorts {
		if given, ok := values[port.Name]; !port.Optional && (!ok || given.IsNull()) {
			d.addDefault(inst.step, port, attr.SrcRange)
		}
	}
	if !inst.step.Kind.InPlace {
		order := func(out StepOutput) int { return slices.Index(names, out.Name) }
		slices.SortStableFunc(inst.step.Out, func(a, b StepOutput) int { return order(a) - order(b) })
	}
}

func portNamed(ports []Port, name string) *Port {
	for i := range ports {
		if ports[i].Name == name {
			return &ports[i]
		}
	}
	return nil
}

// outPath reads one output: a path, or { path, cache, push }.
func (d *decoder) outPath(step *Step, port Port, v cty.Value, at hcl.Range) {
	out := StepOutput{Name: port.Name, Cache: true, Push: true, Range: at}
	name, given := "", true
	switch {
	case v.Type() == cty.String:
		name = v.AsString()
	case isObject(v):
		var ok bool
		if name, given, ok = d.outForm(&out, v, at); !ok {
			return
		}
	default:
		d.failAt(at, fmt.Sprintf("Output %q takes a path", port.Name), fmt.Sprintf(`Here stands %s. Write "PATH" or { path = "PATH", cache = true, push = true }.`, valueKind(v)))
		return
	}
	if !given {
		name = d.defaultPath(step, port.Name, port.Ext)
	}
	slash := strings.HasSuffix(name, "/")
	out.Path = d.relative(name)
	out.Folder = slash || port.Folder
	out.File = !step.Kind.InPlace && !port.Folder
	if slash && out.File {
		d.failAt(at, fmt.Sprintf("Output %q is a file", port.Name), fmt.Sprintf("The slash at the end of %q asks for a folder. Remove it.", name))
		return
	}
	if d.checkPlace(out, name) {
		step.Out = append(step.Out, out)
	}
}

// outForm reads { path, cache, push }.
func (d *decoder) outForm(out *StepOutput, v cty.Value, at hcl.Range) (name string, given, ok bool) {
	ok = true
	for _, key := range sortedKeys(v.AsValueMap()) {
		value := v.AsValueMap()[key]
		if value.IsNull() {
			continue
		}
		switch {
		case key == "path" && value.Type() == cty.String:
			name, given = value.AsString(), true
		case key == "cache" && value.Type() == cty.Bool:
			out.Cache = value.True()
		case key == "push" && value.Type() == cty.Bool:
			out.Push = value.True()
		case key == "path" || key == "cache" || key == "push":
			ok = false
			want := map[string]string{"path": "a string", "cache": "true or false", "push": "true or false"}[key]
			d.failAt(at, fmt.Sprintf("%s of output %q takes %s", key, out.Name, want), "Here stands "+valueKind(value)+".")
		default:
			ok = false
			d.failAt(at, fmt.Sprintf("Output %q has no setting %q", out.Name, key), suggest(key, []string{"path", "cache", "push"}, "settings"))
		}
	}
	out.Push = out.Push && out.Cache // what is not kept cannot be sent
	return name, given, ok
}

// checkPlace refuses places where a stage must not write.
func (d *decoder) checkPlace(out StepOutput, name string) bool {
	first, _, _ := strings.Cut(out.Path, "/")
	switch {
	case name == "" || strings.ContainsRune(name, 0):
		d.failAt(out.Range, fmt.Sprintf("Output %q has no path", out.Name), fmt.Sprintf(`Name one: %s = "build/%s".`, out.Name, out.Name))
	case filepath.IsAbs(out.Path) || first == "..":
		d.failAt(out.Range, fmt.Sprintf("Output %q lies outside the workspace", out.Name),
			fmt.Sprintf("%s is not below %s, where the pipeline file lies. Give a path inside it.", name, d.p.Dir))
	case out.Path == ".":
		d.failAt(out.Range, fmt.Sprintf("Output %q is the workspace itself", out.Name), "Give it a folder of its own below.")
	case first == ".lpipe" || first == ".git":
		d.failAt(out.Range, fmt.Sprintf("Output %q lies in %s", out.Name, first), "That folder is not for outputs. Give another path.")
	case d.isPipelineFile(out.Path):
		d.failAt(out.Range, fmt.Sprintf("Output %q is a file of the pipeline", out.Name), fmt.Sprintf("%s would be overwritten. Give another path.", out.Path))
	default:
		return true
	}
	return false
}

func (d *decoder) isPipelineFile(at string) bool {
	for _, name := range d.p.Files {
		if d.relative(d.abs(name)) == at {
			return true
		}
	}
	return strings.HasPrefix(at, "pipeline.") && strings.HasSuffix(at, ".lock")
}

// addDefault adds an output at its default path.
func (d *decoder) addDefault(step *Step, port Port, at hcl.Range) {
	step.Out = append(step.Out, StepOutput{Name: port.Name, Path: d.defaultPath(step, port.Name, port.Ext),
		Folder: port.Folder, File: !step.Kind.InPlace && !port.Folder, Cache: true, Push: true, Range: at})
}

// defaultPath is build/[<profile>/]<stage>[/<instance>]/<output><ext>.
func (d *decoder) defaultPath(step *Step, name, ext string) string {
	_, key, _ := strings.Cut(step.Name, "@")
	return path.Join("build", d.p.Profile, step.Block, key, name+ext)
}
