package stages

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"lpipe/dataset"
)

const (
	thinkOpen  = "<think>"
	thinkClose = "</think>"
)

func findEmpty(_ *Checks, r *view) string {
	if len(r.Messages) == 0 {
		return "no messages"
	}
	for i := range r.Messages {
		m := &r.Messages[i]
		if strings.TrimSpace(m.Content) == "" && len(m.ToolCalls) == 0 {
			return fmt.Sprintf("turn %d (%s) is empty", i+1, m.Role)
		}
	}
	return ""
}

func findRoles(k *Checks, r *view) string {
	before, questions := "", 0
	for i := range r.Messages {
		role := r.Messages[i].Role
		turn := fmt.Sprintf("turn %d (%s)", i+1, role)
		switch role {
		case dataset.System:
			if !k.Roles.System {
				return "a system turn"
			}
			if i > 0 {
				return turn + " does not stand first"
			}
		case dataset.User:
			if before == dataset.User {
				return turn + " follows another of the user"
			}
			if before == dataset.Tool {
				return turn + " follows a tool's result"
			}
			if questions++; k.Roles.MaxTurns > 0 && questions > k.Roles.MaxTurns {
				return fmt.Sprintf("%s is question %d, more than %d", turn, questions, k.Roles.MaxTurns)
			}
		case dataset.Assistant:
			if before == dataset.Assistant {
				return turn + " follows another of the assistant"
			}
			if before != dataset.User && before != dataset.Tool {
				return turn + " comes before the user's first"
			}
		case dataset.Tool:
			if !k.Roles.Tools {
				return "a tool turn"
			}
			if before != dataset.Assistant && before != dataset.Tool {
				return turn + " follows no call of the assistant"
			}
		default:
			return fmt.Sprintf("turn %d has the unknown role %q", i+1, role)
		}
		before = role
	}
	if before != dataset.Assistant && len(r.Messages) > 0 {
		return "the last turn is not the assistant's but " + before
	}
	return ""
}

func findThink(k *Checks, r *view) string {
	last := -1
	for i := range r.Messages {
		if r.Messages[i].Role != dataset.Assistant {
			continue
		}
		last = i
		if problem := thinkProblem(r.Messages[i].Content, &r.marks[i]); problem != "" {
			return problem
		}
	}
	if k.Think.Required && last >= 0 && r.marks[last].opens == 0 {
		return "no " + thinkOpen
	}
	return ""
}

func thinkProblem(text string, m *marks) string {
	opens, closes := m.opens, m.closes
	switch {
	case opens == 0 && closes == 0:
		return ""
	case opens == 0:
		return thinkClose + " without " + thinkOpen
	case closes == 0:
		return thinkOpen + " is never closed: cut off? It ends " + excerpt(text, len(text), 80)
	case opens > 1 || closes > 1:
		return fmt.Sprintf("%d %s and %d %s", opens, thinkOpen, closes, thinkClose)
	}
	open, end := m.open, m.close
	if end < open {
		return thinkClose + " before " + thinkOpen
	}
	if before := strings.TrimSpace(text[:open]); before != "" {
		return "text before " + thinkOpen + ": " + excerpt(before, 0, 60)
	}
	thought := strings.TrimSpace(text[open+len(thinkOpen) : end])
	answer := strings.TrimSpace(text[end+len(thinkClose):])
	switch {
	case thought == "":
		return "nothing inside " + thinkOpen
	case answer == "":
		return "nothing behind " + thinkClose
	case thought == answer:
		return "the reasoning is the answer once more"
	}
	return ""
}

// verdict is what comparing an answer with the row's reference came to.
type verdict uint8

const (
	unverifiable verdict = iota // no reference, or no \boxed{} in the answer
	agrees
	disagrees
	verdicts
)

// findBoxed also compares the answer with the row's reference.
func findBoxed(k *Checks, r *view) (evidence string, answers verdict) {
	response, answer := r.response, r.answer
	boxes, open := boxedIn(answer)
	if open {
		return `\boxed{ is never closed: ` + excerpt(answer, strings.LastIndex(answer, `\boxed`), 80), unverifiable
	}
	if len(boxes) == 0 {
		if k.Boxed.Required {
			return `no \boxed{} in the answer`, unverifiable
		}
		return "", unverifiable
	}
	last := boxes[len(boxes)-1]
	if strings.TrimSpace(last) == "" {
		return `\boxed{} is empty`, unverifiable
	}
	switch {
	case r.Answer == "":
	case sameAnswer(last, r.Answer) || sameAnswer(strings.Join(boxes, ","), r.Answer):
		answers = agrees
	default:
		return fmt.Sprintf(`\boxed{%s} but the answer is %s`, last, r.Answer), disagrees
	}
	if k.Boxed.Reasoning {
		if thought, ok := lastBoxed(response[:len(response)-len(answer)]); ok && !sameAnswer(thought, last) {
			return fmt.Sprintf(`\boxed{%s} in the reasoning, \boxed{%s} in the answer`, thought, last), answers
		}
	}
	return "", answers
}

