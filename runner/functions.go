package runner

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are those that expressions may call: cty's standard library under the names that Terraform made
// known, and lpipe's own. None of them depends on time, chance or machine, except through env and files.
func (d *decoder) functions() map[string]function.Function {
	return map[string]function.Function{
		shortestName:  shortestFunc,
		"file":        d.fileFunc(),
		"fileset":     d.filesetFunc(),
		"env":         d.envFunc(),
		"shquote":     shquoteFunc,
		"logspace":    logspaceFunc,
		"basename":    pathFunc(path.Base),
		"dirname":     pathFunc(path.Dir),
		"startswith":  textTest(strings.HasPrefix),
		"endswith":    textTest(strings.HasSuffix),
		"strcontains": textTest(strings.Contains),
		"sum":         sumFunc,
		"one":         oneFunc,
		"try":         tryfunc.TryFunc,
		"can":         tryfunc.CanFunc,

		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc,
		"signum": stdlib.SignumFunc, "int": stdlib.IntFunc,

		"chomp": stdlib.ChompFunc, "format": rounded(stdlib.FormatFunc), "formatlist": rounded(stdlib.FormatListFunc),
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc,
		"regexall": stdlib.RegexAllFunc, "replace": replaceFunc, "split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc,
		"strrev": stdlib.ReverseFunc, "substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc,
		"trimprefix": stdlib.TrimPrefixFunc, "trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc,
		"upper": stdlib.UpperFunc,

		"alltrue": allFunc(true), "anytrue": allFunc(false), "chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc,
		"coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc,
		"contains": stdlib.ContainsFunc, "distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc,
		"flatten": stdlib.FlattenFunc, "index": indexFunc, "keys": stdlib.KeysFunc, "length": lengthFunc,
		"lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc, "reverse": stdlib.ReverseListFunc,
		"setintersection": stdlib.SetIntersectionFunc, "setproduct": stdlib.SetProductFunc, "setsubtract": stdlib.SetSubtractFunc,
		"setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc,
		"zipmap": stdlib.ZipmapFunc,

		"csvdecode": stdlib.CSVDecodeFunc, "formatdate": stdlib.FormatDateFunc, "jsondecode": stdlib.JSONDecodeFunc,
		"jsonencode": rounded(stdlib.JSONEncodeFunc), "timeadd": stdlib.TimeAddFunc, "yamldecode": yamlDecodeFunc,

		"tobool": stdlib.MakeToFunc(cty.Bool), "tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)), "tonumber": stdlib.MakeToFunc(cty.Number),
		"toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)), "tostring": tostringFunc,
	}
}

// rounded rounds the numbers among a function's arguments, for functions that print them.
func rounded(f function.Function) function.Function {
	spec := &function.Spec{Params: f.Params(), VarParam: f.VarParam()}
	round := func(args []cty.Value) []cty.Value {
		list := make([]cty.Value, len(args))
		for i, arg := range args {
			list[i] = roundNumbers(arg)
		}
		return list
	}
	spec.Type = func(args []cty.Value) (cty.Type, error) { return f.ReturnTypeForValues(round(args)) }
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) { return f.Call(round(args)) }
	return function.New(spec)
}

var textParam = function.Parameter{Name: "text", Type: cty.String}

// anyParam takes whatever value there is, nulls too.
var anyParam = function.Parameter{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true}

func pathFunc(f func(string) string) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.StringVal(f(args[0].AsString())), nil
		},
	})
}

func textTest(f func(text, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{textParam, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

func allFunc(all bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, v := range args[0].AsValueSlice() {
				if holds := !v.IsNull() && v.True(); holds != all {
					return cty.BoolVal(!all), nil
				}
			}
			return cty.BoolVal(all), nil
		},
	})
}

var sumFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Number)}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		sum := cty.Zero
		for _, v := range args[0].AsValueSlice() {
			if v.IsNull() {
				return cty.NilVal, function.NewArgErrorf(0, "a null cannot be added")
			}
			sum = sum.Add(v)
		}
		return sum, nil
	},
})

var oneFunc = function.New(&function.Spec{
	Params: []function.Parameter{anyParam},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := one(args[0])
		return v.Type(), err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return one(args[0]) },
})

func one(v cty.Value) (cty.Value, error) {
	if !v.IsKnown() {
		return cty.DynamicVal, nil
	}
	if !isList(v) {
		return cty.DynamicVal, function.NewArgErrorf(0, "one takes a list or set, not %s", valueKind(v))
	}
	switch elems := v.AsValueSlice(); len(elems) {
	case 0:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case 1:
		return elems[0], nil
	default:
		return cty.DynamicVal, function.NewArgErrorf(0, "one takes at most one element, not %d", len(elems))
	}
}

// tostringFunc writes numbers in their shortest form, as strings and names do.
var tostringFunc = function.New(&function.Spec{
	Params: []function.Parameter{anyParam},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		if v := args[0]; v.Type() == cty.Number && !v.IsNull() {
			return cty.StringVal(formatNumber(number(v))), nil
		}
		return stdlib.MakeToFunc(cty.String).Call(args)
	},
})

