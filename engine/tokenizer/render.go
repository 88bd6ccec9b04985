package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// Message is one turn. ToolCalls is a JSON list, or empty.
type Message struct {
	Role      string          `json:"role"`
	Content   string          `json:"content"`
	ToolCalls json.RawMessage `json:"tool_calls,omitempty"`
}

// TrainOn says which tokens of a chat the mask marks.
type TrainOn int

// The choices of TrainOn.
const (
	TrainAssistant TrainOn = iota // every assistant turn
	TrainLast                     // the last assistant turn
	TrainAll                      // every token
)

// Chat is what a template renders.
type Chat struct {
	Messages            []Message         `json:"messages"`
	Tools               []json.RawMessage `json:"tools,omitempty"`
	AddGenerationPrompt bool              `json:"add_generation_prompt,omitempty"`

	// ParseSpecial reads control text in messages and tools as control tokens, as
	// Hugging Face does by default. Without it such text stays text.
	ParseSpecial bool `json:"-"`
	// NoSystem leaves system messages and the default one out. Tools need their
	// system turn; it then begins with an empty text.
	NoSystem bool `json:"-"`
	// TrainOn and WholeTurn decide the mask. WholeTurn is TRL's rule: the newline
	// of the header and the one behind the turn count too.
	TrainOn   TrainOn `json:"-"`
	WholeTurn bool    `json:"-"`
}

// Rendered is a chat as text and ids. Mask[i] says that IDs[i] is trained on, as a
// target: the content of assistant turns, tool calls included, and their
// <|im_end|>. A token belongs to the content when any of its characters does.
type Rendered struct {
	Text     string
	IDs      []int32
	Mask     []bool
	Dropped  int   // messages of a role that the template passes over without a word
	Replaced int64 // ill-formed UTF-8 parts that became U+FFFD in the ids
}

// The template's control tokens and the parts of its text that it repeats.
const (
	imStart = "<|im_start|>"
	imEnd   = "<|im_end|>"

	toolsBefore = "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>"
	toolsBehind = "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
)

// Render applies the chat template and encodes the result. The template's own
// control text always becomes control tokens.
func (e *Encoder) Render(chat Chat) (Rendered, error) {
	w := writer{control: e.v.added.byName}
	if err := e.write(&w, chat); err != nil {
		return Rendered{}, err
	}
	before := e.replaced
	out := Rendered{Text: string(w.text), Dropped: w.dropped}
	e.encodeRendered(&out, &w, chat)
	out.Replaced = e.replaced - before
	return out, nil
}

// write writes a chat by the template: directly if it is Qwen2.5's, else interpreted.
func (e *Encoder) write(w *writer, chat Chat) error {
	switch {
	case e.template.err != nil:
		return e.template.err
	case e.template.interpreted:
		return e.interpret(w, chat)
	}
	return w.chat(chat, e.template)
}

// writer writes a chat as text and remembers where its own control tokens stand.
type writer struct {
	text    []byte
	control func(name string) (addedToken, bool)
	marks   []controlMark
	turns   []turn
	dropped int
	// stretches are trained on; an interpreted template has them instead of turns.
	stretches []stretch
}

// controlMark is a control token that the template itself wrote.
type controlMark struct {
	at, size int
	id       int32
}

// turn is an assistant turn: header is where the newline behind "assistant"
// stands, which content follows; end is where its <|im_end|> begins.
type turn struct{ header, end int }

// own writes a control token of the template; a vocabulary without it, as
// small ones are without <tool_call>, takes it as text.
func (w *writer) own(name string) {
	if t, ok := w.control(name); ok {
		w.marks = append(w.marks, controlMark{len(w.text), len(name), t.ID})
	}
	w.text = append(w.text, name...)
}

func (w *writer) write(text string) { w.text = append(w.text, text...) }

