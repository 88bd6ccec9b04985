package stages

import (
	"math/big"
	"strings"
)

// lastBoxed is the content of the last \boxed{} or \fbox{} whose braces close.
func lastBoxed(text string) (string, bool) {
	boxes, _ := boxedIn(text)
	if len(boxes) == 0 {
		return "", false
	}
	return boxes[len(boxes)-1], true
}

// boxedIn lists the contents of every \boxed{} in order, and says whether one of them never closes.
func boxedIn(text string) (boxes []string, open bool) {
	for {
		i := strings.Index(text, `\boxed`)
		if i < 0 {
			return boxes, open
		}
		text = text[i+len(`\boxed`):]
		body := strings.TrimLeft(text, " \t")
		if !strings.HasPrefix(body, "{") {
			continue // \boxed 5, or the bare word
		}
		end := closingBrace(body)
		if end < 0 {
			open = true
			continue
		}
		boxes = append(boxes, body[1:end])
		text = body[end+1:]
	}
}

// closingBrace is the place of the brace that closes the one at 0, -1 if none does. \{ and \} do not count.
func closingBrace(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// afterThink is what follows the reasoning: all of the text if there is none.
func afterThink(text string) string {
	if i := strings.LastIndex(text, thinkClose); i >= 0 {
		return text[i+len(thinkClose):]
	}
	return text
}

// sameAnswer compares answers as graders of mathematics do: by value if both are numbers, else by text
// without what does not change the meaning (spacing, \left, \text, \dfrac, a dollar, a final period).
func sameAnswer(a, b string) bool {
	a, b = plainAnswer(a), plainAnswer(b)
	if a == b {
		return true
	}
	x, okX := numberOf(a)
	y, okY := numberOf(b)
	return okX && okY && x.Cmp(y) == 0
}

// plainAnswer is an answer in its plain form.
func plainAnswer(s string) string {
	s = strings.TrimSpace(s)
	for _, wrap := range []string{`\boxed`, `\text`, `\textbf`, `\mathrm`, `\mathbf`, `\mbox`} {
		for strings.HasPrefix(s, wrap+"{") {
			end := closingBrace(s[len(wrap):])
			if end < 0 {
				break
			}
			s = s[len(wrap)+1:len(wrap)+end] + s[len(wrap)+end+1:]
		}
	}
	s = answerPlainer.Replace(s)
	s = strings.TrimSuffix(strings.Join(strings.Fields(s), ""), ".")
	return strings.ToLower(s)
}

var answerPlainer = strings.NewReplacer(
	`\left`, "", `\right`, "", `\dfrac`, `\frac`, `\tfrac`, `\frac`, `\!`, "", `\,`, "", `\;`, "", `\ `, "", `~`, "",
	`\$`, "", `$`, "", `\%`, "", `%`, "", `^\circ`, "", `^{\circ}`, "", `°`, "", `\(`, "", `\)`, "", `\[`, "", `\]`, "", `−`, "-", `**`, "")

// numberOf reads 1,234.50, -3, 3/4 and \frac{3}{4}.
func numberOf(s string) (*big.Rat, bool) {
	if len(s) > 60 {
		return nil, false
	}
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	if rest, ok := strings.CutPrefix(s, `\frac{`); ok {
		over, under, ok := strings.Cut(strings.TrimSuffix(rest, "}"), "}{")
		if !ok {
			return nil, false
		}
		s = over + "/" + under
	}
	s = strings.ReplaceAll(s, ",", "")
	if s == "" || strings.Trim(s, "0123456789./") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(sign + s)
}
