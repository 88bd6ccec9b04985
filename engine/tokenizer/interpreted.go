package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A chat whose template is interpreted is rendered to one text, in which it must be known
// what the template wrote and what users did: control text of users is no control token. So
// before rendering, a character that nothing else has goes into each control text of users,
// behind its first byte; what is whole in the output is the template's own.
//
// The mask needs to know where answers stand. An answer begins where the chat up to it,
// rendered with the generation prompt, ends, and goes up to and with the next control token
// that ends a turn. For a template with {% generation %} the author has said it; that is
// the rule of Chat.WholeTurn, as in TRL.

// interpretedChat renders one chat.
type interpretedChat struct {
	e        *Encoder
	chat     Chat
	template *jinjaTemplate
	breaker  string // stands in control texts of users
	messages []any  // of pyObject
	tools    any    // nil or a list
}

// interpret writes a chat by the interpreted template.
func (e *Encoder) interpret(w *writer, chat Chat) error {
	if e.jinja == nil {
		var err error
		if e.jinja, err = parseJinja(e.template.text); err != nil {
			return fmt.Errorf("chat template %s: %w", e.template.from, err)
		}
	}
	if len(chat.Messages) == 0 {
		return errors.New("a chat without messages")
	}
	c := &interpretedChat{e: e, chat: chat, template: e.jinja}
	err := c.values()
	if err == nil {
		err = c.write(w)
	}
	if err != nil {
		return fmt.Errorf("chat template %s: %w", e.template.from, err)
	}
	return nil
}

// values makes the template's variables of messages and tools.
func (c *interpretedChat) values() error {
	if err := c.chooseBreaker(); err != nil {
		return err
	}
	for i, m := range c.chat.Messages {
		if c.chat.NoSystem && m.Role == "system" {
			continue
		}
		o := pyObject{[]string{"role", "content"}, map[string]any{"role": m.Role, "content": c.guard(m.Content, m.Role)}}
		if len(m.ToolCalls) > 0 {
			calls, err := parsePython(m.ToolCalls)
			if err != nil {
				return fmt.Errorf("message %d (%s): tool_calls: %w", i+1, m.Role, err)
			}
			if calls != nil {
				o.keys = append(o.keys, "tool_calls")
				o.values["tool_calls"] = c.guardAll(calls, m.Role)
			}
		}
		c.messages = append(c.messages, o)
	}
	var tools []any
	for i, raw := range c.chat.Tools {
		v, err := parsePython(raw)
		if err != nil {
			return fmt.Errorf("tool %d: %w", i+1, err)
		}
		tools = append(tools, c.guardAll(v, ""))
	}
	if tools != nil {
		c.tools = tools
	}
	return nil
}

// chooseBreaker finds a noncharacter that no text has.
func (c *interpretedChat) chooseBreaker() error {
	texts := []string{c.e.template.text}
	for _, m := range c.chat.Messages {
		texts = append(texts, m.Role, m.Content, string(m.ToolCalls))
	}
	for _, t := range c.chat.Tools {
		texts = append(texts, string(t))
	}
	in := func(mark string) bool {
		return slices.ContainsFunc(texts, func(t string) bool {
			return strings.Contains(t, mark) || strings.Contains(strings.ToLower(t), fmt.Sprintf(`\u%x`, []rune(mark)[0]))
		})
	}
	if in(generationBegin) || in(generationEnd) {
		return errors.New("a message has U+FDE0 or U+FDE1, which are no characters, and which mark answers here")
	}
	for r := rune(0xFDD0); r < 0xFDE0; r++ {
		if c.breaker = string(r); !in(c.breaker) {
			return nil
		}
	}
	return errors.New("the messages have all of U+FDD0 to U+FDDF, which are no characters")
}

// guard breaks the control texts in what a message of this role says. Thinking tags in
// answers stay whole: they are what the model shall write.
func (c *interpretedChat) guard(text, role string) string {
	var b strings.Builder
	s, from := []byte(text), 0
	for i := 0; i < len(s); {
		at, token := c.e.v.added.next(s, i)
		if token == nil {
			break
		}
		if i = at + 1; role == "assistant" && (token.Content == "<think>" || token.Content == "</think>") {
			i = at + len(token.Content)
			continue
		}
		b.Write(s[from:i])
		b.WriteString(c.breaker)
		from = i
	}
	b.Write(s[from:])
	return b.String()
}

// guardAll does it in every text of a value.
func (c *interpretedChat) guardAll(v any, role string) any {
	switch v := v.(type) {
	case string:
		return c.guard(v, role)
	case []any:
		for i := range v {
			v[i] = c.guardAll(v[i], role)
		}
	case pyObject:
		for i, k := range v.keys {
			inner := c.guardAll(v.values[k], role)
			delete(v.values, k)
			v.keys[i] = c.guard(k, role)
			v.values[v.keys[i]] = inner
		}
	}
	return v
}

// render renders the first n messages.
func (c *interpretedChat) render(n int, prompt bool) (string, error) {
	messages, err := jinjaValue(c.messages[:n])
	if err != nil {
		return "", err
	}
	tools, err := jinjaValue(c.tools)
	if err != nil {
		return "", err
	}
	variables := map[string]any{"messages": messages, "tools": tools, "documents": nil, "add_generation_prompt": prompt}
	for name, text := range c.e.template.names {
		variables[name] = text
	}
	size := 0
	for _, m := range c.chat.Messages {
		size += len(m.Content)
	}
	return c.template.render(variables, n, size)
}

