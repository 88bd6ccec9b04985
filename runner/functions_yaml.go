package runner

import (
	"fmt"
	"strconv"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"go.yaml.in/yaml/v3"
)

// yamlDecodeFunc reads a text as one YAML document: mappings become objects, lists tuples.
var yamlDecodeFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := decodeYAML(args[0].AsString())
		return v.Type(), err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return decodeYAML(args[0].AsString()) },
})

func decodeYAML(text string) (cty.Value, error) {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return cty.NilVal, fmt.Errorf("not YAML: %w", err)
	}
	return yamlValue(v), nil
}

func yamlValue(v any) cty.Value {
	switch v := v.(type) {
	case nil:
		return cty.NullVal(cty.DynamicPseudoType)
	case string:
		return cty.StringVal(v)
	case bool:
		return cty.BoolVal(v)
	case int:
		return cty.NumberIntVal(int64(v))
	case uint64:
		return cty.NumberUIntVal(v)
	case float64:
		if n, err := cty.ParseNumberVal(strconv.FormatFloat(v, 'g', -1, 64)); err == nil {
			return n
		}
	case []any:
		list := make([]cty.Value, len(v))
		for i, one := range v {
			list[i] = yamlValue(one)
		}
		return cty.TupleVal(list)
	case map[string]any:
		return yamlObject(v)
	case map[any]any:
		named := make(map[string]any, len(v))
		for name, one := range v {
			named[fmt.Sprint(name)] = one
		}
		return yamlObject(named)
	}
	return cty.StringVal(fmt.Sprint(v)) // times, NaN
}

func yamlObject(v map[string]any) cty.Value {
	fields := make(map[string]cty.Value, len(v))
	for name, one := range v {
		fields[name] = yamlValue(one)
	}
	return cty.ObjectVal(fields)
}
