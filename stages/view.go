package stages

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"lpipe/dataset"
)

// view is a row as the checks of single rows see it: what several of them ask for is looked up once.
type view struct {
	*dataset.Row
	marks    []marks // by turn
	prompt   string
	response string
	answer   string // the response behind its reasoning
}

// marks are what stands out in a text.
type marks struct {
	remarkable     bool // holds something else than printable ASCII, blanks, tabs and newlines
	foreign        bool // holds something else than ASCII
	opens, closes  int  // of reasoning tags
	open, close    int  // where the first of each stands
	lastClose      int  // where the last one stands
	control        int  // where text stands that looks like a control token
	controlLength  int  // 0: none does
	carriageReturn bool
}

func viewOf(r *dataset.Row, space []marks) *view {
	v := &view{Row: r, marks: space[:0], prompt: r.Prompt()}
	last := -1
	for i := range r.Messages {
		v.marks = append(v.marks, marksOf(r.Messages[i].Content))
		if r.Messages[i].Role == dataset.Assistant {
			last = i
		}
	}
	if last >= 0 {
		v.response = r.Messages[last].Content
		v.answer = v.response
		if m := &v.marks[last]; m.closes > 0 {
			v.answer = v.response[m.lastClose+len(thinkClose):]
		}
	}
	return v
}

// marksOf walks through a text three times, each time as fast as memory: for bytes out of the ordinary, for < and for [.
func marksOf(s string) (m marks) {
	for i := 0; i < len(s); i++ {
		if i += unremarkable(s[i:]); i == len(s) {
			break
		}
		switch c := s[i]; {
		case c == '\n', c == '\t':
		case c == '\r':
			m.remarkable, m.carriageReturn = true, true
		default:
			m.remarkable, m.foreign = true, m.foreign || c >= utf8.RuneSelf
		}
		if m.foreign {
			m.carriageReturn = strings.IndexByte(s, '\r') >= 0
			break
		}
	}
	m.tags(s)
	return m
}

// tags finds reasoning tags and what looks like control tokens. Of the latter <|name|> counts before DeepSeek's <｜name｜>, that
// before the marks of Llama 2 and Gemma, whichever stands first.
func (m *marks) tags(s string) {
	var found [3]struct{ at, n int }
	note := func(kind, at, n int) {
		if n > 0 && found[kind].n == 0 {
			found[kind].at, found[kind].n = at, n
		}
	}
	for at := 0; ; at++ {
		next := strings.IndexByte(s[at:], '<')
		if next < 0 {
			break
		}
		at += next
		switch rest := s[at:]; {
		case strings.HasPrefix(rest, thinkOpen):
			if m.opens++; m.opens == 1 {
				m.open = at
			}
		case strings.HasPrefix(rest, thinkClose):
			if m.closes++; m.closes == 1 {
				m.close = at
			}
			m.lastClose = at
		case strings.HasPrefix(rest, "<|"):
			note(0, at, controlName(rest, "<|", "|>"))
		case strings.HasPrefix(rest, "<｜"):
			note(1, at, controlName(rest, "<｜", "｜>"))
		default:
			for _, mark := range [...]string{"<<SYS>>", "<start_of_turn>", "<end_of_turn>"} {
				if strings.HasPrefix(rest, mark) {
					note(2, at, len(mark))
				}
			}
		}
	}
	for at := 0; found[2].n == 0; at++ {
		next := strings.IndexByte(s[at:], '[')
		if next < 0 {
			break
		}
		at += next
		for _, mark := range [...]string{"[INST]", "[/INST]"} {
			if strings.HasPrefix(s[at:], mark) {
				note(2, at, len(mark))
			}
		}
	}
	for _, one := range found {
		if one.n > 0 {
			m.control, m.controlLength = one.at, one.n
			return
		}
	}
}

// controlName is the length of open, name and close at the beginning of s, 0 if that is no control token.
func controlName(s, open, close string) int {
	rest := s[len(open):]
	name, _, ok := strings.Cut(rest[:min(len(rest), 60)], close)
	if !ok || name == "" || strings.ContainsAny(name, "\n<>|") || !unicode.IsLetter(firstRune(name)) {
		return 0
	}
	return len(open) + len(name) + len(close)
}

// characters counts those of a text.
func (m *marks) characters(s string) int {
	if !m.foreign {
		return len(s)
	}
	return utf8.RuneCountInString(s)
}
