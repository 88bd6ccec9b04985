package runner

import (
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// readBody decodes everything of a stage but its header, once for each instance.
func (d *decoder) readBody(b *stageBlock) {
	if b.kind == nil {
		return
	}
	d.checkSettings(b)
	if b.broken {
		return
	}
	for _, inst := range b.instances {
		if inst.off == nil {
			body := &stageBody{d: d, b: b, inst: inst, step: inst.step}
			body.read()
		}
	}
}

// checkSettings reports what the kind does not know and what it misses.
func (d *decoder) checkSettings(b *stageBlock) {
	fields := d.fieldsOf(b.kind)
	known := slices.Concat(headerAttrs, commonAttrs, fieldNames(fields))
	if b.kind.InPlace {
		known = append(known, inPlaceAttrs...)
	}
	if !b.kind.InPlace {
		for _, name := range inPlaceAttrs {
			if attr := b.attrs[name]; attr != nil && !hasField(fields, name) {
				d.failAt(attr.NameRange, fmt.Sprintf("%s belongs to stages that run a command", name),
					fmt.Sprintf("Kind %q knows its own files, and its settings are inputs anyway. Remove the line.", b.kind.Name))
				known = append(known, name)
			}
		}
	}
	d.checkKnown(b.block.Body, known, fmt.Sprintf("kind %q", b.kind.Name), func(name string) string {
		if portNamed(b.kind.In, name) != nil {
			return fmt.Sprintf("It is an input: in = { %s = ... }.", name)
		}
		if portNamed(b.kind.Out, name) != nil {
			return fmt.Sprintf("It is an output: out = { %s = ... }.", name)
		}
		if near := nearestName(name, known); near != "" {
			return fmt.Sprintf("Did you mean %q?", near)
		}
		return fmt.Sprintf("%s lpipe kinds %s explains them.", suggest("", fieldNames(fields), "settings of the kind"), b.kind.Name)
	})
	for _, f := range fields {
		if !f.optional && b.attrs[f.name] == nil {
			d.failAt(b.block.DefRange(), fmt.Sprintf("Setting %q is missing", f.name), fmt.Sprintf("Kind %q needs it: %s = ...", b.kind.Name, f.name))
		}
	}
}

// stageBody decodes one instance.
type stageBody struct {
	d    *decoder
	b    *stageBlock
	inst *instance
	step *Step

	plain    *scope // paths relative to the workspace: for in, dir, code
	settings *scope // paths relative to dir
	refs     []settingRef
	hidden   map[string]bool // settings that hold values of env()
	unread   map[string]bool // settings whose value hangs on a mistake that is told
}

// settingRef is a reference that a setting holds.
type settingRef struct {
	attr  *hclsyntax.Attribute
	index int // where its path stands in the setting's text
	mark  *refMark
}

func (body *stageBody) read() {
	d, failures := body.d, len(body.d.diags)
	body.hidden, body.unread = map[string]bool{}, map[string]bool{}
	body.openScopes()
	body.readIn()
	stage := body.readSettings()
	if body.b.kind.InPlace {
		body.readInPlace()
	}
	body.readCommon(stage)
	body.step.Stage = stage
	if len(d.diags) > failures {
		return
	}
	body.check(stage)
	body.keySettings(stage)
	body.addReferences()
}

// openScopes makes what the body's expressions see.
func (body *stageBody) openScopes() {
	d, vars := body.d, map[string]cty.Value{}
	if body.inst.each != cty.NilVal {
		vars["each"] = body.inst.each
	}
	if d.bodyCtx == nil {
		d.bodyCtx = d.base().NewChild()
		d.bodyCtx.Variables = map[string]cty.Value{"stage": d.stageValue}
	}
	body.plain = (&scope{ctx: d.bodyCtx, what: "This setting"}).child(vars)
	body.settings = body.plain
	if !body.b.kind.InPlace {
		return
	}
	outs := map[string]cty.Value{}
	for _, out := range body.step.Out {
		outs[out.Name] = cty.StringVal(out.Path)
	}
	self := cty.ObjectVal(map[string]cty.Value{"out": cty.ObjectVal(outs)})
	dir := body.dir()
	if dir == "." {
		body.settings = body.plain.child(map[string]cty.Value{"self": self})
		return
	}
	relative := map[string]cty.Value{"self": relativePaths(self, dir, true)}
	if each, ok := vars["each"]; ok {
		relative["each"] = relativePaths(each, dir, false)
	}
	body.settings = (&scope{ctx: d.dirCtx(dir), what: "This setting"}).child(relative)
}

// dir is the folder in which the command runs, relative to the workspace where it lies inside. A mistake in it is
// reported when the setting is read.
func (body *stageBody) dir() string {
	attr := body.b.attrs["dir"]
	if attr == nil {
		return "."
	}
	quiet, done := body.d.quiet()
	defer done()
	if v, ok := quiet.eval(body.plain, attr.Expr); ok {
		if text, ok := textOf(plain(v)); ok && text != "" {
			return body.d.relative(text)
		}
	}
	return "."
}

// dirCtx is what a command in a folder sees: the same paths, relative to it. Made once for each folder.
func (d *decoder) dirCtx(dir string) *hcl.EvalContext {
	ctx := d.dirCtxs[dir]
	if ctx == nil {
		ctx = d.base().NewChild()
		ctx.Variables = map[string]cty.Value{
			"stage":  relativePaths(d.stageValue, dir, false),
			"source": relativePaths(d.sources, dir, false),
		}
		d.dirCtxs[dir] = ctx
	}
	return ctx
}

// relativePaths makes the paths in a value relative to a folder: strings that carry the mark of a reference with
// the very path, or all.
func relativePaths(v cty.Value, dir string, all bool) cty.Value {
	moved, err := cty.Transform(v, func(_ cty.Path, v cty.Value) (cty.Value, error) {
		bare, marks := v.Unmark()
		if bare.Type() != cty.String || bare.IsNull() || !bare.IsKnown() {
			return v, nil
		}
		text, move := bare.AsString(), all
		for mark := range marks {
			if ref, ok := mark.(*refMark); ok && ref.path == text {
				move = true
			}
		}
		if !move || filepath.IsAbs(text) != filepath.IsAbs(dir) {
			return v, nil
		}
		rel, err := filepath.Rel(dir, text)
		if err != nil {
			return v, nil
		}
		return cty.StringVal(filepath.ToSlash(rel)).WithMarks(marks), nil
	})
	if err != nil {
		return v
	}
	return moved
}

// evalSetting evaluates a setting in which references count as inputs.
func (body *stageBody) evalSetting(attr *hclsyntax.Attribute) (cty.Value, bool) {
	s := body.settings
	if attr.Name == "dir" || attr.Name == "code" {
		s = body.plain
	}
	v, ok := body.d.evalPublic(s, attr)
	if !ok {
		return v, false
	}
	bare, marks := v.UnmarkDeep()
	body.note(attr, bare, marks)
	return withoutNulls(bare), true
}

// note remembers the references in a setting, and whether it holds a value of env().
func (body *stageBody) note(attr *hclsyntax.Attribute, v cty.Value, marks cty.ValueMarks) {
	text := ""
	for mark := range marks {
		switch mark := mark.(type) {
		case envMark:
			body.hidden[attr.Name] = true
		case *refMark:
			if mark.off != nil {
				continue
			}
			if text == "" {
				text = canonicalJSON(v)
			}
			index := strings.Index(text, mark.path)
			if index < 0 {
				index = len(text)
			}
			body.refs = append(body.refs, settingRef{attr, index, mark})
		}
	}
}

// readSettings fills the kind's settings.
func (body *stageBody) readSettings() Stage {
	d, stage := body.d, body.b.kind.New()
	target := settingsStruct(stage)
	for _, f := range d.fieldsOf(body.b.kind) {
		attr := body.b.attrs[f.name]
		if attr == nil {
			continue
		}
		v, ok := body.evalSetting(attr)
		if !ok {
			body.unread[f.name] = true
			continue
		}
		if v.IsNull() && !f.optional {
			body.missing(attr, fmt.Sprintf("Setting %q is null", f.name))
			continue
		}
		d.setField(target.Field(f.index), attr, v)
	}
	return stage
}

// missing reports a null where a value must be, naming the `when` that made it null.
func (body *stageBody) missing(attr *hclsyntax.Attribute, summary string, path ...string) {
	d, at := body.d, rangeIn(attr.Expr, path...)
	v, diags := attr.Expr.Value(body.settings.ctx)
	if !diags.HasErrors() {
		if ref := offWithin(v, path...); ref != nil {
			d.failAt(at, switchedOff, switchedOffInput(ref))
			return
		}
	}
	d.failAt(at, summary, fmt.Sprintf("Kind %q needs a value here.", body.b.kind.Name))
}

func switchedOffInput(ref *refMark) string {
	return fmt.Sprintf("%s is null, because its stage's when (%s) is false. Give this stage the same when, or choose another value with a condition.",
		ref.name, place(*ref.off))
}

// offWithin finds the mark of a switched-off output on a part of a value.
func offWithin(v cty.Value, path ...string) *refMark {
	for _, step := range path {
		if bare, _ := v.Unmark(); !isObject(bare) {
			break
		}
		v = valueMap(v)[step]
	}
	return offMark(v)
}

// check calls the stage's own Check; its error begins with the name of the setting.
func (body *stageBody) check(stage Stage) {
	checker, ok := stage.(interface{ Check() error })
	if !ok {
		return
	}
	if err := checker.Check(); err != nil {
		body.reportCheck(err)
	}
}

func (body *stageBody) reportCheck(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") { // errors.Join
		for _, one := range joined.Unwrap() {
			body.reportCheck(one)
		}
		return
	}
	name, text, ok := strings.Cut(err.Error(), ": ")
	path := strings.Split(name, ".")
	if !ok || !hasField(body.d.fieldsOf(body.b.kind), path[0]) {
		body.d.failAt(body.b.block.DefRange(), fmt.Sprintf("Stage %q cannot run with these settings", body.step.Name), capital(err.Error()))
		return
	}
	if body.unread[path[0]] {
		return
	}
	attr := body.b.attrs[path[0]]
	if attr == nil && slices.ContainsFunc(body.d.fieldsOf(body.b.kind), func(f settingField) bool { return f.name == path[0] && !f.optional }) {
		return // told already: it is missing
	}
	if attr == nil {
		body.d.failAt(body.b.block.DefRange(), fmt.Sprintf("Setting %s cannot be left out as it is", name), capital(text))
		return
	}
	body.d.failAt(rangeIn(attr.Expr, path[1:]...), fmt.Sprintf("Setting %s cannot be used as it stands", name), capital(text))
}

