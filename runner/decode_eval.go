package runner

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Marks travel with values through every expression, so that a value tells where it comes from.

// refMark: the value was made from the path of a source or of a stage's output. One pointer for each.
type refMark struct {
	path string
	off  *hcl.Range // of the `when` that switched the stage off: the value is null
	name string     // "stage.qa.data", for messages
}

// secretMark: made from a sensitive variable.
type secretMark struct{}

// envMark: made from env(); shown only as "changed".
type envMark struct{}

// scope is what an expression may refer to.
type scope struct {
	ctx  *hcl.EvalContext
	what string // what is evaluated in it, for messages: "A local"
}

func (s *scope) child(vars map[string]cty.Value) *scope {
	ctx := s.ctx.NewChild()
	ctx.Variables = vars
	return &scope{ctx: ctx, what: s.what}
}

// roots lists the names that references may begin with.
func (s *scope) roots() []string {
	var names []string
	for ctx := s.ctx; ctx != nil; ctx = ctx.Parent() {
		names = slices.AppendSeq(names, maps.Keys(ctx.Variables))
	}
	sort.Strings(names)
	return slices.Compact(names)
}

func (s *scope) root(name string) (cty.Value, bool) {
	for ctx := s.ctx; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[name]; ok {
			return v, true
		}
	}
	return cty.NilVal, false
}

// eval evaluates an expression. It is false if that failed, which is then reported, or if the value hangs on
// something that has a reported mistake of its own.
func (d *decoder) eval(s *scope, expr hclsyntax.Expression) (cty.Value, bool) {
	if literal, ok := expr.(*hclsyntax.LiteralValueExpr); ok {
		return literal.Val, true
	}
	refs := expr.Variables()
	if !d.checkReferences(s, refs) {
		return cty.DynamicVal, false
	}
	reads := len(d.reads)
	v, diags := expr.Value(s.ctx)
	for i := reads; i < len(d.reads); i++ {
		d.reads[i].at = expr.Range()
	}
	if diags.HasErrors() {
		d.reportEval(s, expr, refs, diags, reads)
		return cty.DynamicVal, false
	}
	if !v.IsWhollyKnown() {
		return cty.DynamicVal, false
	}
	return v, true
}

// quiet is a copy that evaluates ahead of time: what it reports and reads is forgotten when it is done.
func (d *decoder) quiet() (copied *decoder, done func()) {
	q, reads := *d, len(d.reads)
	return &q, func() { d.reads = d.reads[:reads] }
}

// reportEval makes HCL's diagnostics say what the user can do about them.
func (d *decoder) reportEval(s *scope, expr hclsyntax.Expression, refs []hcl.Traversal, diags hcl.Diagnostics, reads int) {
	secret := false
	for _, ref := range refs {
		if v, diags := ref.TraverseAbs(s.ctx); !diags.HasErrors() && holdsMark(v, secretMark{}) {
			secret = true
		}
	}
	for _, diag := range diags {
		if diag.Subject == nil {
			diag.Subject = expr.Range().Ptr()
		}
		diag.Context = nil
		d.explainFunction(diag)
		d.explainNull(diag)
		d.explainMissing(diag, refs)
		if secret && diag.Summary != switchedOff {
			diag.Detail = "What is wrong with the value is not shown, because it may hold a sensitive variable."
		}
		diag.Expression, diag.EvalContext = nil, nil
		if reads < len(d.reads) {
			// Perhaps the file is missing because a stage makes it: checkReads decides which message is the true one.
			d.reads[reads].diags = append(d.reads[reads].diags, diag)
			continue
		}
		d.diags = append(d.diags, diag)
	}
}

const switchedOff = "Reference to a stage that is switched off"

