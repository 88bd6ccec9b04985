package runner

import (
	"fmt"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// experimentBlock holds the settings of an experiment that are plain values.
type experimentBlock struct {
	Targets []string      `hcl:"targets,optional"`
	Metric  string        `hcl:"metric,optional"`
	Goal    string        `hcl:"goal,optional"`
	Desc    string        `hcl:"desc,optional"`
	Halving *halvingBlock `hcl:"halving,optional"`
}

var experimentVars = []string{"set", "matrix", "exclude", "include"}

// decodeExperiments reads the experiment blocks; each names variables and targets that there are.
func (d *decoder) decodeExperiments() {
	blocks := map[string]*hclsyntax.Block{}
	for _, block := range d.blocks["experiment"] {
		name := block.Labels[0]
		if !d.checkName(block, 0, "experiment") {
			continue
		}
		if first := blocks[name]; first != nil {
			d.declaredTwice(block, fmt.Sprintf("Experiment %q", name), first)
			continue
		}
		blocks[name] = block
		d.p.Experiments = append(d.p.Experiments, d.decodeExperiment(block))
	}
}

func (d *decoder) decodeExperiment(block *hclsyntax.Block) *ExperimentBlock {
	var settings experimentBlock
	rest := *block
	rest.Body = &hclsyntax.Body{Attributes: block.Body.Attributes}
	var halving []*hclsyntax.Block
	for _, inner := range block.Body.Blocks {
		if inner.Type == "halving" {
			halving = append(halving, inner)
		} else {
			rest.Body.Blocks = append(rest.Body.Blocks, inner)
		}
	}
	d.fillBlock(&rest, "an experiment", &settings, experimentVars...)
	d.oneOf(block, "goal", settings.Goal, "max", "min")
	exp := &ExperimentBlock{Name: block.Labels[0], Targets: settings.Targets, Metric: settings.Metric, Goal: settings.Goal,
		Desc: settings.Desc, Range: block.DefRange()}
	d.checkTargets(block, exp)
	exp.Halving = d.decodeHalving(block, halving, settings.Halving, exp)
	attrs := block.Body.Attributes
	if attr := attrs["set"]; attr != nil {
		exp.Set = d.experimentSet(attr)
	}
	if attr := attrs["matrix"]; attr != nil {
		exp.Matrix = d.experimentMatrix(attr)
	}
	for name, list := range map[string]*[]map[string]string{"exclude": &exp.Exclude, "include": &exp.Include} {
		if attr := attrs[name]; attr != nil {
			*list = d.experimentPoints(attr, exp)
		}
	}
	return exp
}

// checkTargets holds targets and the metric's stage against the stages that there are.
func (d *decoder) checkTargets(block *hclsyntax.Block, exp *ExperimentBlock) {
	known := sortedKeys(d.stages)
	exists := func(target string) bool {
		name, _, _ := strings.Cut(target, "@")
		if strings.ContainsAny(name, "*?[/") {
			_, err := path.Match(target, "")
			return err == nil // a pattern, or the path of an output
		}
		return d.stages[name] != nil || strings.Contains(name, ".")
	}
	for i, target := range exp.Targets {
		if !exists(target) {
			d.failAt(rangeIn(block.Body.Attributes["targets"].Expr, fmt.Sprint(i)), fmt.Sprintf("There is no stage %q", target), suggest(target, known, "stages"))
		}
	}
	attr := block.Body.Attributes["metric"]
	if attr == nil || exp.Metric == "" {
		return
	}
	name, _, dotted := strings.Cut(exp.Metric, ".")
	block_, _, _ := strings.Cut(name, "@")
	switch {
	case !dotted:
		d.failAt(attr.Expr.Range(), "metric names no stage", `Write it as: metric = "STAGE.NAME".`)
	case d.stages[block_] == nil:
		d.failAt(attr.Expr.Range(), fmt.Sprintf("There is no stage %q", block_), suggest(block_, known, "stages"))
	}
}

// variableJSON converts a value to a variable's type and renders it.
func (d *decoder) variableJSON(attr *hclsyntax.Attribute, name string, v cty.Value, path ...string) (string, bool) {
	at := rangeIn(attr.Expr, path...)
	declared := d.knownVariable(name, at)
	if declared == nil {
		return "", false
	}
	if declared.sensitive {
		d.failAt(at, fmt.Sprintf("Variable %q is sensitive", name), "An experiment records its values, so it cannot set this one.")
		return "", false
	}
	typed, err := convert.Convert(plain(v), declared.typ)
	if err != nil {
		d.failAt(at, fmt.Sprintf("Variable %q cannot take this value", name), fmt.Sprintf("Its type is declared at %s: %s.", place(declared.block.DefRange()), convertError(err)))
		return "", false
	}
	return canonicalJSON(typed), true
}

func (d *decoder) experimentObject(attr *hclsyntax.Attribute) (map[string]cty.Value, bool) {
	v, ok := d.evalPublic(d.globalScope("An experiment"), attr)
	if !ok {
		return nil, false
	}
	if bare, _ := v.Unmark(); !isObject(bare) {
		d.failAt(attr.Expr.Range(), attr.Name+" takes an object of variables", fmt.Sprintf("Write it as: %s = { NAME = VALUE }.", attr.Name))
		return nil, false
	}
	return valueMap(v), true
}

func (d *decoder) experimentSet(attr *hclsyntax.Attribute) map[string]string {
	values, ok := d.experimentObject(attr)
	if !ok {
		return nil
	}
	set := map[string]string{}
	for _, name := range sortedKeys(values) {
		if text, ok := d.variableJSON(attr, name, values[name], name); ok {
			set[name] = text
		}
	}
	return set
}

func (d *decoder) experimentMatrix(attr *hclsyntax.Attribute) map[string][]string {
	axes, ok := d.experimentObject(attr)
	if !ok {
		return nil
	}
	matrix := map[string][]string{}
	for _, name := range sortedKeys(axes) {
		bare, _ := axes[name].Unmark()
		if !isList(bare) {
			d.failAt(rangeIn(attr.Expr, name), fmt.Sprintf("matrix.%s takes a list", name), fmt.Sprintf("Here stands %s. Write it as: %s = [...].", valueKind(bare), name))
			continue
		}
		for i, v := range valueList(axes[name]) {
			if text, ok := d.variableJSON(attr, name, v, name, fmt.Sprint(i)); ok {
				matrix[name] = append(matrix[name], text)
			}
		}
	}
	return matrix
}

// experimentPoints reads a list of objects of variables; exclude may only name those of the matrix.
func (d *decoder) experimentPoints(attr *hclsyntax.Attribute, exp *ExperimentBlock) []map[string]string {
	v, ok := d.evalPublic(d.globalScope("An experiment"), attr)
	if !ok {
		return nil
	}
	bare, _ := v.Unmark()
	if !isList(bare) {
		d.failAt(attr.Expr.Range(), attr.Name+" takes a list of objects", fmt.Sprintf("Write it as: %s = [{ NAME = VALUE }].", attr.Name))
		return nil
	}
	var points []map[string]string
	for i, one := range valueList(v) {
		if bare, _ := one.Unmark(); !isObject(bare) {
			d.failAt(rangeIn(attr.Expr, fmt.Sprint(i)), attr.Name+" takes a list of objects", fmt.Sprintf("Write it as: %s = [{ NAME = VALUE }].", attr.Name))
			continue
		}
		point := map[string]string{}
		for _, name := range sortedKeys(valueMap(one)) {
			if _, axis := exp.Matrix[name]; attr.Name == "exclude" && !axis && d.variable(name) != nil {
				d.failAt(rangeIn(attr.Expr, fmt.Sprint(i), name), fmt.Sprintf("exclude names %q, which the matrix does not vary", name), suggest(name, sortedKeys(exp.Matrix), "names in the matrix"))
				continue
			}
			if text, ok := d.variableJSON(attr, name, valueMap(one)[name], fmt.Sprint(i), name); ok {
				point[name] = text
			}
		}
		points = append(points, point)
	}
	return points
}
