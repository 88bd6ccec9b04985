package runner

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// variable is a variable block on its way to its value.
type variable struct {
	block       *hclsyntax.Block
	name        string
	typ         cty.Type // DynamicPseudoType without a type
	defaults    *typeexpr.Defaults
	description string
	sensitive   bool
	validations []*hclsyntax.Block

	value  cty.Value // NilVal until one is given
	from   string
	at     hcl.Range // where the value that won stands
	broken bool      // a mistake with it is reported
}

// decodeVariables reads the variable blocks, lets each source of values speak in turn, and checks what won.
func (d *decoder) decodeVariables() {
	for _, block := range d.blocks["variable"] {
		d.declareVariable(block)
	}
	d.readAutoVars()
	d.readProfiles()
	d.readEnvironment()
	for _, name := range d.opts.VarFiles {
		d.readVarFile(name, "--var-file "+name)
	}
	d.readGiven(d.opts.Vars, "--var")
	d.readExperiment()

	values := make(map[string]cty.Value, len(d.variables))
	for _, v := range d.variables {
		values[v.name] = d.settle(v)
	}
	d.vars = cty.ObjectVal(values)
	d.validate()
}

var variableAttrs = []string{"type", "default", "description", "sensitive"}

func (d *decoder) declareVariable(block *hclsyntax.Block) {
	v := &variable{block: block, name: block.Labels[0], typ: cty.DynamicPseudoType, at: block.DefRange()}
	if !d.checkName(block, 0, "variable") {
		return
	}
	if first := d.variable(v.name); first != nil {
		d.declaredTwice(block, fmt.Sprintf("Variable %q", v.name), first.block)
		return
	}
	d.variables = append(d.variables, v)
	d.variableNamed[v.name] = v
	d.checkAttrs(block.Body, variableAttrs, "a variable", "validation")
	for _, inner := range block.Body.Blocks {
		if inner.Type == "validation" {
			d.checkAttrs(inner.Body, []string{"condition", "error_message"}, "a validation")
			v.validations = append(v.validations, inner)
		}
	}
	d.readVariable(v)
}

// readVariable reads type, flags and default.
func (d *decoder) readVariable(v *variable) {
	attrs := v.block.Body.Attributes
	if attr := attrs["type"]; attr != nil {
		typ, defaults, diags := typeexpr.TypeConstraintWithDefaults(attr.Expr)
		if diags.HasErrors() {
			d.failAt(attr.Expr.Range(), fmt.Sprintf("Type of variable %q is none", v.name), "Types are string, number, bool, any, "+
				"list(T), set(T), map(T) and object({ a = T, b = optional(T, default) }). "+diags[0].Detail)
			v.broken = true
		} else {
			v.typ, v.defaults = typ, defaults
		}
	}
	if attr := attrs["sensitive"]; attr != nil {
		d.literal(attr, &v.sensitive, "true or false")
	}
	if attr := attrs["description"]; attr != nil {
		d.literal(attr, &v.description, "a text")
	}
	if attr := attrs["default"]; attr != nil {
		if value, ok := d.eval(d.valueScope("A default"), attr.Expr); !ok {
			v.broken = true
		} else {
			if v.typ == cty.DynamicPseudoType && value.Type().IsPrimitiveType() {
				v.typ = value.Type() // a variable without a type has that of its default
			}
			d.give(v, value, "default", attr.Expr.Range())
		}
	}
}

// valueScope is for values of variables: functions only, for nothing else has a value yet.
func (d *decoder) valueScope(what string) *scope {
	return &scope{ctx: &hcl.EvalContext{Functions: d.funcs}, what: what}
}

func (d *decoder) variable(name string) *variable { return d.variableNamed[name] }