// lengthFunc counts a list's elements, as cty does, and a string's characters.
var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		switch v := args[0]; {
		case v.Type() == cty.String:
			return stdlib.Strlen(v)
		case v.Type().IsObjectType():
			return cty.NumberIntVal(int64(len(v.Type().AttributeTypes()))), nil
		}
		return stdlib.Length(args[0])
	},
})

// indexFunc finds a value in a list: Terraform's index, which is not cty's.
var indexFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType, AllowDynamicType: true}, anyParam},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if !isList(args[0]) {
			return cty.NilVal, function.NewArgErrorf(0, "index takes a list, not %s", valueKind(args[0]))
		}
		for i, v := range args[0].AsValueSlice() {
			if v := roundNumbers(v); v.Type().Equals(args[1].Type()) && v.RawEquals(roundNumbers(args[1])) {
				return cty.NumberIntVal(int64(i)), nil
			}
		}
		return cty.NilVal, function.NewArgErrorf(1, "the list does not hold it")
	},
})

// replaceFunc replaces a text, or a regular expression between slashes.
var replaceFunc = function.New(&function.Spec{
	Params: []function.Parameter{textParam, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, old, new := args[0].AsString(), args[1].AsString(), args[2].AsString()
		if len(old) > 1 && strings.HasPrefix(old, "/") && strings.HasSuffix(old, "/") {
			pattern, err := regexp.Compile(old[1 : len(old)-1])
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(pattern.ReplaceAllString(text, new)), nil
		}
		return cty.StringVal(strings.ReplaceAll(text, old, new)), nil
	},
})

// shquoteFunc quotes a text, or each text of a list, as one word of a POSIX shell.
var shquoteFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		words := []cty.Value{args[0]}
		if isList(args[0]) {
			words = args[0].AsValueSlice()
		}
		quoted := make([]string, len(words))
		for i, word := range words {
			text, ok := textOf(word)
			if !ok {
				return cty.NilVal, function.NewArgErrorf(0, "shquote takes a text or a list of texts, not %s", valueKind(word))
			}
			quoted[i] = shellQuoted(text)
		}
		return cty.StringVal(strings.Join(quoted, " ")), nil
	},
})

var shellSafe = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`) })

func shellQuoted(text string) string {
	if shellSafe().MatchString(text) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'"'"'`) + "'"
}

// textOf is the text of a primitive value, numbers in their shortest form.
func textOf(v cty.Value) (string, bool) {
	if v.IsNull() || !v.IsKnown() {
		return "", false
	}
	switch v.Type() {
	case cty.String:
		return v.AsString(), true
	case cty.Number:
		return formatNumber(number(v)), true
	case cty.Bool:
		return strconv.FormatBool(v.True()), true
	}
	return "", false
}

const maxLogspace = 1024 // as many as range() makes

// logspaceFunc gives n numbers from one to another at equal ratios, rounded to 12 digits, so that
// logspace(1e-5, 1e-3, 3) is exactly [1e-5, 1e-4, 1e-3] on every machine.
var logspaceFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "from", Type: cty.Number}, {Name: "to", Type: cty.Number}, {Name: "n", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.List(cty.Number)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		from, to := number(args[0]), number(args[1])
		if from <= 0 || to <= 0 {
			return cty.NilVal, function.NewArgErrorf(0, "both ends must be above 0")
		}
		n, whole := bigToInt64(args[2].AsBigFloat())
		if !whole || n < 2 || n > maxLogspace {
			return cty.NilVal, function.NewArgErrorf(2, "n must be a whole number from 2 to %d", maxLogspace)
		}
		list := make([]cty.Value, n)
		for i := range list {
			share := float64(i) / float64(n-1)
			x := math.Exp(math.Log(from)*(1-share) + math.Log(to)*share)
			x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'g', 12, 64), 64)
			list[i] = cty.NumberFloatVal(x)
		}
		list[0], list[n-1] = cty.NumberFloatVal(from), cty.NumberFloatVal(to)
		return cty.ListVal(list), nil
	},
})

// envFunc reads an environment variable; what it returns is never shown, for it may be a secret.
func (d *decoder) envFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true},
		Type: func(args []cty.Value) (cty.Type, error) {
			if len(args) > 2 {
				return cty.NilType, fmt.Errorf("env takes a name and a default")
			}
			if len(args) == 2 && args[0].IsKnown() {
				if _, set := d.getenv(args[0].AsString()); !set {
					return args[1].Type(), nil
				}
			}
			return cty.String, nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			if text, set := d.getenv(name); set {
				return cty.StringVal(strings.ToValidUTF8(text, "\uFFFD")).Mark(envMark{}), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "%s is not set; set it, or give a default: env(%q, \"...\")", name, name)
		},
	})
}
