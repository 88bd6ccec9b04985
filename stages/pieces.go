package stages

import (
	"iter"
	"strings"
)

// pieces cuts a text into prose and what must stay as it is: fenced and inline code, and LaTeX between \( \),
// \[ \], $ $, $$ $$ and in environments. What is opened and never closed is prose, except for a fence.
func pieces(s string) iter.Seq2[string, bool] {
	return func(yield func(text string, kept bool) bool) {
		prose := 0 // where the prose in hand began
		for i := 0; i < len(s); {
			next := strings.IndexAny(s[i:], "`$\\")
			if next < 0 {
				break
			}
			i += next
			n := keptLength(s, i)
			if n == 0 {
				i++
				if s[i-1] == '\\' && i < len(s) { // an escaped dollar or backslash opens nothing
					i++
				}
				continue
			}
			if prose < i && !yield(s[prose:i], false) {
				return
			}
			if !yield(s[i:i+n], true) {
				return
			}
			i += n
			prose = i
		}
		if prose < len(s) {
			yield(s[prose:], false)
		}
	}
}

// keptLength is the length of the code or LaTeX that begins at i, 0 if none does.
func keptLength(s string, i int) int {
	rest := s[i:]
	switch {
	case strings.HasPrefix(rest, "```"):
		if end := strings.Index(rest[3:], "```"); end >= 0 {
			return end + 6
		}
		return len(rest)
	case rest[0] == '`':
		line, _, _ := strings.Cut(rest[1:], "\n")
		if end := strings.IndexByte(line, '`'); end >= 0 {
			return end + 2
		}
	case strings.HasPrefix(rest, `\(`):
		return through(rest, `\)`)
	case strings.HasPrefix(rest, `\[`):
		return through(rest, `\]`)
	case strings.HasPrefix(rest, `\begin{`):
		if name, _, ok := strings.Cut(rest[len(`\begin{`):], "}"); ok && len(name) < 30 {
			return through(rest, `\end{`+name+"}")
		}
	case strings.HasPrefix(rest, "$$"):
		return through(rest, "$$")
	case rest[0] == '$':
		return dollars(rest)
	}
	return 0
}

// through is the length up to the end of close, which must follow in the same paragraphs or soon.
func through(s, close string) int {
	const farthest = 20_000
	end := strings.Index(s[2:min(len(s), farthest)], close)
	if end < 0 {
		return 0
	}
	return 2 + end + len(close)
}

// dollars is the length of $formula$, by pandoc's rule, which tells it from money: no blank behind the first
// dollar, none before the last, no digit behind that, all in one paragraph.
func dollars(s string) int {
	if len(s) < 3 || s[1] == ' ' || s[1] == '\n' || s[1] == '\t' {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\n':
			if i+1 < len(s) && s[i+1] == '\n' {
				return 0
			}
		case '$':
			before := s[i-1]
			digit := i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9'
			if before != ' ' && before != '\n' && before != '\t' && !digit {
				return i + 1
			}
			return 0
		}
	}
	return 0
}
