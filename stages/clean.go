package stages

import (
	"encoding/binary"
	"html"
	"math/bits"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/zeebo/blake3"
	"golang.org/x/text/unicode/norm"

	"lpipe/engine/tokenizer"
)

// cleaner cleans texts as the settings say. did collects, as bits, the rules that changed something in the row in hand;
// before and after show the first place of those whose examples are wanted.
type cleaner struct {
	settings      *Preprocess
	did           uint
	wanted        uint // rules of which examples are wanted, as bits
	before, after [rules]string
}

func (c *cleaner) clean(text string) string {
	p := c.settings
	if p.RepairMojibake {
		text = c.step(ruleMojibake, text, repairMojibake)
	}
	if p.StripControl {
		text = c.step(ruleControl, text, stripControl)
	}
	switch p.Normalize {
	case "nfc":
		text = c.step(ruleNormalize, text, tokenizer.NFC)
	case "nfkc":
		text = c.step(ruleNormalize, text, norm.NFKC.String)
	}
	if p.StripHTML && strings.ContainsAny(text, "<&") {
		text = c.step(ruleHTML, text, func(s string) string { return outsideCode(s, stripHTML) })
	}
	if p.CollapseWhitespace {
		text = c.step(ruleWhitespace, text, collapse)
	}
	for _, what := range p.Redact {
		switch what {
		case "email":
			text = c.step(ruleEmail, text, redactEmail)
		case "ip":
			text = c.step(ruleIP, text, redactIP)
		}
	}
	return text
}

func (c *cleaner) step(rule int, text string, do func(string) string) string {
	out := do(text)
	if out == text {
		return out
	}
	if c.did>>rule&1 == 0 && c.wanted>>rule&1 == 1 {
		at := differsAt(text, out)
		c.before[rule], c.after[rule] = excerpt(text, min(at+20, len(text)), 80), excerpt(out, min(at+20, len(out)), 80)
	}
	c.did |= 1 << rule
	return out
}

// terminal matches the escape sequences that colour terminals.
var terminal = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)")
})

// stripControl removes what no reader sees: control characters but tab and newline, terminal escapes,
// zero-width characters, direction marks, soft hyphens. CR LF, CR, U+2028 and U+2029 become newlines.
func stripControl(s string) string {
	if !hasControl(s) {
		return s
	}
	if strings.Contains(s, "\x1b") {
		s = terminal().ReplaceAllString(s, "")
	}
	var b strings.Builder
	b.Grow(len(s))
	before := rune(-1)
	for i, r := range s {
		switch {
		case r == '\r':
			if !strings.HasPrefix(s[i+1:], "\n") {
				b.WriteByte('\n')
			}
		case r == '\u2028' || r == '\u2029':
			b.WriteByte('\n')
		case r == '\u200c' || r == '\u200d':
			// Joiners belong to the spelling of Persian, Indic scripts and emoji: between two such characters.
			after, _ := utf8.DecodeRuneInString(s[i+3:])
			if before > 0x2ff && after > 0x2ff && after != utf8.RuneError {
				b.WriteRune(r)
			}
		case invisible(r):
		default:
			b.WriteRune(r)
		}
		before = r
	}
	return b.String()
}

// hasControl says whether stripControl has work to do. All but the ASCII ones begin in UTF-8 with C2 (C1 controls, soft hyphen),
// D8 (U+061C), E1 (U+180E), E2 or EF (byte order mark); these bytes begin other characters much more often.
func hasControl(s string) bool {
	for i := 0; i < len(s); i++ {
		if i += unremarkable(s[i:]); i == len(s) {
			return false
		}
		switch c := s[i]; {
		case c == '\n', c == '\t':
		case c < utf8.RuneSelf:
			return true
		case c == 0xc2 || c == 0xd8 || c == 0xe1 || c == 0xe2 || c == 0xef:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == '\u200c' || r == '\u200d' || r == '\u2028' || r == '\u2029' || invisible(r) {
				return true
			}
			i += size - 1
		}
	}
	return false
}

func invisible(r rune) bool {
	switch {
	case r < 0x20:
		return r != '\n' && r != '\t'
	case r < 0x7f:
		return false
	case r < 0xa0, r == 0xad, r == 0x61c, r == 0x180e, r == 0xfeff:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2060 && r <= 0x2064, r >= 0x2066 && r <= 0x206f:
		return true
	}
	return false
}

// collapse puts one blank for many and one empty line for many, and takes the blanks at the ends of lines and
// of the text. Indentation stays, and so does everything inside code and LaTeX.
func collapse(s string) string {
	if isCollapsed(s) {
		return s
	}
	return collapseSlowly(s)
}

func collapseSlowly(s string) string {
	var w blanks
	w.out = make([]byte, 0, len(s))
	for text, kept := range pieces(s) {
		if kept {
			w.flush()
			w.out = append(w.out, text...)
			continue
		}
		w.write(text)
	}
	if len(w.out) == len(s) && string(w.out) == s {
		return s
	}
	return string(w.out)
}

