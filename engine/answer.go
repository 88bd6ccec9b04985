package engine

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
)

// AnswerKind says how a final answer is found in a text and compared.
type AnswerKind string

const (
	// Boxed takes the last \boxed{…} after the reasoning, and compares as mathematics: see sameMath.
	Boxed AnswerKind = "boxed"
	// Number takes the last number after the reasoning, and compares values.
	Number AnswerKind = "number"
	// Exact takes all text after the reasoning, white space at both ends removed, and compares it as it is.
	Exact AnswerKind = "exact"
)

// Check refuses unknown kinds.
func (k AnswerKind) Check() error {
	switch k {
	case Boxed, Number, Exact:
		return nil
	}
	return fmt.Errorf("answer: %q is none of boxed, number, exact", string(k))
}

// Extract finds the final answer in a model's text. A text whose reasoning was cut off (a <think> without its end)
// has none.
func (k AnswerKind) Extract(text string) (answer string, ok bool) {
	if _, after, closed := cutLast(text, "</think>"); closed {
		text = after
	} else if strings.Contains(text, "<think>") {
		return "", false
	}
	switch k {
	case Boxed:
		return lastBoxed(text)
	case Number:
		return lastNumber(text)
	}
	text = strings.TrimSpace(text)
	return text, text != ""
}

// Reference finds the answer to compare with in what a row gives as its answer: a bare answer, a solution with
// \boxed{…}, or GSM8K's "… #### 42".
func (k AnswerKind) Reference(text string) string {
	if k == Exact {
		return strings.TrimSpace(text)
	}
	if a, ok := lastBoxed(text); ok {
		return a
	}
	if _, after, ok := cutLast(text, "####"); ok {
		text = after
	}
	if k == Number {
		if a, ok := lastNumber(text); ok {
			return a
		}
	}
	return strings.TrimSpace(text)
}

// Same compares an extracted answer with a reference.
func (k AnswerKind) Same(answer, reference string) bool {
	if k == Exact {
		return answer == reference
	}
	return sameMath(answer, reference)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// lastBoxed returns the content of the last \boxed{…} or \fbox{…} whose braces balance.
func lastBoxed(text string) (string, bool) {
	for end := len(text); ; {
		i := max(strings.LastIndex(text[:end], `\boxed`), strings.LastIndex(text[:end], `\fbox`))
		if i < 0 {
			return "", false
		}
		rest := strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(text[i:], `\boxed`), `\fbox`), " ")
		if content, ok := braced(rest); ok {
			return strings.TrimSpace(content), true
		}
		end = i
	}
}

// braced returns what stands between the brace at the start of s and its partner; \{ and \} do not count.
func braced(s string) (string, bool) {
	if s == "" || s[0] != '{' {
		return "", false
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return s[1:i], true
			}
		}
	}
	return "", false
}

var numberPattern = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?`)
})

func lastNumber(text string) (string, bool) {
	found := ""
	for _, at := range numberPattern().FindAllStringIndex(text, -1) {
		m := text[at[0]:at[1]]
		if !strings.ContainsAny(m, "0123456789") {
			continue
		}
		// "3-4" is a difference, not 3 and -4.
		if at[0] > 0 && (m[0] == '-' || m[0] == '+') && isWord(text[at[0]-1]) {
			m = m[1:]
		}
		found = m
	}
	return found, found != ""
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ')'
}

// sameMath compares two answers: as exact rational numbers where both are numbers (1,000 = 1000.0, 1/2 = 0.5 =
// \frac12, 50\% = 50), else as text without what carries no meaning (spaces, $, \left, \text, \dfrac for \frac).
func sameMath(a, b string) bool {
	a, b = plainMath(a), plainMath(b)
	x, okX := rational(a)
	y, okY := rational(b)
	if okX && okY {
		return x.Cmp(y) == 0
	}
	return a == b && a != ""
}

var (
	mathWords = strings.NewReplacer(
		`\left`, "", `\right`, "", `\!`, "", `\,`, "", `\;`, "", `\:`, "", `\ `, "", `~`, "",
		`\dfrac`, `\frac`, `\tfrac`, `\frac`, `\cdot`, `\times`, `\$`, "", "$", "", `\%`, "", "%", "",
		`^\circ`, "", `^{\circ}`, "", `\(`, "", `\)`, "", `\[`, "", `\]`, "", "−", "-", "\u00a0", "",
	)
	textPattern     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\\(?:text|mathrm|textbf|mathbf|mbox)\{([^{}]*)\}`) })
	shortFraction   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\\frac(\d)(\d)`) })
	simpleFraction  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([-+]?)\\frac\{([-+]?[\d.]+)\}\{([-+]?[\d.]+)\}$`) })
	groupedThousand = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?$`) })
	decimalNumber   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[-+]?(?:\d+\.?\d*|\.\d+)$`) })
	plainFraction   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[-+]?\d+/\d+$`) })
)

func plainMath(s string) string {
	s = textPattern().ReplaceAllString(s, "$1")
	s = mathWords.Replace(s)
	s = strings.Join(strings.Fields(s), "")
	s = strings.TrimSuffix(s, ".")
	// "x=5" answers 5.
	if name, value, ok := strings.Cut(s, "="); ok && len(name) <= 2 && name != "" {
		s = value
	}
	s = shortFraction().ReplaceAllString(s, `\frac{$1}{$2}`)
	return s
}

func rational(s string) (*big.Rat, bool) {
	if groupedThousand().MatchString(s) {
		s = strings.ReplaceAll(s, ",", "")
	}
	if len(s) > 100 { // big.Rat would compute for ever on a hostile exponent; digits alone are bounded by length
		return nil, false
	}
	if m := simpleFraction().FindStringSubmatch(s); m != nil {
		above, okA := rational(m[1] + m[2])
		below, okB := rational(m[3])
		if !okA || !okB || below.Sign() == 0 {
			return nil, false
		}
		return above.Quo(above, below), true
	}
	switch {
	case plainFraction().MatchString(s):
		_, below, _ := strings.Cut(s, "/")
		if strings.Trim(below, "0") == "" {
			return nil, false
		}
	case !decimalNumber().MatchString(s):
		return nil, false
	}
	return new(big.Rat).SetString(strings.TrimPrefix(s, "+"))
}