// explainFunction finds the function that was meant.
func (d *decoder) explainFunction(diag *hcl.Diagnostic) {
	if call, ok := diag.Expression.(*hclsyntax.FunctionCallExpr); ok && diag.Summary == "Call to unknown function" {
		diag.Summary = fmt.Sprintf("There is no function %q", call.Name)
		diag.Detail = suggest(call.Name, slices.Collect(maps.Keys(d.funcs)), "functions")
	}
}

// explainNull names the `when` behind a null that an expression cannot take.
func (d *decoder) explainNull(diag *hcl.Diagnostic) {
	if diag.Expression == nil || diag.EvalContext == nil {
		return
	}
	values := []cty.Value{}
	if v, diags := diag.Expression.Value(diag.EvalContext); !diags.HasErrors() {
		values = append(values, v)
	}
	for _, ref := range diag.Expression.Variables() {
		if v, diags := ref.TraverseAbs(diag.EvalContext); !diags.HasErrors() {
			values = append(values, v)
		}
	}
	for _, v := range values {
		if !v.IsNull() {
			continue
		}
		if ref := offMark(v); ref != nil {
			diag.Summary = switchedOff
			diag.Detail = fmt.Sprintf("%s is null, because its stage's when (%s) is false. Only in, where it may be left out, "+
				"and lists take a null: give this stage the same when, or choose another value with a condition.", ref.name, place(*ref.off))
			return
		}
	}
	if diag.Summary == "Invalid template interpolation value" && strings.Contains(diag.Detail, "null") {
		diag.Summary = "A null inside a string"
		diag.Detail = "Its value is null, which has no text. Choose another value with a condition: x == null ? \"\" : x."
	}
}

// explainMissing says of an instance that HCL does not find that its `when` is why.
func (d *decoder) explainMissing(diag *hcl.Diagnostic, refs []hcl.Traversal) {
	if diag.Summary != "Invalid index" && diag.Summary != "Unsupported attribute" {
		return
	}
	for _, ref := range refs {
		block, key, ok := d.instanceOf(ref)
		if !ok || !rangesOverlap(ref.SourceRange(), *diag.Subject) {
			continue
		}
		if at, off := block.off[key]; off {
			diag.Summary = switchedOff
			diag.Detail = fmt.Sprintf("Instance %q of stage %q is absent, because its when (%s) is false. Give this stage the same when, "+
				"or take the instances that there are: [for key, one in stage.%s : one.OUTPUT].", key, block.name, place(at), block.name)
		}
	}
}

func rangesOverlap(a, b hcl.Range) bool {
	return a.Filename == b.Filename && a.Start.Byte < b.End.Byte && b.Start.Byte < a.End.Byte
}

// offMark returns the mark of a switched-off output on a value, or nil.
func offMark(v cty.Value) *refMark {
	if v == cty.NilVal || !v.IsMarked() {
		return nil
	}
	for mark := range v.Marks() {
		if ref, ok := mark.(*refMark); ok && ref.off != nil {
			return ref
		}
	}
	return nil
}

func holdsMark(v cty.Value, mark any) bool { return v.HasMarkDeep(mark) }

// plain strips all marks.
func plain(v cty.Value) cty.Value {
	v, _ = v.UnmarkDeep()
	return v
}

// place is "pipeline.hcl line 14".
func place(r hcl.Range) string { return fmt.Sprintf("%s line %d", r.Filename, r.Start.Line) }

// checkReferences finds references to what does not exist before HCL does, whose messages know no remedy.
func (d *decoder) checkReferences(s *scope, refs []hcl.Traversal) bool {
	ok := true
	for _, ref := range refs {
		root, known := s.root(ref.RootName())
		if !known {
			d.unknownRoot(s, ref)
			ok = false
			continue
		}
		switch ref.RootName() {
		case "var":
			ok = d.checkMember(ref, root, "variable", "variables", `Declare it: variable %q { default = ... }.`) && ok
		case "local":
			ok = d.checkMember(ref, root, "local", "locals", `Define it: locals { %s = ... }.`) && ok
		case "source":
			ok = d.checkMember(ref, root, "source", "sources", `Declare it: source %q { path = "..." }.`) && ok
			ok = ok && d.checkSourcePath(ref)
		case "stage":
			ok = d.checkStage(s, ref) && ok
		case "each", "self":
			ok = d.checkEach(ref, root) && ok
		}
	}
	return ok
}