// give offers a variable a value, which wins over those offered before.
func (d *decoder) give(v *variable, value cty.Value, from string, at hcl.Range) {
	value, marks := value.UnmarkDeep()
	if v.defaults != nil && !value.IsNull() {
		value = v.defaults.Apply(value)
	}
	typed, err := convert.Convert(value, v.typ)
	if err != nil {
		v.broken = true
		detail := fmt.Sprintf("Its type is %s (%s): %s.", typeexpr.TypeString(v.typ), place(v.block.DefRange()), convertError(err))
		if v.sensitive {
			detail = fmt.Sprintf("Its type is %s. The value, which is not shown, comes from: %s.", typeexpr.TypeString(v.typ), from)
			at = v.block.DefRange() // the line of the value would show it
		}
		d.failAt(at, fmt.Sprintf("Variable %q cannot take this value", v.name), detail)
		return
	}
	v.value, v.from, v.at = roundNumbers(typed).WithMarks(marks), from, at
}

// convertError is cty's message with the path to the value that does not fit.
func convertError(err error) string {
	if pathErr, ok := err.(cty.PathError); ok && len(pathErr.Path) > 0 {
		var b strings.Builder
		for _, step := range pathErr.Path {
			switch step := step.(type) {
			case cty.GetAttrStep:
				fmt.Fprintf(&b, ".%s", step.Name)
			case cty.IndexStep:
				if step.Key.Type() == cty.String {
					fmt.Fprintf(&b, "[%q]", step.Key.AsString())
				} else {
					fmt.Fprintf(&b, "[%s]", formatNumber(number(step.Key)))
				}
			}
		}
		return strings.TrimPrefix(b.String(), ".") + ": " + pathErr.Error()
	}
	return err.Error()
}

// readAutoVars reads vars.auto.hcl of the workspace.
func (d *decoder) readAutoVars() {
	name := "vars.auto.hcl"
	path := filepath.Join(d.p.Dir, name)
	if len(d.opts.Files) > 0 {
		name = filepath.Join(filepath.Dir(d.opts.Files[0]), name)
	}
	if d.exists(path) {
		d.readVarFile(name, name)
	}
}

// readVarFile reads NAME = VALUE lines.
func (d *decoder) readVarFile(name, from string) {
	body, ok := d.parse(name)
	if !ok {
		return
	}
	for _, block := range body.Blocks {
		d.failAt(block.TypeRange, "Block in a file of values", fmt.Sprintf("Such a file holds NAME = VALUE lines. Write %s = ..., or move the "+
			"block to pipeline.hcl.", block.Type))
	}
	for _, attr := range sortedAttrs(body.Attributes) {
		d.giveAttr(attr.Name, attr.NameRange, attr.Expr, from)
	}
}

// giveAttr evaluates an expression as a variable's value.
func (d *decoder) giveAttr(name string, at hcl.Range, expr hclsyntax.Expression, from string) {
	v := d.knownVariable(name, at)
	if v == nil {
		return
	}
	if value, ok := d.eval(d.valueScope("A variable's value"), expr); ok {
		d.give(v, value, from, expr.Range())
	} else {
		v.broken = true
	}
}

func (d *decoder) knownVariable(name string, at hcl.Range) *variable {
	v := d.variable(name)
	if v == nil {
		d.failAt(at, fmt.Sprintf("There is no variable %q", name), d.variableRemedy(name))
	}
	return v
}

func (d *decoder) variableRemedy(name string) string {
	if near := nearestName(name, slices.Collect(maps.Keys(d.variableNamed))); near != "" {
		return fmt.Sprintf("Did you mean %q?", near)
	}
	return fmt.Sprintf("Declare it in pipeline.hcl: variable %q { default = ... }, or remove the value.", name)
}

// readProfiles checks every profile block and gives the values of the chosen one.
func (d *decoder) readProfiles() {
	blocks := map[string]*hclsyntax.Block{}
	for _, block := range d.blocks["profile"] {
		name := block.Labels[0]
		if !d.checkName(block, 0, "profile") {
			continue
		}
		if first := blocks[name]; first != nil {
			d.declaredTwice(block, fmt.Sprintf("Profile %q", name), first)
			continue
		}
		blocks[name] = block
		d.checkAttrs(block.Body, []string{"set", "remote"}, "a profile")
		if name == d.opts.Profile {
			d.useProfile(block)
		} else if attr := block.Body.Attributes["set"]; attr != nil {
			d.profileValues(attr, func(*variable, cty.Value, hcl.Range) {})
		}
	}
	if name := d.opts.Profile; name != "" && blocks[name] == nil {
		d.profileMissing = true
		d.fail(fmt.Sprintf("There is no profile %q", name), suggest(name, slices.Collect(maps.Keys(blocks)), "profiles")+
			fmt.Sprintf(" Declare it: profile %q { set = { ... } }.", name), nil)
	}
}