func (w *writer) chat(chat Chat, template *chatTemplate) error {
	for _, name := range [...]string{imStart, imEnd} {
		if _, ok := w.control(name); !ok {
			return fmt.Errorf("the tokenizer has no %s, which the chat template needs; give the tokenizer of a chat model (its added_tokens.json or tokenizer.json names it)", name)
		}
	}
	if len(chat.Messages) == 0 {
		return errors.New("a chat without messages")
	}
	if err := w.system(chat, template.system); err != nil {
		return err
	}
	for i, m := range chat.Messages {
		if err := w.message(chat, i, m); err != nil {
			return fmt.Errorf("message %d (%s): %w", i+1, m.Role, err)
		}
	}
	if chat.AddGenerationPrompt {
		w.own(imStart)
		w.write("assistant\n")
	}
	return nil
}

// system writes the first turn: the first message's text if it is a system one
// (also when empty), or else the default, and the tools.
func (w *writer) system(chat Chat, text string) error {
	if chat.Messages[0].Role == "system" {
		text = chat.Messages[0].Content
	}
	if chat.NoSystem {
		if text = ""; len(chat.Tools) == 0 {
			return nil
		}
	}
	w.own(imStart)
	w.write("system\n" + text)
	if len(chat.Tools) > 0 {
		w.write(toolsBefore)
		for i, raw := range chat.Tools {
			v, err := parsePython(raw)
			if err != nil {
				return fmt.Errorf("tool %d: %w", i+1, err)
			}
			w.text = appendPython(append(w.text, '\n'), v)
		}
		w.write(toolsBehind)
		w.toolsShape()
	}
	w.own(imEnd)
	w.write("\n")
	return nil
}

// toolsShape writes the example call, whose tags Hugging Face takes as tokens.
func (w *writer) toolsShape() {
	w.own("<tool_call>")
	w.own("</tool_call>")
	w.write(" XML tags:\n")
	w.own("<tool_call>")
	w.write("\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n")
	w.own("</tool_call>")
}

func (w *writer) message(chat Chat, i int, m Message) error {
	switch {
	case m.Role == "system" && (i == 0 || chat.NoSystem):
	case m.Role == "user" || m.Role == "system":
		w.own(imStart)
		w.write(m.Role + "\n" + m.Content)
		w.own(imEnd)
		w.write("\n")
	case m.Role == "assistant":
		return w.assistant(m)
	case m.Role == "tool":
		if i == 0 || chat.Messages[i-1].Role != "tool" {
			w.own(imStart)
			w.write("user")
		}
		w.write("\n<tool_response>\n" + m.Content + "\n</tool_response>")
		if i+1 == len(chat.Messages) || chat.Messages[i+1].Role != "tool" {
			w.own(imEnd)
			w.write("\n")
		}
	default:
		w.dropped++
	}
	return nil
}

func (w *writer) assistant(m Message) error {
	calls, err := parseCalls(m.ToolCalls)
	if err != nil {
		return err
	}
	w.own(imStart)
	w.write("assistant")
	t := turn{header: len(w.text)}
	if m.Content != "" || len(calls) == 0 {
		w.write("\n" + m.Content)
	}
	for _, c := range calls {
		w.write("\n")
		w.own("<tool_call>")
		w.write("\n{\"name\": \"" + c.name + "\", \"arguments\": ")
		w.text = appendPython(w.text, c.arguments)
		w.write("}\n")
		w.own("</tool_call>")
	}
	t.end = len(w.text)
	w.turns = append(w.turns, t)
	w.own(imEnd)
	w.write("\n")
	return nil
}

// call is one tool call.
type call struct {
	name      string
	arguments any
}

