package stages

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"lpipe/dataset"
)

// format is one of the shapes that convert reads.
type format struct {
	name string
	// read is every column that may be used.
	read []string
	// needs lists sets of columns; a file must have all columns of one of them.
	needs [][]string
	// row makes a row of a record, or says why it cannot.
	row func(dataset.Record) (row dataset.Row, dropped string)
}

func formatNames() []string {
	return []string{"r1-distill-sft", "alpaca", "sharegpt", "messages", "gsm8k", "columns"}
}

func (c *Convert) formatOf() *format {
	switch c.Format {
	case "r1-distill-sft":
		return r1Format(c.CrossCheck)
	case "alpaca":
		return &format{
			name:  c.Format,
			read:  []string{"id", "system", "instruction", "input", "output", "source", "answer"},
			needs: [][]string{{"instruction", "output"}},
			row:   alpacaRow,
		}
	case "sharegpt":
		return &format{
			name:  c.Format,
			read:  []string{"id", "system", "conversations", "source", "answer", "tools"},
			needs: [][]string{{"conversations"}},
			row:   sharegptRow,
		}
	case "messages":
		return &format{
			name:  c.Format,
			read:  append(dataset.RowColumns(), "prompt_id"),
			needs: [][]string{{"messages"}},
			row:   messagesRow,
		}
	case "gsm8k":
		return &format{
			name:  c.Format,
			read:  []string{"id", "question", "answer", "source"},
			needs: [][]string{{"question", "answer"}},
			row:   gsm8kRow,
		}
	}
	return c.columnsFormat()
}

func (f *format) columns() []string { return slices.Clone(f.read) }

// checkColumns compares the columns of a file whose format fixes them.
func (f *format) checkColumns(r *dataset.Reader, keep []string) error {
	have := r.Columns()
	if have == nil {
		return nil
	}
	for _, name := range keep {
		if !slices.Contains(have, name) {
			return fmt.Errorf("%s has no column %q, which keep names; it has %s", r.Name(), name, strings.Join(have, ", "))
		}
	}
	if f.fits(func(name string) bool { return slices.Contains(have, name) }) {
		return nil
	}
	return fmt.Errorf("%s has not the columns of format %s (%s); it has %s: choose another format, or map its columns with format = \"columns\"", r.Name(), f.name, f.need(), strings.Join(have, ", "))
}

func (f *format) fits(has func(string) bool) bool {
	for _, set := range f.needs {
		missing := slices.IndexFunc(set, func(name string) bool { return !has(name) })
		if missing < 0 {
			return true
		}
	}
	return false
}

func (f *format) need() string {
	var sets []string
	for _, set := range f.needs {
		sets = append(sets, strings.Join(set, " and "))
	}
	return strings.Join(sets, ", or ")
}

// missing is the reason for a row without the columns it needs, "" if it has them.
func (f *format) missing(r dataset.Record) string {
	if f.fits(r.Has) {
		return ""
	}
	return "missing column: " + f.need()
}

// r1Format is both configs of ServiceNow-AI/R1-Distill-SFT. In v1 the answer stands in reannotated_messages,
// the one before the annotation in messages; in v0 they are reannotated_assistant_content and solution.
func r1Format(crossCheck bool) *format {
	f := &format{
		name:  "r1-distill-sft",
		read:  []string{"id", "source", "source_dataset", "problem", "solution", "reannotated_messages", "messages"},
		needs: [][]string{{"reannotated_messages"}, {"problem", "reannotated_assistant_content"}},
	}
	f.read = append(f.read, "reannotated_assistant_content")
	f.row = func(r dataset.Record) (dataset.Row, string) {
		if why := f.missing(r); why != "" {
			return dataset.Row{}, why
		}
		row := dataset.Row{ID: r.Get("id").String(), Source: r.Get("source").String()}
		reference := r.Get("solution").String()
		if r.Has("reannotated_messages") {
			messages, err := dataset.MessagesOf(r.Get("reannotated_messages"))
			if err != nil {
				return row, "reannotated_messages " + err.Error()
			}
			if len(messages) == 0 {
				return row, "no messages"
			}
			row.Messages = messages
			if original, err := dataset.MessagesOf(r.Get("messages")); err == nil {
				reference = (&dataset.Row{Messages: original}).Response()
			}
			if copied := r.Get("reannotated_assistant_content"); crossCheck && copied.Shape == dataset.Text && copied.Text != row.Response() {
				row.Flags = []string{"content_differs"}
			}
		} else {
			row.Messages = []dataset.Message{
				{Role: dataset.User, Content: r.Get("problem").String()},
				{Role: dataset.Assistant, Content: r.Get("reannotated_assistant_content").String()},
			}
		}
		row.Answer = answerOf(reference, row.Response())
		return row, ""
	}
	return f
}

// answerOf is the boxed answer of the reference, or else of the response itself.
func answerOf(reference, response string) string {
	if answer, ok := lastBoxed(reference); ok {
		return answer
	}
	answer, _ := lastBoxed(afterThink(response))
	return answer
}

func alpacaRow(r dataset.Record) (dataset.Row, string) {
	if !r.Has("instruction") || !r.Has("output") {
		return dataset.Row{}, "missing column: instruction and output"
	}
	prompt := r.Get("instruction").String()
	if input := r.Get("input").String(); strings.TrimSpace(input) != "" {
		prompt += "\n\n" + input
	}
	return turns(r, r.Get("system").String(), prompt, r.Get("output").String()), ""
}

