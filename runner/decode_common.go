package runner

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// readInPlace reads what only commands have: code, tools and environment.
func (body *stageBody) readInPlace() {
	body.fillFrom("code", &body.step.Code)
	body.fillFrom("tools", &body.step.Tools)
	body.fillFrom("env", &body.step.Env)
	body.fillFrom("pass_env", &body.step.PassEnv)
	body.readSecretEnv()
	if attr := body.b.attrs["env"]; attr != nil {
		body.hideEnv(attr)
	}
	for name, names := range map[string][]string{"env": sortedKeys(body.step.Env), "secret_env": sortedKeys(body.step.SecretEnv), "pass_env": body.step.PassEnv} {
		for _, one := range names {
			if one == "" || strings.ContainsAny(one, "=\x00") {
				body.d.failAt(body.b.attrs[name].Expr.Range(), fmt.Sprintf("%q is no name for an environment variable", one), `Names have no "=" in them.`)
			}
		}
	}
	for i, pattern := range body.step.Code {
		if pattern == "" {
			body.d.failAt(rangeIn(body.b.attrs["code"].Expr, strconv.Itoa(i)), "code names an empty path", `Name files, folders or patterns: code = ["train.py", "lib/**/*.py"].`)
			continue
		}
		body.step.Code[i] = body.d.relative(pattern)
	}
}

// fillFrom evaluates a setting whose references are inputs into a field of the step.
func (body *stageBody) fillFrom(name string, field any) {
	if attr := body.b.attrs[name]; attr != nil {
		if v, ok := body.evalSetting(attr); ok {
			body.d.setField(reflect.ValueOf(field).Elem(), attr, v)
		}
	}
}

// readSecretEnv is the one place for sensitive values.
func (body *stageBody) readSecretEnv() {
	attr := body.b.attrs["secret_env"]
	if attr == nil {
		return
	}
	v, ok := body.d.eval(body.settings, attr.Expr)
	if !ok {
		return
	}
	v, marks := v.UnmarkDeep()
	body.note(attr, v, marks)
	body.d.setField(reflect.ValueOf(&body.step.SecretEnv).Elem(), attr, v)
}

// hideEnv finds which values of env come from env().
func (body *stageBody) hideEnv(attr *hclsyntax.Attribute) {
	v, diags := attr.Expr.Value(body.settings.ctx)
	if diags.HasErrors() {
		return
	}
	if bare, _ := v.Unmark(); !isObject(bare) {
		return
	}
	for name, value := range valueMap(v) {
		if holdsMark(value, envMark{}) {
			if body.step.EnvHidden == nil {
				body.step.EnvHidden = map[string]bool{}
			}
			body.step.EnvHidden[name] = true
		}
	}
}

// readCommon reads what every stage has and no key counts.
func (body *stageBody) readCommon(stage Stage) {
	step := body.step
	body.fillCommon("desc", &step.Desc)
	body.fillCommon("always", &step.Always)
	body.fillCommon("frozen", &step.Frozen)
	if attr := body.fillCommon("retries", &step.Retries); attr != nil && step.Retries < 0 {
		body.d.failAt(attr.Expr.Range(), "retries is below 0", "Give the number of further tries: retries = 2.")
	}
	body.readTimeout()
	body.readSandbox()
	body.readResources(stage)
	body.readDependsOn()
	step.Metrics = body.readOutputNames("metrics", func(port Port) bool { return port.Metrics })
	step.Plots = body.readOutputNames("plots", func(port Port) bool { return port.Plots })
}

func (body *stageBody) fillCommon(name string, field any) *hclsyntax.Attribute {
	attr := body.b.attrs[name]
	if attr == nil {
		return nil
	}
	v, ok := body.d.evalPublic(body.plain, attr)
	if !ok || !body.d.setField(reflect.ValueOf(field).Elem(), attr, v) {
		return nil
	}
	return attr
}

func (body *stageBody) readTimeout() {
	attr := body.fillCommon("timeout", &body.step.Timeout)
	if attr != nil && body.step.Timeout < 0 {
		body.d.failAt(attr.Expr.Range(), "timeout is below 0", `Give a duration: timeout = "6h".`)
		body.step.Timeout = time.Duration(0)
	}
}

func (body *stageBody) readSandbox() {
	attr := body.fillCommon("sandbox", &body.step.Sandbox)
	if attr == nil {
		return
	}
	switch body.step.Sandbox {
	case "true", "warn":
	case "false", "":
		body.step.Sandbox = ""
	default:
		body.d.failAt(attr.Expr.Range(), fmt.Sprintf("sandbox is %q", body.step.Sandbox), `It is true, false or "warn".`)
	}
}

// readResources reads resources over those that the kind asks for.
func (body *stageBody) readResources(stage Stage) {
	attr := body.b.attrs["resources"]
	if attr == nil {
		return
	}
	v, ok := body.d.evalPublic(body.plain, attr)
	if !ok {
		return
	}
	v = plain(v)
	if !isObject(v) {
		body.d.failAt(attr.Expr.Range(), "resources takes an object", fmt.Sprintf(`Here stands %s. Write it as: resources = { gpu = 1, ram = "40GiB" }.`, valueKind(v)))
		return
	}
	res := Resources{CPU: 1}
	if body.b.kind.Resources != nil {
		res = body.b.kind.Resources(stage)
	}
	for name, amount := range v.AsValueMap() {
		if !amount.IsNull() {
			body.setResource(attr, &res, name, amount)
		}
	}
	body.step.Resources = &res
}

