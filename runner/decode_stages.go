package runner

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// stageBlock is a stage block on its way to its steps.
type stageBlock struct {
	block *hclsyntax.Block
	attrs hclsyntax.Attributes
	name  string
	kind  *Kind

	state     headerState
	broken    bool                 // a mistake in the header is reported: nothing that hangs on the stage is
	instanced bool                 // has for_each or matrix
	instances []*instance          // by key; of a block without instances the one, even if it is switched off
	byKey     map[string]*instance // of those in instances
	off       map[string]hcl.Range // instances switched off, with their `when`
	value     cty.Value            // what stage.<name> is
}

type headerState int

const (
	headerNew headerState = iota
	headerOpen
	headerDone
)

// instance is one step of a stage block.
type instance struct {
	key               string
	each              cty.Value // {key, value}; NilVal without for_each and matrix
	off               *hcl.Range
	step              *Step
	inPorts, outPorts []Port
}

// Attributes of every stage; those of the header give names, instances and paths, and are read first.
var (
	headerAttrs  = []string{"for_each", "matrix", "when", "out"}
	commonAttrs  = []string{"in", "desc", "resources", "timeout", "retries", "depends_on", "always", "frozen", "sandbox", "metrics", "plots"}
	inPlaceAttrs = []string{"code", "tools", "env", "pass_env", "secret_env"}
)

// declareStages finds every stage block's kind and name.
func (d *decoder) declareStages() {
	for _, block := range d.blocks["stage"] {
		b := &stageBlock{block: block, attrs: block.Body.Attributes, name: block.Labels[1], kind: d.kinds[block.Labels[0]],
			byKey: map[string]*instance{}, off: map[string]hcl.Range{}, value: cty.DynamicVal}
		if b.kind == nil {
			b.broken, b.state = true, headerDone
			d.failAt(block.LabelRanges[0], fmt.Sprintf("Unknown kind %q", block.Labels[0]), suggest(block.Labels[0], slices.Collect(maps.Keys(d.kinds)), "kinds"))
		}
		if !d.checkName(block, 1, "stage") {
			continue
		}
		if first := d.stages[b.name]; first != nil {
			d.declaredTwice(block, fmt.Sprintf("Stage %q", b.name), first.block)
			continue
		}
		d.stages[b.name] = b
		d.stageOrder = append(d.stageOrder, b)
	}
}

// readHeader evaluates a stage's instances, `when` and outputs, after those of the stages that they refer to.
func (d *decoder) readHeader(b *stageBlock) {
	if b.state != headerNew {
		if b.state == headerOpen {
			d.headerCycle(b)
		}
		return
	}
	b.state = headerOpen
	d.headers = append(d.headers, b)
	named := map[string]cty.Value{}
	for _, name := range headerAttrs {
		if attr := b.attrs[name]; attr != nil {
			for _, other := range stagesNamed(attr.Expr) {
				if d.stages[other] != nil {
					d.readHeader(d.stages[other])
					named[other] = d.stages[other].value
				}
			}
		}
	}
	d.headers = d.headers[:len(d.headers)-1]
	if !b.broken {
		s := &scope{ctx: d.base(), what: "This setting"}
		if len(named) > 0 {
			s = s.child(map[string]cty.Value{"stage": cty.ObjectVal(named)})
		}
		d.instantiate(s, b)
	}
	if !b.broken {
		b.value = stageValue(b)
	}
	b.state = headerDone
}

