package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Chat templates are interpreted by gonja, in the environment that transformers gives them
// (chat_template_utils.py): trim_blocks and lstrip_blocks, break and continue, Python's JSON,
// raise_exception and {% generation %}. Unlike there, strftime_now is not defined, so that
// templates take the date that they name themselves: ids must not depend on the day.

// jinjaTemplate is a parsed template. It is not safe for concurrent use.
type jinjaTemplate struct {
	template *exec.Template
	limits   *jinjaLimits
}

// generationMarks stand in the output around what {% generation %} encloses. They are
// noncharacters, which no text to be interchanged has.
const (
	generationBegin = "\uFDE0"
	generationEnd   = "\uFDE1"
)

// parseJinja parses a template. A mistake in it is an error that names the line.
func parseJinja(text string) (t *jinjaTemplate, err error) {
	defer recovered(&err)
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true
	limits := &jinjaLimits{}
	template, err := exec.NewTemplate("chat template", settings, jinjaSource(text), jinjaEnvironment(limits))
	if err != nil {
		// The library puts the whole source into the message.
		return nil, errors.New(strings.Replace(err.Error(), " '"+text+"'", "", 1))
	}
	rewrite(reflect.ValueOf(template.Root()), limits, map[uintptr]bool{})
	return &jinjaTemplate{template, limits}, nil
}

// render returns the template's output for these variables, so many messages of so many bytes of
// text among them.
func (t *jinjaTemplate) render(variables map[string]any, messages, size int) (text string, err error) {
	defer recovered(&err)
	t.limits.reset(messages, size)
	var out strings.Builder
	err = t.template.Execute(&limitedOutput{&out, t.limits}, exec.NewContext(variables))
	if t.limits.err != nil {
		return "", t.limits.err
	}
	if err != nil {
		return "", innermost(err)
	}
	return out.String(), nil
}

// innermost finds what a template said itself, or else shortens the library's account of it,
// which repeats itself for each enclosing block.
func innermost(err error) error {
	var raised *raisedError
	if errors.As(err, &raised) {
		return raised
	}
	text := err.Error()
	const each = "Unable to execute controlStructure at line "
	if at := strings.LastIndex(text, each); at >= 0 {
		text = "line " + text[at+len(each):]
	}
	if _, said, ok := strings.Cut(text, raisedPrefix); ok {
		return &raisedError{said}
	}
	return errors.New(text)
}

// raisedError is what a template said by raise_exception.
type raisedError struct{ text string }

const raisedPrefix = "the template says: "

func (e *raisedError) Error() string { return raisedPrefix + e.text }

// recovered makes an error of a panic in the library: a template must not end the program.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the template cannot be interpreted: %v", r)
	}
}

// jinjaSource is a loader that has the one template: includes and imports find nothing.
type jinjaSource string

func (s jinjaSource) Read(string) (io.Reader, error) { return strings.NewReader(string(s)), nil }

func (s jinjaSource) Resolve(path string) (string, error) {
	return "", fmt.Errorf("%s: a chat template may not read other files", path)
}

func (s jinjaSource) Inherit(path string) (loaders.Loader, error) {
	if path == "" {
		return s, nil
	}
	return nil, fmt.Errorf("%s: a chat template may not read other files", path)
}

func jinjaEnvironment(limits *jinjaLimits) *exec.Environment {
	context := exec.EmptyContext()
	for _, name := range []string{"cycler", "dict", "joiner", "namespace"} {
		if f, ok := builtins.GlobalFunctions.Get(name); ok {
			context.Set(name, f)
		}
	}
	context.Set("raise_exception", func(text string) (string, error) { return "", &raisedError{text} })
	context.Set("range", jinjaRange)
	structures := map[string]parser.ControlStructureParser{"generation": parseGeneration}
	for _, name := range []string{"if", "for", "set", "macro", "call", "filter", "raw", "with", "break", "continue", "do"} {
		if p, ok := builtins.ControlStructures.Get(name); ok {
			structures[name] = p
		}
	}
	methods := builtins.Methods
	methods.Str = stringMethods(limits)
	methods.Dict = exec.NewMethodSet(map[string]exec.Method[map[string]any]{
		"items": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) { return dictItems(self), nil },
		"keys": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			return dictColumn(self, 0), nil
		},
		"values": func(_ map[string]any, self *exec.Value, _ *exec.VarArgs) (any, error) {
			return dictColumn(self, 1), nil
		},
		"get": dictGet,
	})
	return &exec.Environment{Context: context, Filters: jinjaFilters(limits), Tests: builtins.Tests, ControlStructures: exec.NewControlStructureSet(structures), Methods: methods}
}

// jinjaRange is range with the sandbox's limit, without the library's goroutine.
func jinjaRange(_ *exec.Evaluator, params *exec.VarArgs) ([]int, error) {
	bounds := []int{0, 0, 1}
	for i, a := range params.Args {
		if i > 2 || !a.IsInteger() {
			return nil, errors.New("range takes up to three whole numbers")
		}
		bounds[i] = a.Integer()
	}
	if len(params.Args) == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if step == 0 || (float64(stop)-float64(start))/float64(step) > 100_000 {
		return nil, errors.New("range has a step of 0, or more than 100,000 numbers")
	}
	out := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		out = append(out, i)
	}
	return out, nil
}

// generation is {% generation %}…{% endgeneration %}.
type generation struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

func (g *generation) Position() *tokens.Token { return g.at }
func (g *generation) String() string          { return "generation" }

