package tokenizer

import (
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"runtime"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// A template comes with a model, from anybody. It may compute for ever, call itself without end
// or make a text that no memory holds, and the library bounds none of it. So each body of a
// parsed template (of a loop, a macro, a condition) begins with a step that is counted, and what
// makes texts long is bounded. The bounds are far beyond what a chat needs.
const (
	mostSteps  = 100_000 // and 2,000 for each message
	mostFrames = 4_000   // of the Go stack, whose own bound ends the program
	mostText   = 1 << 24 // bytes of one value, and of the output, besides the chat's
	mostItems  = 1 << 16 // of a list, and columns of a text
)

// jinjaLimits are one template's.
type jinjaLimits struct {
	steps, written      int
	mostSteps, mostText int
	err                 error // sticky, whatever the template makes of it
}

// reset begins a rendering of so many messages, which have so many bytes of text.
func (l *jinjaLimits) reset(messages, size int) {
	*l = jinjaLimits{mostSteps: mostSteps + 2000*messages, mostText: mostText + 4*size}
}

func (l *jinjaLimits) exceed(format string, args ...any) error {
	if l.err == nil {
		l.err = fmt.Errorf(format, args...)
	}
	return l.err
}

// step counts one body. How deep the stack is costs more to see, so it is looked at now and then.
func (l *jinjaLimits) step(line int) error {
	l.steps++
	if l.steps > l.mostSteps {
		return l.exceed("line %d: more than %d steps: does a loop end?", line, l.mostSteps)
	}
	var frame [1]uintptr
	if l.steps%64 == 0 && runtime.Callers(mostFrames, frame[:]) > 0 {
		return l.exceed("line %d: a macro or a loop that calls itself without end", line)
	}
	return l.err
}

// bounded passes a value on that is not too long.
func (l *jinjaLimits) bounded(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
	switch {
	case in.IsError():
	case in.IsString() && in.Len() > l.mostText:
		return exec.AsValue(l.exceed("a text of more than %d bytes", l.mostText))
	case in.IsList() && in.Len() > mostItems:
		return exec.AsValue(l.exceed("a list of more than %d values", mostItems))
	}
	return in
}

// times is multiplication.
func (l *jinjaLimits) times(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	by := params.First()
	switch {
	case in.IsError():
		return in
	case by.IsError():
		return by
	case in.IsString() && by.IsInteger():
		n := max(by.Integer(), 0)
		if n > 0 && len(in.String()) > l.mostText/n {
			return exec.AsValue(l.exceed("a text of more than %d bytes", l.mostText))
		}
		return exec.AsValue(strings.Repeat(in.String(), n))
	case in.IsInteger() && by.IsInteger():
		return exec.AsValue(in.Integer() * by.Integer())
	case !in.IsNumber() || !by.IsNumber():
		return exec.AsValue(fmt.Errorf("%s times %s", in.String(), by.String()))
	}
	return exec.AsValue(in.Float() * by.Float())
}

// power is the operator **, whole numbers staying so, as in Python.
func (l *jinjaLimits) power(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	by := params.First()
	switch {
	case in.IsError():
		return in
	case by.IsError():
		return by
	}
	p := math.Pow(in.Float(), by.Float())
	if in.IsInteger() && by.IsInteger() && by.Integer() >= 0 && math.Abs(p) < 1<<53 {
		return exec.AsValue(int(p))
	}
	return exec.AsValue(p)
}

// narrow bounds the widths and counts that a filter takes.
func (l *jinjaLimits) narrow(name string, f exec.FilterFunction) exec.FilterFunction {
	return func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
		for _, p := range params.Args {
			if p.IsInteger() && p.Integer() > mostItems {
				return exec.AsValue(l.exceed("%s with %d", name, p.Integer()))
			}
		}
		for _, p := range params.KwArgs {
			if p.IsInteger() && p.Integer() > mostItems {
				return exec.AsValue(l.exceed("%s with %d", name, p.Integer()))
			}
		}
		return f(e, in, params)
	}
}

// product refuses what a text becomes that is put n times between or in place of others.
func (l *jinjaLimits) product(n int, text string) error {
	if len(text) > 0 && n > l.mostText/len(text) {
		return l.exceed("a text of more than %d bytes", l.mostText)
	}
	return nil
}

func (l *jinjaLimits) join(f exec.FilterFunction) exec.FilterFunction {
	return func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
		if err := l.product(in.Len(), params.First().String()); err != nil {
			return exec.AsValue(err)
		}
		return f(e, in, params)
	}
}

