package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// decodeLocals evaluates locals after those that they refer to, whatever their order in the files.
func (d *decoder) decodeLocals() {
	l := localsPass{d: d, attrs: map[string]*hclsyntax.Attribute{}, values: map[string]cty.Value{}}
	var order []*hclsyntax.Attribute
	for _, block := range d.blocks["locals"] {
		for _, inner := range block.Body.Blocks {
			d.failAt(inner.TypeRange, "Block inside locals", fmt.Sprintf("A local is NAME = VALUE: write %s = { ... }.", inner.Type))
		}
		for _, attr := range sortedAttrs(block.Body.Attributes) {
			if first := l.attrs[attr.Name]; first != nil {
				d.failAt(attr.NameRange, fmt.Sprintf("Local %q is defined twice", attr.Name),
					fmt.Sprintf("The first stands at %s. Rename or remove one of them.", place(first.SrcRange)))
				continue
			}
			l.attrs[attr.Name] = attr
			order = append(order, attr)
		}
	}
	for _, attr := range order {
		l.visit(attr)
	}
	d.locals = cty.ObjectVal(l.values)
}

// localsPass is the depth-first walk over locals.
type localsPass struct {
	d      *decoder
	attrs  map[string]*hclsyntax.Attribute
	values map[string]cty.Value // of those that are done
	path   []string             // those being visited
}

func (l *localsPass) visit(attr *hclsyntax.Attribute) {
	if _, done := l.values[attr.Name]; done {
		return
	}
	if i := slices.Index(l.path, attr.Name); i >= 0 {
		l.cycle(l.path[i:])
		return
	}
	l.path = append(l.path, attr.Name)
	for _, ref := range attr.Expr.Variables() {
		if ref.RootName() != "local" || len(ref) < 2 {
			continue
		}
		if name, ok := stepName(ref[1]); ok && l.attrs[name] != nil {
			l.visit(l.attrs[name])
		}
	}
	l.path = l.path[:len(l.path)-1]
	if _, done := l.values[attr.Name]; done { // part of a cycle
		return
	}
	l.values[attr.Name] = l.evaluate(attr)
}

func (l *localsPass) evaluate(attr *hclsyntax.Attribute) cty.Value {
	s := &scope{what: "A local", ctx: &hcl.EvalContext{Functions: l.d.funcs, Variables: map[string]cty.Value{
		"var": l.d.vars, "local": l.inScope(attr),
	}}}
	if v, ok := l.d.eval(s, attr.Expr); ok {
		return roundNumbers(v)
	}
	return cty.DynamicVal
}

// inScope holds the locals that attr names, which are done, so that a thousand locals do not copy each other; the
// others only lend their names to the search for a nearest one.
func (l *localsPass) inScope(attr *hclsyntax.Attribute) cty.Value {
	values := map[string]cty.Value{}
	for _, ref := range attr.Expr.Variables() {
		if ref.RootName() != "local" || len(ref) < 2 {
			continue
		}
		name, _ := stepName(ref[1])
		if v, done := l.values[name]; done {
			values[name] = v
		} else {
			for other := range l.attrs {
				if _, has := values[other]; !has {
					values[other] = cty.DynamicVal
				}
			}
		}
	}
	return cty.ObjectVal(values)
}

// cycle reports a cycle once, at its first local, and gives all of them no value.
func (l *localsPass) cycle(names []string) {
	chain := "local." + strings.Join(append(slices.Clone(names), names[0]), " -> local.")
	l.d.failAt(l.attrs[names[0]].SrcRange, "Locals refer to each other in a circle", chain+". Give one of them a value of its own.")
	for _, name := range names {
		l.values[name] = cty.DynamicVal
	}
}