// parseCalls reads tool_calls: a list of {name, arguments}, each perhaps within
// {"function": …}. Arguments given as text are written as a JSON string, which is
// what the template does with them.
func parseCalls(raw json.RawMessage) ([]call, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	v, err := parsePython(raw)
	if err != nil {
		return nil, fmt.Errorf("tool_calls: %w", err)
	}
	if v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("tool_calls is no list")
	}
	var calls []call
	for i, item := range list {
		o, _ := item.(pyObject)
		if f, ok := o.values["function"].(pyObject); ok {
			o = f
		}
		name, ok := o.values["name"].(string)
		arguments, has := o.values["arguments"]
		if !ok || !has {
			return nil, fmt.Errorf("tool call %d has no name or no arguments", i+1)
		}
		calls = append(calls, call{name, arguments})
	}
	return calls, nil
}

// trained returns the stretches of text whose tokens are trained on, in order.
func (w *writer) trained(chat Chat) []stretch {
	if chat.TrainOn == TrainAll {
		return []stretch{{0, len(w.text)}}
	}
	if w.turns == nil {
		return w.stretches
	}
	turns := w.turns
	if chat.TrainOn == TrainLast && len(turns) > 1 {
		turns = turns[len(turns)-1:]
	}
	var out []stretch
	for _, t := range turns {
		if chat.WholeTurn {
			out = append(out, stretch{t.header, t.end + len(imEnd) + 1})
		} else {
			out = append(out, stretch{t.header + 1, t.end + len(imEnd)})
		}
	}
	return out
}

// stretch is a part of the rendered text.
type stretch struct{ from, to int }

// encodeRendered encodes what w wrote. Each stretch between control tokens is one
// text, so that the newline of a header can share a token with the content.
func (e *Encoder) encodeRendered(out *Rendered, w *writer, chat Chat) {
	s := unsafe.Slice(unsafe.StringData(out.Text), len(out.Text)) // read only
	trained, marks := w.trained(chat), w.marks
	for i := 0; i < len(s); {
		mark := controlMark{at: len(s)}
		if chat.ParseSpecial {
			at, end, token := e.v.added.raw.find(s, i, Parse)
			if mark.at = at; token != nil {
				mark.size, mark.id = end-at, token.ID
			}
		} else if len(marks) > 0 {
			mark, marks = marks[0], marks[1:]
		}
		for len(trained) > 0 && trained[0].to <= i {
			trained = trained[1:]
		}
		e.encodeStretch(out, s, stretch{i, mark.at}, trained)
		if i = mark.at + mark.size; mark.size > 0 {
			out.IDs = append(out.IDs, mark.id)
			out.Mask = append(out.Mask, slices.ContainsFunc(trained, func(r stretch) bool { return r.from < i && r.to > mark.at }))
		}
	}
}

// encodeStretch encodes text between two control tokens and marks the tokens that
// reach into a trained stretch.
func (e *Encoder) encodeStretch(out *Rendered, s []byte, part stretch, trained []stretch) {
	first := len(out.IDs)
	out.IDs = e.encodeText(out.IDs, s[part.from:part.to], Plain)
	ids := out.IDs[first:]
	out.Mask = append(out.Mask, make([]bool, len(ids))...)
	for _, r := range trained {
		if r.from >= part.to {
			return
		}
		// Tokens cover normalised text. A stretch begins and ends beside a newline or
		// a control token, where NFC joins nothing, so lengths can be compared.
		from, to := e.normalLen(s[part.from:max(part.from, r.from)]), int(^uint(0)>>1)
		if r.to < part.to {
			to = e.normalLen(s[part.from:r.to])
		}
		at := 0
		for k, id := range ids {
			end := at + len(e.v.bytes(id))
			if at < to && end > from {
				out.Mask[first+k] = true
			}
			at = end
		}
	}
}

// normalLen is the length of s once it is repaired and normalised.
func (e *Encoder) normalLen(s []byte) int {
	if asciiLen(s) == len(s) {
		return len(s)
	}
	fixed, _ := appendValid(nil, s)
	if e.v.nfc {
		fixed = e.normalizer.appendNFC(nil, fixed)
	}
	return len(fixed)
}