// turns is a row of one question and one answer, with the usual columns beside.
func turns(r dataset.Record, system, prompt, response string) dataset.Row {
	row := dataset.Row{ID: r.Get("id").String(), Source: r.Get("source").String()}
	if strings.TrimSpace(system) != "" {
		row.Messages = append(row.Messages, dataset.Message{Role: dataset.System, Content: system})
	}
	row.Messages = append(row.Messages,
		dataset.Message{Role: dataset.User, Content: prompt},
		dataset.Message{Role: dataset.Assistant, Content: response})
	if row.Answer = r.Get("answer").String(); row.Answer == "" {
		row.Answer = answerOf("", response)
	}
	return row
}

// shareGPT names the roles that ShareGPT files use.
func shareGPT(role string) string {
	switch strings.ToLower(role) {
	case "human", "user":
		return dataset.User
	case "gpt", "assistant", "chatgpt", "bing", "bard", "claude", "model":
		return dataset.Assistant
	case "tool", "function_response", "observation":
		return dataset.Tool
	}
	return strings.ToLower(role)
}

func sharegptRow(r dataset.Record) (dataset.Row, string) {
	list := r.Get("conversations")
	if list.Shape != dataset.List {
		return dataset.Row{}, "missing column: conversations"
	}
	if len(list.List) == 0 {
		return dataset.Row{}, "no messages"
	}
	row := dataset.Row{ID: r.Get("id").String(), Source: r.Get("source").String(), Answer: r.Get("answer").String()}
	if system := r.Get("system").String(); strings.TrimSpace(system) != "" {
		row.Messages = append(row.Messages, dataset.Message{Role: dataset.System, Content: system})
	}
	for _, turn := range list.List {
		role, content := turn.Get("from"), turn.Get("value")
		if role.Shape == dataset.Null { // some files have OpenAI's names inside
			role, content = turn.Get("role"), turn.Get("content")
		}
		row.Messages = append(row.Messages, dataset.Message{Role: shareGPT(role.String()), Content: content.String()})
	}
	if row.Answer == "" {
		row.Answer = answerOf("", row.Response())
	}
	return row, ""
}

func messagesRow(r dataset.Record) (dataset.Row, string) {
	if !r.Has("messages") {
		return dataset.Row{}, "missing column: messages"
	}
	row, err := dataset.RowOf(r)
	if err != nil {
		return row, err.Error()
	}
	if len(row.Messages) == 0 {
		return row, "no messages"
	}
	if row.ID == "" {
		row.ID = r.Get("prompt_id").String()
	}
	if row.Answer == "" {
		row.Answer = answerOf("", row.Response())
	}
	return row, ""
}

var calculator = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<<[^<>]*>>`) })

// gsm8kRow reads GSM8K: the worked solution loses its calculator notes (<<6*2=12>>), and its last line,
// "#### 12", becomes \boxed{12}.
func gsm8kRow(r dataset.Record) (dataset.Row, string) {
	if !r.Has("question") || !r.Has("answer") {
		return dataset.Row{}, "missing column: question and answer"
	}
	text := calculator().ReplaceAllString(r.Get("answer").String(), "")
	steps, final, ok := cutLast(text, "####")
	if !ok {
		return dataset.Row{}, "no final answer behind ####"
	}
	final = strings.ReplaceAll(strings.TrimSpace(final), ",", "")
	response := strings.TrimSpace(steps) + "\n\n\\boxed{" + final + "}"
	row := turns(r, "", r.Get("question").String(), response)
	row.Answer = final
	return row, ""
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// columnsFormat maps columns by the user's names for them.
func (c *Convert) columnsFormat() *format {
	f := &format{name: "columns"}
	maps := map[string]*mapping{}
	var needed []string
	for _, role := range columnRoles {
		if text := c.Columns[role]; text != "" {
			m, err := parseMapping(text)
			if err != nil {
				panic("stages: a mapping that Check did not see")
			}
			maps[role] = m
			f.read = append(f.read, m.columns()...)
			if m.column != "" { // of a text some columns may be missing
				needed = append(needed, m.columns()...)
			}
		}
	}
	f.needs = [][]string{needed}
	return f.mapped(maps)
}

// mapped makes rows by the mappings of roles.
func (f *format) mapped(maps map[string]*mapping) *format {
	get := func(r dataset.Record, role string) string {
		if m := maps[role]; m != nil {
			return m.value(r).String()
		}
		return ""
	}
	f.row = func(r dataset.Record) (dataset.Row, string) {
		// Not every row must have every column, but the ones that make its text.
		for _, role := range []string{"messages", "prompt", "response"} {
			if m := maps[role]; m != nil {
				if name := m.missing(r); name != "" {
					return dataset.Row{}, fmt.Sprintf("missing column: %s (%s)", name, role)
				}
			}
		}
		row := dataset.Row{ID: get(r, "id"), Source: get(r, "source"), Answer: get(r, "answer")}
		if m := maps["messages"]; m != nil {
			messages, err := dataset.MessagesOf(m.value(r))
			if err != nil {
				return row, m.columns()[0] + " " + err.Error()
			}
			row.Messages = messages
		} else {
			row.Messages = turns(nil, get(r, "system"), get(r, "prompt"), withReasoning(get(r, "reasoning"), get(r, "response"))).Messages
		}
		if len(row.Messages) == 0 {
			return row, "no messages"
		}
		if boxed, ok := lastBoxed(row.Answer); ok { // a whole solution stands in the column
			row.Answer = boxed
		}
		if row.Answer == "" {
			row.Answer = answerOf("", row.Response())
		}
		return row, ""
	}
	return f
}

// withReasoning puts reasoning of a column of its own where R1 has it.
func withReasoning(reasoning, response string) string {
	if strings.TrimSpace(reasoning) == "" {
		return response
	}
	return "<think>\n" + strings.TrimSpace(reasoning) + "\n</think>\n\n" + response
}
