package tokenizer

import (
	"fmt"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// stringMethods are the library's, with split and replace as Python has them: the
// library's take no default for their arguments and give no part for an empty text.
func stringMethods(l *jinjaLimits) *exec.MethodSet[string] {
	methods := map[string]exec.Method[string]{"split": pySplit, "replace": pyReplace}
	for _, name := range []string{"capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdigit",
		"islower", "isspace", "isupper", "join", "lower", "lstrip", "removeprefix", "removesuffix", "rfind", "rstrip", "splitlines",
		"startswith", "strip", "swapcase", "title", "upper", "zfill"} {
		if m, ok := builtins.Methods.Str.Get(name); ok {
			methods[name] = m
		}
	}
	for _, name := range []string{"replace", "join", "zfill", "format"} {
		methods[name] = l.method(name, methods[name])
	}
	return exec.NewMethodSet(methods)
}

// pySplit is str.split; with a limit it cuts from the left.
func pySplit(s string, _ *exec.Value, params *exec.VarArgs) (any, error) {
	separator, limit := params.GetKeywordArgument("sep", nil), params.GetKeywordArgument("maxsplit", -1)
	if len(params.Args) > 0 {
		separator = params.Args[0]
	}
	if len(params.Args) > 1 {
		limit = params.Args[1]
	}
	switch {
	case len(params.Args) > 2 || !limit.IsInteger() || !separator.IsNil() && !separator.IsString():
		return nil, fmt.Errorf("split takes a text and a whole number")
	case separator.IsNil() && limit.Integer() < 0:
		return strings.Fields(s), nil
	case separator.IsNil() || separator.String() == "":
		return nil, fmt.Errorf("split with a limit, or by an empty text, is not supported")
	case limit.Integer() < 0:
		return strings.Split(s, separator.String()), nil
	}
	return strings.SplitN(s, separator.String(), limit.Integer()+1), nil
}

func pyReplace(s string, _ *exec.Value, params *exec.VarArgs) (any, error) {
	n := -1
	if len(params.Args) == 3 && params.Args[2].IsInteger() {
		n = params.Args[2].Integer()
	} else if len(params.Args) != 2 {
		return nil, fmt.Errorf("replace takes two texts and perhaps a count")
	}
	return strings.Replace(s, params.Args[0].String(), params.Args[1].String(), n), nil
}