func (body *stageBody) setResource(attr *hclsyntax.Attribute, res *Resources, name string, v cty.Value) {
	d, at := body.d, rangeIn(attr.Expr, name)
	if name == "ram" {
		text, _ := textOf(v)
		bytes, err := parseSize(text)
		if err != nil {
			d.failAt(at, "ram takes a size", fmt.Sprintf("%s is none. Write it as: ram = \"40GiB\".", orKind(text, v)))
		}
		res.RAM = bytes
		return
	}
	f, ok := numberIn(v)
	if !ok || f < 0 || f != math.Trunc(f) || f > math.MaxInt32 {
		text, _ := textOf(v)
		d.failAt(at, fmt.Sprintf("Resource %q takes a whole number from 0", name), fmt.Sprintf("Here stands %s.", orKind(text, v)))
		return
	}
	switch name {
	case "cpu":
		res.CPU = int(f)
	case "gpu":
		res.GPU = int(f)
	default:
		pools := sortedKeys(d.p.Settings.Pools)
		if _, known := d.p.Settings.Pools[name]; !known {
			d.failAt(at, fmt.Sprintf("There is no resource %q", name), suggest(name, append(pools, "cpu", "gpu", "ram"), "resources")+
				fmt.Sprintf(" A pool of one's own is declared so: lpipe { pools = { %s = 2 } }.", name))
			return
		}
		if res.Pool == nil {
			res.Pool = map[string]int{}
		}
		res.Pool[name] = int(f)
	}
}

func orKind(text string, v cty.Value) string {
	if text == "" {
		return valueKind(v)
	}
	return strconv.Quote(text)
}

var sizeForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([kKMGTP]i?)?B?$`) })

// parseSize reads "40GiB", "1.5GB", "512MiB" or a bare number of bytes.
func parseSize(text string) (int64, error) {
	parts := sizeForm().FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("%q is no size", text)
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if err != nil {
		return 0, err
	}
	if unit := parts[2]; unit != "" {
		base := 1000.0
		if strings.HasSuffix(unit, "i") {
			base = 1024
		}
		n *= math.Pow(base, float64(1+strings.Index("KMGTP", strings.ToUpper(unit[:1]))))
	}
	if n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return int64(n), nil
}

// readDependsOn reads references to stages, which order and nothing else.
func (body *stageBody) readDependsOn() {
	attr := body.b.attrs["depends_on"]
	if attr == nil {
		return
	}
	list, ok := attr.Expr.(*hclsyntax.TupleConsExpr)
	if !ok {
		body.d.failAt(attr.Expr.Range(), "depends_on takes a list of stages", `Write it as: depends_on = [stage.a, stage.b["8"]].`)
		return
	}
	for _, expr := range list.Exprs {
		for _, step := range body.dependency(expr) {
			if !slices.Contains(body.step.DependsOn, step) {
				body.step.DependsOn = append(body.step.DependsOn, step)
			}
		}
	}
}

// dependency resolves one entry of depends_on: stage.a, stage.b["8"] or stage.b[each.key].
func (body *stageBody) dependency(expr hclsyntax.Expression) []string {
	d, collection, key := body.d, expr, ""
	if index, ok := expr.(*hclsyntax.IndexExpr); ok {
		v, ok := d.evalPublic(body.plain, &hclsyntax.Attribute{Name: "depends_on", Expr: index.Key})
		if !ok {
			return nil
		}
		key, _ = textOf(plain(v))
		collection = index.Collection
	}
	reference, ok := collection.(*hclsyntax.ScopeTraversalExpr)
	if !ok || reference.Traversal.RootName() != "stage" {
		d.failAt(expr.Range(), "depends_on takes stages", `Write it as: depends_on = [stage.a, stage.b["8"]].`)
		return nil
	}
	ref := reference.Traversal
	if !d.checkStage(body.plain, ref) {
		return nil
	}
	name, _ := stepName(ref[1])
	b := d.stages[name]
	if b.broken {
		return nil
	}
	if b.instanced && len(ref) > 2 {
		key, _ = stepName(ref[2])
	}
	var steps []string
	for _, inst := range b.instances {
		if inst.off == nil && (key == "" || !b.instanced || inst.key == key) {
			steps = append(steps, inst.step.Name)
		}
	}
	if _, off := b.off[key]; len(steps) == 0 && key != "" && !off {
		d.failAt(expr.Range(), fmt.Sprintf("Stage %q has no instance %q", name, key), instancesRemedy(b, key))
	}
	return steps
}

// readOutputNames reads metrics or plots; left out they are those of the kind's ports that are marked so.
func (body *stageBody) readOutputNames(name string, marked func(Port) bool) []string {
	var outputs, names []string
	for _, out := range body.step.Out {
		outputs = append(outputs, out.Name)
		if port := portNamed(body.inst.outPorts, out.Name); port != nil && marked(*port) {
			names = append(names, out.Name)
		}
	}
	var given []string
	attr := body.fillCommon(name, &given)
	if attr == nil {
		return names
	}
	for i, one := range given {
		if !slices.Contains(outputs, one) {
			body.d.failAt(rangeIn(attr.Expr, strconv.Itoa(i)), fmt.Sprintf("%s names %q, which is no output of the stage", name, one), suggest(one, outputs, "outputs"))
		}
	}
	return given
}