// isCollapsed finds most texts that collapse would not change, without writing them again: none that it would.
func isCollapsed(s string) bool {
	for i := 0; i < len(s); {
		i += printable(s[i:])
		if i == len(s) {
			return true
		}
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != '\u0085' && unicode.IsSpace(r) {
				return false
			}
			i += size
		case i == 0:
			return false
		case c == ' ': // one, between two words
			if i++; i == len(s) || s[i] <= ' ' {
				return false
			}
		case c == '\n': // one or two, any indent, and a word
			if i++; i < len(s) && s[i] == '\n' {
				i++
			}
			for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
				i++
			}
			if i == len(s) || s[i] <= ' ' {
				return false
			}
		default:
			return false
		}
	}
	return true
}

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// unremarkable is the number of bytes before the first that is no printable ASCII character and no blank.
func unremarkable(s string) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := word(s[i:])
		if found := (x | (x - lowBits*0x20) | (x + lowBits)) & highBits; found != 0 {
			break // one of the eight is remarkable
		}
	}
	for i < len(s) && s[i] >= ' ' && s[i] < 0x7f {
		i++
	}
	return i
}

// printable is the number of bytes before the first that is no printable ASCII character.
func printable(s string) int {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		x := word(s[i:])
		// A byte below 0x21 borrows from its high bit; borrows go upwards only, so that the lowest mark is right.
		if found := (x | (x - lowBits*0x21)) & highBits; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(s) && s[i] > ' ' && s[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// word is the first eight bytes of a text that has them, the first one lowest.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 | uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// blanks writes text, with its white space put off until what follows it is known.
type blanks struct {
	out    []byte
	lines  int    // newlines put off
	indent []byte // blanks put off, behind the last newline
}

func (w *blanks) write(text string) {
	for len(text) > 0 {
		n := 0
		for n < len(text) && text[n] > ' ' && text[n] < utf8.RuneSelf {
			n++
		}
		if n > 0 {
			w.flush()
			w.out = append(w.out, text[:n]...)
			text = text[n:]
			continue
		}
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == '\n':
			w.lines++
			w.indent = w.indent[:0]
		case r == '\t':
			w.indent = append(w.indent, '\t')
		case r != '\u0085' && unicode.IsSpace(r):
			w.indent = append(w.indent, ' ')
		default:
			w.flush()
			w.out = append(w.out, text[:size]...)
		}
		text = text[size:]
	}
}

func (w *blanks) flush() {
	switch {
	case len(w.out) == 0:
	case w.lines > 0:
		w.out = append(w.out, "\n\n"[:min(w.lines, 2)]...)
		w.out = append(w.out, w.indent...)
	case len(w.indent) > 0:
		w.out = append(w.out, ' ')
	}
	w.lines, w.indent = 0, w.indent[:0]
}

// htmlAttributes is the rest of a tag. An attribute without a value is none: <b and c> is a comparison.
const htmlAttributes = `(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+))*\s*/?>`

// Compiled when first used: together these cost every start of the program half a millisecond.
var (
	htmlBlock = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?is)<!--.*?-->|<(?:script|style)\b[^>]*>.*?</(?:script|style)\s*>`)
	})
	htmlBreak = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)<(?:br|hr|p|div|li|tr|ul|ol|table|h[1-6]|blockquote)` + htmlAttributes + `|</(?:p|div|li|tr|table|ul|ol|h[1-6]|blockquote)\s*>`)
	})
	htmlTag = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?i)</?(?:a|abbr|article|aside|b|big|body|button|center|cite|code|dd|del|dl|dt|em|figure|figcaption|font|footer|form|head|header|html|i|iframe|img|input|ins|label|link|main|mark|meta|nav|option|pre|q|s|section|select|small|span|strike|strong|sub|sup|tbody|td|tfoot|th|thead|title|tt|u)` + htmlAttributes)
	})
	manyNewline = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\n{3,}`) })
)

// stripHTML removes tags that HTML knows, so that a < b and <think> stay.
func stripHTML(s string) string {
	if strings.Contains(s, "<") {
		s = htmlBlock().ReplaceAllString(s, "")
		broken := htmlBreak().ReplaceAllString(s, "\n")
		if broken != s {
			s = manyNewline().ReplaceAllString(broken, "\n\n")
		}
		s = htmlTag().ReplaceAllString(s, "")
	}
	if strings.Contains(s, "&") {
		s = html.UnescapeString(s)
	}
	return s
}

// outsideCode applies do to what is neither code nor LaTeX.
func outsideCode(s string, do func(string) string) string {
	var b strings.Builder
	for text, kept := range pieces(s) {
		if !kept {
			text = do(text)
		}
		b.WriteString(text)
	}
	return b.String()
}

// promptHash is a hash of a text, blind for case and blanks.
func promptHash(text string) (hi, lo uint64) {
	space := promptSpaces.Get().(*[]byte)
	defer promptSpaces.Put(space)
	*space = appendPlain((*space)[:0], text)
	return hash128(*space)
}

// promptSpaces are buffers for promptHash.
var promptSpaces = sync.Pool{New: func() any { return new([]byte) }}

// appendPlain appends the words of a text in lower case, a blank behind each.
func appendPlain(plain []byte, text string) []byte {
	start, inside := len(plain), false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= utf8.RuneSelf: // other scripts have blanks and cases of their own
			plain = plain[:start]
			for word := range strings.FieldsSeq(text) {
				plain = append(append(plain, strings.ToLower(word)...), ' ')
			}
			return plain
		case c == ' ' || c >= '\t' && c <= '\r':
			if inside {
				plain, inside = append(plain, ' '), false
			}
		default:
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			plain, inside = append(plain, c), true
		}
	}
	if inside {
		plain = append(plain, ' ')
	}
	return plain
}

// textHash is a hash of a text as it is.
func textHash(text string) (hi, lo uint64) { return hash128([]byte(text)) }

func hash128(b []byte) (hi, lo uint64) {
	sum := blake3.Sum256(b)
	return binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])
}
