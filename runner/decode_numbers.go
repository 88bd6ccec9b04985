package runner

import (
	"encoding/json"
	"math/big"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// HCL computes with 512-bit numbers. Here they are rounded to float64 before they are compared, keyed or
// written into a string, so that 0.1 + 0.2 is 0.3 and 1/3 has 16 digits, the same everywhere.

// roundNumbers rounds every number inside a value to float64; marks stay.
func roundNumbers(v cty.Value) cty.Value {
	if !mayHoldNumbers(v.Type()) || v == cty.NilVal {
		return v
	}
	rounded, err := cty.Transform(v, func(_ cty.Path, v cty.Value) (cty.Value, error) {
		return roundNumber(v), nil
	})
	if err != nil {
		return v
	}
	return rounded
}

func roundNumber(v cty.Value) cty.Value {
	if v.Type() != cty.Number {
		return v
	}
	plain, marks := v.Unmark()
	if !plain.IsKnown() || plain.IsNull() {
		return v
	}
	f := plain.AsBigFloat()
	if f.Prec() <= 53 || f.IsInf() {
		return v
	}
	return cty.NumberFloatVal(number(plain)).WithMarks(marks)
}

// number is a known number as float64; a negative zero is zero.
func number(v cty.Value) float64 {
	f, _ := v.AsBigFloat().Float64()
	if f == 0 {
		return 0
	}
	return f
}

func mayHoldNumbers(t cty.Type) bool {
	switch {
	case t == cty.Number || t == cty.DynamicPseudoType:
		return true
	case t.IsPrimitiveType():
		return false
	case t.IsCollectionType():
		return mayHoldNumbers(t.ElementType())
	case t.IsObjectType():
		for _, attr := range t.AttributeTypes() {
			if mayHoldNumbers(attr) {
				return true
			}
		}
	case t.IsTupleType():
		for _, elem := range t.TupleElementTypes() {
			if mayHoldNumbers(elem) {
				return true
			}
		}
	}
	return false
}

// formatNumber is the shortest text that reads back as f, in the form of JSON (RFC 8785): 0.0001, 1e-7, 16.
func formatNumber(f float64) string {
	text, err := json.Marshal(f)
	if err != nil { // infinities, which no literal makes
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return string(text)
}

// shortestName is the function that useRoundedNumbers puts around the parts of a string; no user can type it.
const shortestName = "<number in a string>"

var shortestFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true,
		AllowDynamicType: true, AllowMarked: true}},
	Type: func(args []cty.Value) (cty.Type, error) {
		if args[0].Type() == cty.Number {
			return cty.String, nil
		}
		return args[0].Type(), nil
	},
	Impl: func(args []cty.Value, retType cty.Type) (cty.Value, error) {
		v, marks := args[0].Unmark()
		switch {
		case v.Type() != cty.Number:
			return args[0], nil
		case !v.IsKnown():
			return cty.UnknownVal(cty.String).WithMarks(marks), nil
		case v.IsNull():
			return cty.NullVal(cty.String).WithMarks(marks), nil
		}
		return cty.StringVal(formatNumber(number(v))).WithMarks(marks), nil
	},
})

// comparisons maps HCL's comparing operators to those that round both sides first.
var comparisons = map[*hclsyntax.Operation]*hclsyntax.Operation{
	hclsyntax.OpEqual:              rounding(stdlib.EqualFunc),
	hclsyntax.OpNotEqual:           rounding(stdlib.NotEqualFunc),
	hclsyntax.OpGreaterThan:        rounding(stdlib.GreaterThanFunc),
	hclsyntax.OpGreaterThanOrEqual: rounding(stdlib.GreaterThanOrEqualToFunc),
	hclsyntax.OpLessThan:           rounding(stdlib.LessThanFunc),
	hclsyntax.OpLessThanOrEqual:    rounding(stdlib.LessThanOrEqualToFunc),
}

func rounding(f function.Function) *hclsyntax.Operation {
	impl := function.New(&function.Spec{
		Params: f.Params(),
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return f.Call([]cty.Value{roundNumbers(args[0]), roundNumbers(args[1])})
		},
	})
	return &hclsyntax.Operation{Impl: impl, Type: cty.Bool}
}

// useRoundedNumbers rewrites comparisons and string templates below a node so that they round.
func useRoundedNumbers(node hclsyntax.Node) {
	hclsyntax.VisitAll(node, func(node hclsyntax.Node) hcl.Diagnostics {
		switch e := node.(type) {
		case *hclsyntax.BinaryOpExpr:
			if op, ok := comparisons[e.Op]; ok {
				e.Op = op
			}
		case *hclsyntax.TemplateExpr:
			for i, part := range e.Parts {
				if _, literal := part.(*hclsyntax.LiteralValueExpr); !literal {
					e.Parts[i] = &hclsyntax.FunctionCallExpr{Name: shortestName, Args: []hclsyntax.Expression{part},
						NameRange: part.Range(), OpenParenRange: part.Range(), CloseParenRange: part.Range()}
				}
			}
		}
		return nil
	})
}

// canonicalJSON renders an unmarked, known value: keys sorted, numbers in their shortest form, no space.
func canonicalJSON(v cty.Value) string { return string(appendCanonical(nil, v)) }

func appendCanonical(b []byte, v cty.Value) []byte {
	t := v.Type()
	switch {
	case v.IsNull() || !v.IsKnown():
		return append(b, "null"...)
	case t == cty.String:
		return appendJSONString(b, v.AsString())
	case t == cty.Number:
		return append(b, formatNumber(number(v))...)
	case t == cty.Bool:
		return strconv.AppendBool(b, v.True())
	case t.IsObjectType() || t.IsMapType():
		values := v.AsValueMap()
		names := make([]string, 0, len(values))
		for name := range values {
			names = append(names, name)
		}
		sort.Strings(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendJSONString(b, name), ':')
			b = appendCanonical(b, values[name])
		}
		return append(b, '}')
	}
	b = append(b, '[')
	for i, elem := range v.AsValueSlice() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCanonical(b, elem)
	}
	return append(b, ']')
}

// appendJSONString quotes as RFC 8785 does: nothing is escaped that need not be.
func appendJSONString(b []byte, s string) []byte {
	plain := 0 // bytes that stand for themselves, nearly always all
	for plain < len(s) && s[plain] >= ' ' && s[plain] < utf8.RuneSelf && s[plain] != '"' && s[plain] != '\\' {
		plain++
	}
	b = append(append(b, '"'), s[:plain]...)
	for _, r := range s[plain:] {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\t':
			b = append(b, '\\', 't')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\b':
			b = append(b, '\\', 'b')
		case r == '\f':
			b = append(b, '\\', 'f')
		case r < 0x20:
			b = append(b, '\\', 'u', '0', '0', "0123456789abcdef"[r>>4], "0123456789abcdef"[r&15])
		default:
			b = append(b, string(r)...)
		}
	}
	return append(b, '"')
}

// bigToInt64 reports whether the number is whole and fits.
func bigToInt64(f *big.Float) (int64, bool) {
	if !f.IsInt() {
		return 0, false
	}
	n, accuracy := f.Int64()
	return n, accuracy == big.Exact
}