func (d *decoder) useProfile(block *hclsyntax.Block) {
	d.p.Profile = d.opts.Profile
	if attr := block.Body.Attributes["set"]; attr != nil {
		d.profileValues(attr, func(v *variable, value cty.Value, at hcl.Range) {
			d.give(v, value, "profile "+d.opts.Profile, at)
		})
	}
	if attr := block.Body.Attributes["remote"]; attr != nil {
		d.profileRemote = attr
	}
}

// profileValues evaluates `set` of a profile or experiment: an object of variables.
func (d *decoder) profileValues(attr *hclsyntax.Attribute, give func(*variable, cty.Value, hcl.Range)) {
	value, ok := d.eval(d.valueScope("set"), attr.Expr)
	if !ok {
		return
	}
	if !isObject(value) {
		d.failAt(attr.Expr.Range(), "set takes an object of variables", "Write it as: set = { NAME = VALUE }.")
		return
	}
	values := valueMap(value)
	for _, name := range sortedKeys(values) {
		at := rangeIn(attr.Expr, name)
		if v := d.knownVariable(name, at); v != nil {
			give(v, values[name], at)
		}
	}
}

const varPrefix = "LPIPE_VAR_"

// readEnvironment gives the values of LPIPE_VAR_<name>.
func (d *decoder) readEnvironment() {
	for _, v := range d.variables {
		if text, ok := d.getenv(varPrefix + v.name); ok {
			d.giveText(v, text, varPrefix+v.name)
		}
	}
	for _, env := range slices.Sorted(slices.Values(d.opts.Environ)) {
		env, _, _ = strings.Cut(env, "=")
		name, ok := strings.CutPrefix(env, varPrefix)
		if ok && d.variable(name) == nil {
			d.fail(fmt.Sprintf("%s is set, but there is no variable %q", env, name), d.variableRemedy(name)+
				fmt.Sprintf(" To run without it: unset %s.", env), nil)
		}
	}
}

// readGiven gives NAME=VALUE pairs.
func (d *decoder) readGiven(pairs []string, from string) {
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			d.fail(fmt.Sprintf("%s %q has no value", from, pair), fmt.Sprintf("Write it as %s NAME=VALUE.", from), nil)
			continue
		}
		v := d.variable(name)
		if v == nil {
			d.fail(fmt.Sprintf("%s names a variable %q that there is not", from, name), d.variableRemedy(name), nil)
			continue
		}
		d.giveText(v, text, fmt.Sprintf("%s %s", from, name))
	}
}

// giveText gives a value that is text: verbatim for a string, HCL for other types. Without any type it is HCL if
// it reads as a value, else a string.
func (d *decoder) giveText(v *variable, text, from string) {
	source := strings.TrimSuffix(from, " "+v.name) // "--var", as Variable.From names it
	at := hcl.Range{Filename: from, Start: hcl.InitialPos, End: hcl.InitialPos}
	if v.typ == cty.String {
		d.give(v, cty.StringVal(text), source, at)
		return
	}
	d.giveHCL(v, text, source, from)
}

func (d *decoder) giveHCL(v *variable, text, source, from string) {
	at := hcl.Range{Filename: from, Start: hcl.InitialPos, End: hcl.Pos{Line: 1, Column: 1 + len(text), Byte: len(text)}}
	expr, diags := hclsyntax.ParseExpression([]byte(text), from, hcl.InitialPos)
	if v.typ == cty.DynamicPseudoType && (diags.HasErrors() || len(expr.Variables()) > 0) {
		d.give(v, cty.StringVal(text), source, at)
		return
	}
	if !v.sensitive {
		d.p.HCL[from] = &hcl.File{Bytes: []byte(text)}
	}
	if diags.HasErrors() || len(expr.Variables()) > 0 {
		v.broken = true
		d.failAt(at, fmt.Sprintf("Variable %q cannot take this value", v.name), fmt.Sprintf("Its type is %s (%s), whose values are written as "+
			"in HCL: %s.", typeexpr.TypeString(v.typ), place(v.block.DefRange()), exampleOf(v.typ)))
		return
	}
	useRoundedNumbers(expr)
	if value, ok := d.eval(d.valueScope("A variable's value"), expr); ok {
		d.give(v, value, source, at)
	} else {
		v.broken = true
	}
}

