package download

import (
	"regexp"
	"slices"
	"strings"
)

// Filter chooses files of a repository as the Python tools do: a pattern's * also matches slashes, and a pattern that
// ends in a slash means all below that folder. Without Include, all files are in.
type Filter struct {
	Include, Exclude []string
}

// Keep tells whether a file is wanted.
func (f Filter) Keep(path string) bool {
	matches := func(pattern string) bool { return compile(pattern).MatchString(path) }
	return (len(f.Include) == 0 || slices.ContainsFunc(f.Include, matches)) && !slices.ContainsFunc(f.Exclude, matches)
}

// compile translates a pattern of Python's fnmatch.
func compile(pattern string) *regexp.Regexp {
	if strings.HasSuffix(pattern, "/") {
		pattern += "*"
	}
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(pattern); i++ {
		switch ch := pattern[i]; ch {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		case '[':
			if end := classEnd(pattern, i); end > 0 {
				b.WriteString(class(pattern[i+1 : end]))
				i = end
				continue
			}
			b.WriteString(`\[`)
		default:
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	re, err := regexp.Compile(b.String())
	if err != nil { // a range in the wrong order: matches nothing, as in Python
		return regexp.MustCompile(`[^\x00-\x{10FFFF}]`)
	}
	return re
}

// classEnd finds the bracket that ends a class: not one that is its first character.
func classEnd(pattern string, start int) int {
	from := start + 1
	if from < len(pattern) && pattern[from] == '!' {
		from++
	}
	if from+1 > len(pattern) {
		return -1
	}
	end := strings.IndexByte(pattern[min(from+1, len(pattern)):], ']')
	if end < 0 {
		return -1
	}
	return from + 1 + end
}

func class(inside string) string {
	not := ""
	if rest, ok := strings.CutPrefix(inside, "!"); ok {
		not, inside = "^", rest
	}
	return "[" + not + strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(inside) + "]"
}