// keySettings renders what counts in the key.
func (body *stageBody) keySettings(stage Stage) {
	body.step.Settings = KeySettings(stage)
	for i := range body.step.Settings {
		setting := &body.step.Settings[i]
		setting.Sensitive = body.hidden[setting.Name]
		setting.Range = body.step.Range
		if attr := body.b.attrs[setting.Name]; attr != nil {
			setting.Range = attr.SrcRange
		}
	}
}

// addReferences makes inputs of the references in settings, in the order of settings' names and of their place in
// them; those that `in` names already are none.
func (body *stageBody) addReferences() {
	known := map[string]bool{}
	for _, in := range body.step.In {
		known[in.Path] = true
	}
	sort.SliceStable(body.refs, func(i, j int) bool {
		a, b := body.refs[i], body.refs[j]
		switch {
		case a.attr.Name != b.attr.Name:
			return a.attr.Name < b.attr.Name
		case a.index != b.index:
			return a.index < b.index
		}
		return a.mark.path < b.mark.path
	})
	n := 0
	for _, ref := range body.refs {
		if known[ref.mark.path] {
			continue
		}
		known[ref.mark.path] = true
		body.step.In = append(body.step.In, StepInput{Name: fmt.Sprintf("ref[%d]", n), Path: ref.mark.path, Range: ref.attr.SrcRange})
		n++
	}
}