// exampleOf shows how a value of a type is written on the command line.
func exampleOf(t cty.Type) string {
	switch {
	case t == cty.Number:
		return "16, 1e-4"
	case t == cty.Bool:
		return "true, false"
	case t.IsListType() || t.IsSetType() || t.IsTupleType():
		return `'["a", "b"]'`
	}
	return `'{ a = 1 }'`
}

// settle records the value that won and returns it as var.NAME: unknown where a mistake is reported already, so
// that nothing that hangs on it is reported too.
func (d *decoder) settle(v *variable) cty.Value {
	if !v.broken && v.value == cty.NilVal && d.profileMissing {
		v.broken = true // perhaps that profile has it
	}
	if !v.broken && v.value == cty.NilVal {
		v.broken = true
		d.failAt(v.block.DefRange(), fmt.Sprintf("Variable %q has no value", v.name),
			fmt.Sprintf("Give it with --var %[1]s=..., LPIPE_VAR_%[1]s, vars.auto.hcl or a profile, or write a default.", v.name))
	}
	if v.broken {
		return cty.DynamicVal
	}
	if v.sensitive {
		v.value = v.value.Mark(secretMark{})
	}
	shown := Variable{Name: v.name, Description: v.description, From: v.from}
	shown.Sensitive = v.sensitive || holdsMark(v.value, envMark{})
	if !shown.Sensitive {
		shown.Value = canonicalJSON(plain(v.value))
	}
	d.p.Variables = append(d.p.Variables, shown)
	return v.value
}

// validate evaluates the validation blocks once all variables have their values.
func (d *decoder) validate() {
	s := &scope{ctx: &hcl.EvalContext{Functions: d.funcs, Variables: map[string]cty.Value{"var": d.vars}}, what: "A validation"}
	for _, v := range d.variables {
		for _, block := range v.validations {
			condition, message := block.Body.Attributes["condition"], block.Body.Attributes["error_message"]
			if condition == nil || message == nil {
				d.failAt(block.DefRange(), "Validation is not whole", `Write it as: validation { condition = ..., error_message = "..." }, one a line.`)
				continue
			}
			value, ok := d.eval(s, condition.Expr)
			if !ok {
				continue
			}
			holds, err := convert.Convert(plain(value), cty.Bool)
			if err != nil || holds.IsNull() {
				d.failAt(condition.Expr.Range(), "Condition is neither true nor false", "A condition compares: var."+v.name+" >= 1.")
				continue
			}
			if holds.False() {
				d.invalidValue(s, v, message, condition)
			}
		}
	}
}

func (d *decoder) invalidValue(s *scope, v *variable, message, condition *hclsyntax.Attribute) {
	value, ok := d.eval(s, message.Expr)
	if !ok {
		return
	}
	detail := "Its validation says no."
	if text, err := convert.Convert(plain(value), cty.String); err == nil && !text.IsNull() && !holdsMark(value, secretMark{}) {
		detail = text.AsString()
	}
	given := ""
	if !v.sensitive && v.value != cty.NilVal && !v.broken && !holdsMark(v.value, envMark{}) {
		given = " " + canonicalJSON(plain(v.value))
	}
	detail += fmt.Sprintf(" The value%s comes from: %s; the rule stands at %s.", given, v.from, place(condition.SrcRange))
	at := v.at
	if v.sensitive {
		at = v.block.DefRange()
	}
	d.failAt(at, fmt.Sprintf("Variable %q has a value that its validation refuses", v.name), detail)
}