func (g *generation) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	if _, err := io.WriteString(r.Output, generationBegin); err != nil {
		return err
	}
	if err := r.Inherit().ExecuteWrapper(g.body); err != nil {
		return err
	}
	_, err := io.WriteString(r.Output, generationEnd)
	return err
}

func parseGeneration(p, _ *parser.Parser) (nodes.ControlStructure, error) {
	at := p.Current()
	body, _, err := p.WrapUntil("endgeneration")
	return &generation{at, body}, err
}

// jinjaValue turns a value of parsePython into the library's, which keeps the order of keys.
func jinjaValue(v any) (any, error) {
	switch v := v.(type) {
	case pyObject:
		d := exec.NewDict()
		for _, k := range v.keys {
			inner, err := jinjaValue(v.values[k])
			if err != nil {
				return nil, err
			}
			d.Pairs = append(d.Pairs, &exec.Pair{Key: exec.AsValue(k), Value: exec.AsValue(inner)})
		}
		return d, nil
	case []any:
		list := make([]any, len(v))
		for i := range v {
			var err error
			if list[i], err = jinjaValue(v[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	case json.Number:
		if !strings.ContainsAny(string(v), ".eE") {
			n, err := strconv.Atoi(string(v))
			if err != nil {
				return nil, fmt.Errorf("the number %s is too large for a template", v)
			}
			return n, nil
		}
		return v.Float64()
	}
	return v, nil
}

// dictItems returns the pairs of a dict in their order.
func dictItems(v *exec.Value) []any {
	out := []any{}
	for _, k := range v.Keys() {
		value, _ := v.GetItem(k.Interface())
		out = append(out, []any{k, value})
	}
	return out
}

func dictColumn(v *exec.Value, column int) []any {
	out := dictItems(v)
	for i := range out {
		out[i] = out[i].([]any)[column]
	}
	return out
}

func dictGet(_ map[string]any, self *exec.Value, params *exec.VarArgs) (any, error) {
	if n := len(params.Args); n < 1 || n > 2 {
		return nil, errors.New("get takes a key and perhaps a default")
	}
	if v, ok := self.GetItem(params.Args[0].Interface()); ok {
		return v.Interface(), nil
	}
	if len(params.Args) == 2 {
		return params.Args[1].Interface(), nil
	}
	return nil, nil
}

func jinjaItems(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	if in.IsNil() {
		return exec.AsValue([]any{})
	}
	return exec.AsValue(dictItems(in))
}

// jinjaToJSON is transformers' tojson: json.dumps with ensure_ascii=False.
func jinjaToJSON(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	w := jsonWriter{indent: -1, item: ", ", colon: ": "}
	for name := range maps.Keys(params.KwArgs) {
		value := params.KwArgs[name]
		switch {
		case name == "indent" && value.IsInteger():
			w.indent, w.item = value.Integer(), ","
		case name == "indent" && value.IsNil(), name == "ensure_ascii" && !value.IsTrue():
		case name == "separators" && value.IsList() && value.Len() == 2:
			w.item, w.colon = value.Index(0).String(), value.Index(1).String()
		case name == "sort_keys" && !value.IsTrue():
		default:
			return exec.AsValue(fmt.Errorf("tojson with %s=%s, which is not supported", name, value.String()))
		}
	}
	if err := w.write(in, 0); err != nil {
		return exec.AsValue(err)
	}
	return exec.AsSafeValue(w.out.String())
}

// jsonWriter writes the library's values as Python's json.dumps does.
type jsonWriter struct {
	out         bytes.Buffer
	indent      int // -1: all in one line
	item, colon string
}

func (w *jsonWriter) write(v *exec.Value, level int) error {
	switch {
	case level > deepest:
		return fmt.Errorf("JSON nested deeper than %d", deepest)
	case v.IsNil():
		w.out.WriteString("null")
	case v.IsBool():
		w.out.WriteString(strconv.FormatBool(v.Bool()))
	case v.IsInteger():
		w.out.WriteString(strconv.Itoa(v.Integer()))
	case v.IsFloat():
		w.out.WriteString(pyFloat(v.Float()))
	case v.IsString():
		w.out.Write(appendPyString(nil, v.String()))
	case v.IsDict():
		keys := v.Keys()
		return w.sequence("{}", len(keys), level, func(i int) error {
			w.out.Write(appendPyString(nil, keys[i].String()))
			w.out.WriteString(w.colon)
			value, _ := v.GetItem(keys[i].Interface())
			return w.write(value, level+1)
		})
	case v.IsList():
		return w.sequence("[]", v.Len(), level, func(i int) error { return w.write(v.Index(i), level+1) })
	default:
		return fmt.Errorf("tojson of %s, which is no JSON value", v.String())
	}
	return nil
}

func (w *jsonWriter) sequence(brackets string, n, level int, item func(i int) error) error {
	if n == 0 {
		w.out.WriteString(brackets)
		return nil
	}
	w.out.WriteByte(brackets[0])
	for i := range n {
		if i > 0 {
			w.out.WriteString(w.item)
		}
		w.line(level + 1)
		if err := item(i); err != nil {
			return err
		}
	}
	w.line(level)
	w.out.WriteByte(brackets[1])
	return nil
}

func (w *jsonWriter) line(level int) {
	if w.indent >= 0 {
		w.out.WriteByte('\n')
		w.out.WriteString(strings.Repeat(" ", w.indent*level))
	}
}