func (d *decoder) unknownRoot(s *scope, ref hcl.Traversal) {
	name, at := ref.RootName(), ref.SourceRange()
	switch name {
	case "each":
		d.failAt(at, "each stands only in a stage with for_each or matrix",
			"Add for_each = toset([...]) or matrix = { ... } to the block, or use a variable.")
	case "var", "local", "source", "stage", "self":
		d.failAt(at, fmt.Sprintf("%s may not refer to %s", s.what, name), rootsRemedy(s))
	case "data", "resource", "module", "path", "terraform", "count":
		d.failAt(at, fmt.Sprintf("Unknown name %q", name), "That is Terraform's. "+rootsRemedy(s))
	default:
		d.failAt(at, fmt.Sprintf("Unknown name %q", name), fmt.Sprintf("A text stands in quotes: %q. %s", name, rootsRemedy(s)))
	}
}

func rootsRemedy(s *scope) string {
	roots := s.roots()
	if len(roots) == 0 {
		return "Only values and functions may stand here."
	}
	return fmt.Sprintf("References here begin with: %s.", strings.Join(roots, ", "))
}

// checkMember checks var.x, local.x, source.x against the object that they refer to.
func (d *decoder) checkMember(ref hcl.Traversal, root cty.Value, noun, plural, remedy string) bool {
	if len(ref) < 2 {
		d.failAt(ref.SourceRange(), fmt.Sprintf("%s alone is no value", ref.RootName()),
			fmt.Sprintf("Name one of the %s: %s.NAME.", plural, ref.RootName()))
		return false
	}
	name, ok := stepName(ref[1])
	if !ok || root.Type().HasAttribute(name) {
		return true
	}
	var known []string
	for name := range root.Type().AttributeTypes() {
		known = append(known, name)
	}
	detail := fmt.Sprintf(remedy, name)
	if near := nearestName(name, known); near != "" {
		detail = fmt.Sprintf("Did you mean %s.%s? Otherwise: %s", ref.RootName(), near, detail)
	}
	d.failAt(ref.SourceRange(), fmt.Sprintf("There is no %s %q", noun, name), detail)
	return false
}

func (d *decoder) checkSourcePath(ref hcl.Traversal) bool {
	if len(ref) < 3 {
		return true
	}
	if name, ok := stepName(ref[2]); ok && name != "path" {
		source, _ := stepName(ref[1])
		d.failAt(ref.SourceRange(), fmt.Sprintf("A source has no %q", name),
			fmt.Sprintf("A source has a path: source.%s.path.", source))
		return false
	}
	return true
}

// checkEach checks each.key, each.value.NAME, self.out.NAME.
func (d *decoder) checkEach(ref hcl.Traversal, v cty.Value) bool {
	path := ref.RootName()
	for _, step := range ref[1:] {
		v, _ = v.Unmark()
		name, ok := stepName(step)
		if !ok || !v.Type().IsObjectType() {
			return true
		}
		if !v.Type().HasAttribute(name) {
			var known []string
			for name := range v.Type().AttributeTypes() {
				known = append(known, path+"."+name)
			}
			d.failAt(ref.SourceRange(), fmt.Sprintf("There is no %s.%s", path, name), suggest(path+"."+name, known, "names"))
			return false
		}
		if !v.IsKnown() || v.IsNull() {
			return true
		}
		v = v.GetAttr(name)
		path += "." + name
	}
	return true
}

