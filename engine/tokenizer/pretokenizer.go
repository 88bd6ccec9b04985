package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The split regexes that scanners of our own equal. Others are interpreted.
const (
	// Qwen2 and Qwen2.5, in this package's Unicode version.
	splitPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// Llama 3: the same with up to three digits.
	llamaPattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	// GPT-2: what ByteLevel does with use_regex.
	gptPattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
)

// pretokenizer cuts normalised text into the pretokens that merges stay within: by
// steps, each of which cuts the pieces of the one before.
type pretokenizer struct {
	steps  []splitStep
	source json.RawMessage // the "pre_tokenizer" of tokenizer.json
	digits int             // 1 or 3: Qwen2's or Llama 3's pattern alone, which scan.go equals; else 0
}

// splitStep is one pre-tokenizer.
type splitStep struct {
	kind    splitKind
	pattern *pattern
	space   bool // stepPattern: a piece that begins with no space gets one
	drop    bool // stepPattern: what lies between matches is dropped
}

type splitKind uint8

const (
	stepPattern splitKind = iota
	stepDigits            // runs of numbers
	stepDigit             // each number by itself
	stepNothing           // only the space
)

// component is one normalizer, pre-tokenizer, post-processor or decoder.
type component struct {
	Type          string
	Normalizers   []component
	Pretokenizers []component
	Processors    []component
	Decoders      []component
	Pattern       struct{ Regex, String string }
	Behavior      string
	Invert        bool
	Individual    bool  `json:"individual_digits"`
	AddSpace      *bool `json:"add_prefix_space"`
	UseRegex      *bool `json:"use_regex"`
}

// flat resolves sequences.
func (c component) flat() []component {
	if c.Type != "Sequence" {
		return []component{c}
	}
	var out []component
	for _, list := range [][]component{c.Normalizers, c.Pretokenizers, c.Processors, c.Decoders} {
		for _, x := range list {
			out = append(out, x.flat()...)
		}
	}
	return out
}

func components(name string, raw json.RawMessage) ([]component, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var c component
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return c.flat(), nil
}

// pretokenizerOf returns the pre-tokenizer with one pattern, as tokenizer.json has it.
func pretokenizerOf(pattern string) (*pretokenizer, error) {
	return readPretokenizer(json.RawMessage(`{"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": ` + quote(pattern) + `}, "behavior": "Isolated", "invert": false},
    {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}
  ]}`))
}

// readPretokenizer reads "pre_tokenizer". The last step must be ByteLevel; before
// it Split and Digits may stand.
func readPretokenizer(raw json.RawMessage) (*pretokenizer, error) {
	list, err := components("pre_tokenizer", raw)
	if err != nil {
		return nil, err
	}
	p := &pretokenizer{source: raw}
	for i, c := range list {
		if err := p.add(c); err != nil {
			return nil, err
		}
		if last := i == len(list)-1; last != (c.Type == "ByteLevel") {
			return nil, unsupported("the pre-tokenizer is not byte-level in its last step, and only there")
		}
	}
	if len(list) == 0 {
		return nil, unsupported("no pre-tokenizer")
	}
	if len(list) == 2 && len(p.steps) == 1 && list[0].Type == "Split" {
		switch list[0].Pattern.Regex {
		case splitPattern:
			p.digits = 1
		case llamaPattern:
			p.digits = 3
		}
	}
	return p, nil
}

// add adds the steps of one pre-tokenizer.
func (p *pretokenizer) add(c component) error {
	switch c.Type {
	case "Digits":
		kind := stepDigits
		if c.Individual {
			kind = stepDigit
		}
		p.steps = append(p.steps, splitStep{kind: kind})
	case "Split":
		return p.addSplit(c)
	case "ByteLevel":
		space := c.AddSpace == nil || *c.AddSpace
		if c.UseRegex == nil || *c.UseRegex {
			pattern, err := compilePattern(gptPattern)
			if err != nil {
				return err
			}
			p.steps = append(p.steps, splitStep{pattern: pattern, space: space})
		} else if space {
			p.steps = append(p.steps, splitStep{kind: stepNothing, space: true})
		}
	default:
		return unsupported("the pre-tokenizer %s", c.Type)
	}
	return nil
}

func (p *pretokenizer) addSplit(c component) error {
	text := c.Pattern.Regex
	if text == "" {
		if text = c.Pattern.String; text == "" {
			return unsupported("a Split without a pattern")
		}
		text = quotePattern(text)
	}
	// Removed and inverted drops what the pattern does not match; such patterns, which
	// come from tiktoken, match everything.
	drop := c.Behavior == "Removed" && c.Invert
	if !drop && (c.Behavior != "Isolated" || c.Invert) {
		return unsupported("a Split with behavior %s and invert %t", c.Behavior, c.Invert)
	}
	pattern, err := compilePattern(text)
	if err != nil {
		return unsupported("the Split pattern %q: %v", text, err)
	}
	p.steps = append(p.steps, splitStep{pattern: pattern, drop: drop})
	return nil
}

// quotePattern makes a pattern that matches a text literally.
func quotePattern(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune(`\^$.|?*+()[]{}`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// pieceCutter runs a pretokenizer. It belongs to an encoder.
type pieceCutter struct {
	matcher patternMatcher
	spaced  [][]byte // by step: a piece behind the space that was put before it
}

// cut calls yield for each pretoken of valid text.
func (c *pieceCutter) cut(p *pretokenizer, s []byte, yield func(piece []byte)) {
	c.step(p, 0, s, yield)
}

func (c *pieceCutter) step(p *pretokenizer, at int, s []byte, yield func(piece []byte)) {
	if at == len(p.steps) {
		if len(s) > 0 {
			yield(s)
		}
		return
	}
	step := &p.steps[at]
	if step.space && len(s) > 0 && s[0] != ' ' {
		for len(c.spaced) <= at {
			c.spaced = append(c.spaced, nil)
		}
		s = append(append(c.spaced[at][:0], ' '), s...)
		c.spaced[at] = s
	}
	for i := 0; i < len(s); {
		from, end := c.next(step, s, i)
		if from > i && !step.drop {
			c.step(p, at+1, s[i:from], yield)
		}
		c.step(p, at+1, s[from:end], yield)
		i = end
	}
}

// next returns the next match of a step at or behind s[i]; from is len(s) if there is none.
func (c *pieceCutter) next(step *splitStep, s []byte, i int) (from, end int) {
	switch step.kind {
	case stepNothing:
		return i, len(s)
	case stepDigit, stepDigits:
		for class, next := classAt(s, i); ; class, next = classAt(s, i) {
			if class == classNumber {
				end = next
				for step.kind == stepDigits && end < len(s) {
					if class, next = classAt(s, end); class != classNumber {
						break
					}
					end = next
				}
				return i, end
			}
			if i = next; i == len(s) {
				return i, i
			}
		}
	}
	return c.matcher.find(step.pattern, s, i)
}