func (l *jinjaLimits) replace(f exec.FilterFunction) exec.FilterFunction {
	return func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
		if len(params.Args) > 1 {
			if err := l.product(strings.Count(in.String(), params.Args[0].String()), params.Args[1].String()); err != nil {
				return exec.AsValue(err)
			}
		}
		return f(e, in, params)
	}
}

// method bounds a method of texts by the same rules.
func (l *jinjaLimits) method(name string, m exec.Method[string]) exec.Method[string] {
	return func(self string, value *exec.Value, params *exec.VarArgs) (any, error) {
		n, text := 0, self
		switch p := params.First(); {
		case p.IsInteger() && p.Integer() > mostItems:
			return nil, l.exceed("%s with %d", name, p.Integer())
		case name == "join":
			n = p.Len()
		case name == "replace" && len(params.Args) > 1:
			n, text = strings.Count(self, p.String()), params.Args[1].String()
		}
		if err := l.product(n, text); err != nil {
			return nil, err
		}
		return m(self, value, params)
	}
}

// jinjaFilters are the library's, but random: ids do not depend on chance.
func jinjaFilters(l *jinjaLimits) *exec.FilterSet {
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{
		indexable: jinjaIndexable, boundedName: l.bounded, timesName: l.times, powerName: l.power,
	}).Update(builtins.Filters)
	mend := map[string]func(exec.FilterFunction) exec.FilterFunction{
		"tojson": func(exec.FilterFunction) exec.FilterFunction { return jinjaToJSON },
		"items":  func(exec.FilterFunction) exec.FilterFunction { return jinjaItems },
		"random": func(exec.FilterFunction) exec.FilterFunction { return noRandom },
		"join":   l.join, "replace": l.replace,
	}
	for _, name := range []string{"batch", "center", "format", "indent", "slice", "truncate", "wordwrap"} {
		mend[name] = func(f exec.FilterFunction) exec.FilterFunction { return l.narrow(name, f) }
	}
	for name, with := range mend {
		if f, ok := builtins.Filters.Get(name); ok {
			_ = filters.Replace(name, with(f)) // it is there
		}
	}
	return filters
}

func noRandom(*exec.Evaluator, *exec.Value, *exec.VarArgs) *exec.Value {
	return exec.AsValue(errors.New("random: ids must not depend on chance"))
}

// Write implements io.Writer: it bounds the output.
func (w *limitedOutput) Write(p []byte) (int, error) {
	if w.l.written += len(p); w.l.written > w.l.mostText {
		return 0, w.l.exceed("an output of more than %d bytes", w.l.mostText)
	}
	return w.out.Write(p)
}

// limitedOutput is where a template writes to.
type limitedOutput struct {
	out io.Writer
	l   *jinjaLimits
}

// jinjaStep is the node that counts.
type jinjaStep struct {
	at *tokens.Token
	l  *jinjaLimits
}

func (s *jinjaStep) Position() *tokens.Token { return s.at }
func (s *jinjaStep) String() string          { return "step" }

func (s *jinjaStep) Execute(*exec.Renderer, *nodes.ControlStructureBlock) error {
	return s.l.step(s.at.Line)
}

// limitBody lets a body begin with a step.
func limitBody(w *nodes.Wrapper, l *jinjaLimits) {
	at := w.Location
	if at == nil {
		at = &tokens.Token{}
	}
	step := &nodes.ControlStructureBlock{Location: at, Name: "step", ControlStructure: &jinjaStep{at, l}}
	w.Nodes = append([]nodes.Node{step}, w.Nodes...)
}

// Filters of our own that stand for operators.
const boundedName, timesName, powerName = "bounded", "times", "power"

// limitExpression bounds what an operator makes, where that may be longer than what it takes.
func limitExpression(slot reflect.Value) {
	b, ok := slot.Interface().(*nodes.BinaryExpression)
	if !ok {
		return
	}
	call := &nodes.FilterCall{Token: b.Operator.Token, Name: boundedName}
	limited := &nodes.FilteredExpression{Expression: b, Filters: []*nodes.FilterCall{call}}
	switch b.Operator.Token.Type {
	case tokens.Multiply:
		limited.Expression, call.Name, call.Args = b.Left, timesName, []nodes.Expression{b.Right}
	case tokens.Power:
		limited.Expression, call.Name, call.Args = b.Left, powerName, []nodes.Expression{b.Right}
	case tokens.Addition, tokens.Tilde:
	default:
		return
	}
	slot.Set(reflect.ValueOf(limited))
}