// write renders the chat and finds the template's control tokens and the answers in it.
func (c *interpretedChat) write(w *writer) error {
	whole, err := c.render(len(c.messages), c.chat.AddGenerationPrompt)
	if err != nil {
		return err
	}
	answers, err := c.answers(whole)
	if err != nil {
		return err
	}
	clean := newCleanText(whole, c.breaker, generationBegin, generationEnd)
	w.text = []byte(clean.text)
	s := []byte(whole)
	for i := 0; i < len(s); {
		at, token := c.e.v.added.next(s, i)
		if token == nil {
			break
		}
		w.marks = append(w.marks, controlMark{clean.at(at), len(token.Content), token.ID})
		i = at + len(token.Content)
	}
	for _, a := range answers {
		w.stretches = append(w.stretches, stretch{clean.at(a.from), clean.at(a.to)})
	}
	return nil
}

// answers returns the stretches of the rendered text that are trained on.
func (c *interpretedChat) answers(whole string) ([]stretch, error) {
	if c.chat.TrainOn == TrainAll {
		return []stretch{{0, len(whole)}}, nil
	}
	var out []stretch
	var err error
	if c.chat.WholeTurn {
		out, err = generated(whole)
	} else {
		out, err = c.turns(whole)
	}
	if c.chat.TrainOn == TrainLast && len(out) > 1 {
		out = out[len(out)-1:]
	}
	return out, err
}

// generated returns what {% generation %} encloses.
func generated(whole string) ([]stretch, error) {
	var out []stretch
	for at := 0; ; {
		from := strings.Index(whole[at:], generationBegin)
		if from < 0 {
			break
		}
		from += at + len(generationBegin)
		to := strings.Index(whole[from:], generationEnd) + from
		out = append(out, stretch{from, to})
		at = to + len(generationEnd)
	}
	if out == nil {
		return nil, errors.New("it has no {% generation %}, which the rule of TRL needs; leave that rule, or use a template that has it")
	}
	return out, nil
}

// turns finds the answers by rendering the chat up to each.
func (c *interpretedChat) turns(whole string) ([]stretch, error) {
	var out []stretch
	for i, m := range c.messages {
		if m.(pyObject).values["role"] != "assistant" {
			continue
		}
		from, err := c.answerStart(whole, i)
		if err != nil {
			return nil, err
		}
		to := c.turnEnd(whole, from)
		if to < 0 {
			through, err := c.render(i+1, false)
			if err != nil {
				return nil, err
			}
			to = max(from, commonPrefix(whole, through))
		}
		out = append(out, stretch{from, to})
	}
	return out, nil
}

// answerStart returns where the i-th message begins: behind the chat before it with the
// generation prompt, or with as much of that prompt as really follows.
func (c *interpretedChat) answerStart(whole string, i int) (int, error) {
	if i == 0 {
		return c.firstStart(whole)
	}
	prompt, err := c.render(i, true)
	if err != nil || strings.HasPrefix(whole, prompt) {
		return len(prompt), err
	}
	before, err := c.render(i, false)
	if err != nil {
		return 0, err
	}
	if !strings.HasPrefix(whole, before) {
		return 0, fmt.Errorf("message %d: what comes before it is rendered in another way when it follows, so it cannot be said which tokens are the answer", i+1)
	}
	return max(len(before), commonPrefix(whole, prompt)), nil
}

// firstStart is answerStart of the first message, before which there is nothing to render: its
// answer begins where another text in its place does.
func (c *interpretedChat) firstStart(whole string) (int, error) {
	first := c.messages[0]
	defer func() { c.messages[0] = first }()
	c.messages[0] = pyObject{[]string{"role", "content"}, map[string]any{"role": "assistant", "content": generationBegin}}
	other, err := c.render(1, false)
	return commonPrefix(whole, other[:max(0, strings.Index(other, generationBegin))]), err
}

// turnEnd returns where the first control token that ends a turn ends, behind from; -1 if
// there is none.
func (c *interpretedChat) turnEnd(whole string, from int) int {
	s := []byte(whole)
	for i := from; i < len(s); {
		at, token := c.e.v.added.next(s, i)
		if token == nil {
			break
		}
		i = at + len(token.Content)
		if token.Content == c.e.template.names["eos_token"] || slices.Contains(turnEnds[:], token.Content) {
			return i
		}
	}
	return -1
}

// turnEnds are the control tokens that end a turn, besides the tokenizer's end of text.
var turnEnds = [...]string{imEnd, "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|end_of_text|>", "<|endoftext|>"}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// cleanText is a text without some marks, and where its parts went.
type cleanText struct {
	text string
	gone []goneMark
}

// goneMark is a mark that was cut out at a position of the old text.
type goneMark struct{ at, size int }

func newCleanText(text string, marks ...string) cleanText {
	c := cleanText{}
	var b strings.Builder
	from := 0
	for i := range text {
		for _, m := range marks {
			if i >= from && strings.HasPrefix(text[i:], m) {
				b.WriteString(text[from:i])
				from = i + len(m)
				c.gone = append(c.gone, goneMark{i, len(m)})
			}
		}
	}
	b.WriteString(text[from:])
	c.text = b.String()
	return c
}

// at turns a position of the old text into one of the new.
func (c *cleanText) at(i int) int {
	cut := 0
	for _, g := range c.gone {
		if g.at >= i {
			break
		}
		cut += g.size
	}
	return i - cut
}