// stagesNamed lists the stages that an expression refers to by name.
func stagesNamed(expr hclsyntax.Expression) []string {
	var names []string
	for _, ref := range expr.Variables() {
		if ref.RootName() == "stage" && len(ref) > 1 {
			if name, ok := stepName(ref[1]); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

func (d *decoder) headerCycle(b *stageBlock) {
	cycle := d.headers[slices.Index(d.headers, b):]
	var names []string
	for _, one := range cycle {
		one.broken = true
		names = append(names, "stage."+one.name)
	}
	names = append(names, names[0])
	d.failAt(b.block.DefRange(), "Stages wait for each other's instances in a circle", strings.Join(names, " -> ")+
		". Each names the next in for_each, matrix, when or out, which are read before anything runs: take one of them from a variable or local.")
}

// base is what every stage sees: variables, locals, sources.
func (d *decoder) base() *hcl.EvalContext {
	if d.baseCtx == nil {
		d.baseCtx = &hcl.EvalContext{Functions: d.funcs, Variables: map[string]cty.Value{"var": d.vars, "local": d.locals, "source": d.sources}}
	}
	return d.baseCtx
}

// instantiate makes the instances of a block and reads what each is called and writes.
func (d *decoder) instantiate(s *scope, b *stageBlock) {
	instances, ok := d.expand(s, b)
	if !ok {
		b.broken = true
		return
	}
	for _, inst := range instances {
		is := s
		if inst.each != cty.NilVal {
			is = s.child(map[string]cty.Value{"each": inst.each})
		}
		if !d.readWhen(is, b, inst) {
			b.broken = true
			continue
		}
		name := b.name
		if b.instanced {
			name += "@" + inst.key
		}
		inst.step = &Step{Name: name, Block: b.name, Kind: b.kind, Range: b.block.DefRange()}
		d.choosePorts(is, b, inst)
		if !d.readOut(is, b, inst) {
			b.broken = true
			continue
		}
		if inst.off != nil {
			d.p.Off = append(d.p.Off, name)
			if b.instanced {
				b.off[inst.key] = *inst.off
				continue
			}
		}
		b.instances = append(b.instances, inst)
		b.byKey[inst.key] = inst
	}
}

// readWhen evaluates `when`; left out it is true.
func (d *decoder) readWhen(s *scope, b *stageBlock, inst *instance) bool {
	attr := b.attrs["when"]
	if attr == nil {
		return true
	}
	v, ok := d.evalPublic(s, attr)
	if !ok {
		return false
	}
	on, err := convert.Convert(plain(v), cty.Bool)
	if err != nil || on.IsNull() {
		d.failAt(attr.Expr.Range(), "when takes true or false", fmt.Sprintf("Here stands %s. Write a condition: when = var.size == \"72B\".", valueKind(v)))
		return false
	}
	if on.False() {
		inst.off = attr.SrcRange.Ptr()
	}
	return true
}

// choosePorts asks the kind which ports a stage with these settings has. Settings that name other stages cannot
// choose, for their values come from the outputs that are being found here.
func (d *decoder) choosePorts(s *scope, b *stageBlock, inst *instance) {
	inst.inPorts, inst.outPorts = b.kind.In, b.kind.Out
	if b.kind.Ports == nil {
		return
	}
	quiet, done := d.quiet() // mistakes are reported when the body is read
	defer done()
	stage := b.kind.New()
	target := settingsStruct(stage)
	for _, f := range d.fieldsOf(b.kind) {
		attr := b.attrs[f.name]
		if attr == nil || refersTo(attr.Expr, "stage", "self") {
			continue
		}
		if v, ok := quiet.eval(s, attr.Expr); ok {
			_ = setValue(target.Field(f.index), plain(v))
		}
	}
	given := map[string]bool{}
	if attr := b.attrs["in"]; attr != nil {
		given = quiet.namesGiven(s, attr.Expr)
	}
	inst.inPorts, inst.outPorts = b.kind.Ports(stage, given)
}

// namesGiven lists the names of an object that are not null as far as that can be told before the outputs of
// other stages are known.
func (d *decoder) namesGiven(s *scope, expr hclsyntax.Expression) map[string]bool {
	given := map[string]bool{}
	object, ok := expr.(*hclsyntax.ObjectConsExpr)
	if !ok {
		if !refersTo(expr, "stage", "self") {
			if v, ok := d.eval(s, expr); ok && isObject(v) {
				for name, one := range valueMap(v) {
					given[name] = !one.IsNull()
				}
			}
		}
		return given
	}
	for _, item := range object.Items {
		name, ok := literalKey(item.KeyExpr)
		if !ok {
			continue
		}
		given[name] = true
		if !refersTo(item.ValueExpr, "stage", "self") {
			if v, ok := d.eval(s, item.ValueExpr); ok && v.IsNull() {
				delete(given, name)
			}
		}
	}
	return given
}

func refersTo(expr hclsyntax.Expression, roots ...string) bool {
	for _, ref := range expr.Variables() {
		if slices.Contains(roots, ref.RootName()) {
			return true
		}
	}
	return false
}

// fieldsOf are the settings of a kind.
func (d *decoder) fieldsOf(kind *Kind) []settingField {
	fields, ok := d.fields[kind.Name]
	if !ok {
		fields = settingFields(settingsStruct(kind.New()).Type())
		d.fields[kind.Name] = fields
	}
	return fields
}

// stageValue is what stage.<name> evaluates to: its outputs' paths, or an object of instances with those.
func stageValue(b *stageBlock) cty.Value {
	values := make(map[string]cty.Value, len(b.instances))
	for _, inst := range b.instances {
		prefix := "stage." + b.name
		if b.instanced {
			prefix += fmt.Sprintf("[%q]", inst.key)
		}
		outs := make(map[string]cty.Value, len(inst.step.Out))
		for _, out := range inst.step.Out {
			mark := &refMark{path: out.Path, off: inst.off, name: prefix + "." + out.Name}
			v := cty.StringVal(out.Path)
			if inst.off != nil {
				v = cty.NullVal(cty.String)
			}
			outs[out.Name] = v.Mark(mark)
		}
		if !b.instanced {
			return cty.ObjectVal(outs)
		}
		values[inst.key] = cty.ObjectVal(outs)
	}
	return cty.ObjectVal(values)
}

// indexStages builds the object behind stage once for all bodies, and lists the steps.
func (d *decoder) indexStages() {
	values := make(map[string]cty.Value, len(d.stageOrder))
	for _, b := range d.stageOrder {
		values[b.name] = b.value
		if b.broken {
			values[b.name] = cty.DynamicVal
		}
		for _, inst := range b.instances {
			if inst.off == nil {
				d.p.Steps = append(d.p.Steps, inst.step)
			}
		}
	}
	d.stageValue = cty.ObjectVal(values)
}