// checkStage checks stage.NAME.OUTPUT and stage.NAME["INSTANCE"].OUTPUT.
func (d *decoder) checkStage(s *scope, ref hcl.Traversal) bool {
	at := ref.SourceRange()
	if len(ref) < 2 {
		d.failAt(at, "stage alone is no value", `Name the stage: stage.NAME.OUTPUT, or stage.NAME["INSTANCE"].OUTPUT.`)
		return false
	}
	name, ok := stepName(ref[1])
	if !ok {
		return true
	}
	block := d.stages[name]
	if block == nil {
		d.failAt(at, fmt.Sprintf("There is no stage %q", name), suggest(name, slices.Collect(maps.Keys(d.stages)), "stages"))
		return false
	}
	if block.state != headerDone || block.broken || len(ref) < 3 {
		return true
	}
	rest, prefix := ref[2:], "stage."+name
	if block.instanced {
		key, ok := stepName(rest[0])
		if !ok {
			return true
		}
		if _, off := block.off[key]; off {
			return true // evaluation finds out whether it is used
		}
		inst := block.byKey[key]
		if inst == nil {
			d.failAt(at, fmt.Sprintf("Stage %q has no instance %q", name, key), instancesRemedy(block, key))
			return false
		}
		if len(rest) < 2 {
			return true
		}
		return d.checkOutput(at, inst, prefix+fmt.Sprintf("[%q]", key), rest[1])
	}
	if len(block.instances) == 0 {
		return true
	}
	return d.checkOutput(at, block.instances[0], prefix, rest[0])
}

// instancesRemedy shows how instances are named; asked may be an output that was asked of all of them.
func instancesRemedy(block *stageBlock, asked string) string {
	if len(block.instances) == 0 {
		return fmt.Sprintf("Its for_each or matrix gives none. [for key, one in stage.%s : one.OUTPUT] takes all there are.", block.name)
	}
	output := "OUTPUT"
	for _, out := range block.instances[0].step.Out {
		if out.Name == asked {
			output = asked
		}
	}
	keys := make([]string, len(block.instances))
	for i, inst := range block.instances {
		keys[i] = inst.key
	}
	return fmt.Sprintf("It has for_each or matrix: write stage.%[1]s[%[2]q].%[3]s, or [for key, one in stage.%[1]s : one.%[3]s] for all. %[4]s",
		block.name, keys[0], output, suggest("", keys, "instances"))
}

func (d *decoder) checkOutput(at hcl.Range, inst *instance, prefix string, step hcl.Traverser) bool {
	name, ok := stepName(step)
	if !ok {
		return true
	}
	var known []string
	for _, out := range inst.step.Out {
		if out.Name == name {
			return true
		}
		known = append(known, out.Name)
	}
	detail := suggest(name, known, "outputs")
	if len(known) == 0 {
		detail = "It declares none. Add it there: out = { " + name + ` = "PATH" }.`
	}
	for _, port := range inst.outPorts {
		if port.Name == name {
			detail = fmt.Sprintf("It makes it only where its out names it: out = { %s = %q }.", name, d.defaultPath(inst.step, name, port.Ext))
		}
	}
	d.failAt(at, fmt.Sprintf("%s has no output %q", prefix, name), detail)
	return false
}

// stepName is the name of an attribute step or of an index by a string or number.
func stepName(step hcl.Traverser) (string, bool) {
	switch step := step.(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		switch {
		case step.Key.Type() == cty.String:
			return step.Key.AsString(), true
		case step.Key.Type() == cty.Number:
			return formatNumber(number(step.Key)), true
		}
	}
	return "", false
}

// instanceOf resolves stage.NAME["INSTANCE"].
func (d *decoder) instanceOf(ref hcl.Traversal) (*stageBlock, string, bool) {
	if ref.RootName() != "stage" || len(ref) < 3 {
		return nil, "", false
	}
	name, ok := stepName(ref[1])
	if !ok || d.stages[name] == nil || !d.stages[name].instanced {
		return nil, "", false
	}
	key, ok := stepName(ref[2])
	return d.stages[name], key, ok
}