// findControl finds <|name|>, DeepSeek's <｜name｜> and Llama 2's marks.
func findControl(_ *Checks, r *view) string {
	for i := range r.Messages {
		if at, n := r.marks[i].control, r.marks[i].controlLength; n > 0 {
			return fmt.Sprintf("%s in turn %d (%s)", r.Messages[i].Content[at:at+n], i+1, r.Messages[i].Role)
		}
	}
	return ""
}

func firstRune(s string) rune {
	r, _ := utf8.DecodeRuneInString(s)
	return r
}

func findEncoding(_ *Checks, r *view) string {
	for i := range r.Messages {
		if !r.marks[i].remarkable {
			continue
		}
		if problem := encodingProblem(r.Messages[i].Content); problem != "" {
			return fmt.Sprintf("%s in turn %d (%s)", problem, i+1, r.Messages[i].Role)
		}
	}
	return ""
}

func encodingProblem(s string) string {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < 0x20 && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
				return fmt.Sprintf("control character U+%04X %s", c, excerpt(s, i, 60))
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError:
			return "U+FFFD " + excerpt(s, i, 60)
		case r == '\u200c' || r == '\u200d': // joiners are spelling in some scripts
		case invisible(r):
			return fmt.Sprintf("invisible character U+%04X %s", r, excerpt(s, i, 60))
		case unicode.Is(unicode.Co, r):
			return fmt.Sprintf("private character U+%04X %s", r, excerpt(s, i, 60))
		case mojibake(r, s[i+size:]):
			return "text decoded with the wrong encoding " + excerpt(s, i, 60)
		}
		i += size
	}
	return ""
}

// mojibake finds UTF-8 that was read as Windows-1252: the lead bytes C2 and C3 show as Â and Ã before what
// 80..BF stand for there, and E2 80 as â€.
func mojibake(r rune, rest string) bool {
	next := firstRune(rest)
	switch r {
	case 'Ã', 'Â':
		return next >= 0x80 && next <= 0xbf || r == 'Ã' && strings.ContainsRune("€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ", next)
	case 'â':
		return next == '€' || next == 0x80
	}
	return false
}

func findLength(k *LengthCheck, n sizes) string {
	switch {
	case n.prompt < k.MinPrompt:
		return fmt.Sprintf("prompt has %d characters, at least %d are asked for", n.prompt, k.MinPrompt)
	case k.MaxPrompt > 0 && n.prompt > k.MaxPrompt:
		return fmt.Sprintf("prompt has %d characters, more than %d", n.prompt, k.MaxPrompt)
	case n.response < k.MinResponse:
		return fmt.Sprintf("response has %d characters, at least %d are asked for", n.response, k.MinResponse)
	case k.MaxResponse > 0 && n.response > k.MaxResponse:
		return fmt.Sprintf("response has %d characters, more than %d", n.response, k.MaxResponse)
	}
	return ""
}

func findTokens(k *TokensCheck, n sizes) string {
	for _, limit := range [...]struct {
		what   string
		n, max int
	}{{"prompt", n.promptTokens, k.MaxPrompt}, {"response", n.responseTokens, k.MaxResponse}, {"conversation", n.totalTokens, k.MaxTotal}} {
		if limit.max > 0 && limit.n > limit.max {
			return fmt.Sprintf("%s has %d tokens, more than %d", limit.what, limit.n, limit.max)
		}
	}
	if n.contentTokens == 0 {
		return ""
	}
	switch each := float64(n.bytes) / float64(n.contentTokens); {
	case each < k.MinBytes:
		return fmt.Sprintf("%.2f bytes for a token, fewer than %g", each, k.MinBytes)
	case k.MaxBytes > 0 && each > k.MaxBytes:
		return fmt.Sprintf("%.2f bytes for a token, more than %g", each, k.MaxBytes)
	}
	return ""
}

func findFlags(_ *Checks, r *view) string { return strings.Join(r.Flags, ", ") }

// refusals begin answers that give none. Lower case.
var refusals = [...]string{
	"i'm sorry, but", "i am sorry, but", "i’m sorry, but", "sorry, but i can", "i can't assist", "i cannot assist", "i can’t assist",
	"i can't help with", "i cannot help with", "i can’t help with", "i'm unable to", "i am unable to", "i cannot fulfill", "i can't fulfill",
	"i cannot provide", "i can't provide", "as an ai language model", "as an ai, i", "as a large language model",
}

// findRefusal finds a refusal that begins in the first 60 bytes.
func findRefusal(_ *Checks, r *view) string {
	answer := strings.TrimSpace(r.answer)
	for at := 0; at < min(len(answer), 60); at++ {
		if c := answer[at] | 0x20; c != 'i' && c != 's' && c != 'a' {
			continue
		}
		for _, phrase := range refusals {
			if len(answer)-at >= len(phrase) && at+len(phrase) <= 200 && equalLower(answer[at:at+len(phrase)], phrase) {
				return excerpt(answer, 0, 100)
			}
		}
	}
	return ""
}

// equalLower compares a text, in lower case as far as ASCII goes, with one in lower case.
func equalLower(s, lower string) bool {
	for i := range len(lower) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
