package tokenizer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A pattern is a split regex, compiled for a backtracking matcher. It knows what the
// split patterns of byte-level tokenizers are made of: literals, classes with \p{…},
// groups, alternation, (?i:…), look-ahead, greedy and possessive repetition. Anything
// else is refused when it is compiled, repetition of what repeats itself too.
type pattern struct {
	code []instruction
	sets []*charset
}

// instruction is one step of the matcher.
type instruction struct {
	op       opcode
	set      int  // opSet, opRun: index into sets
	min, max int  // opRun: how many characters; max < 0: any number
	keep     bool // opRun: possessive, gives nothing back
	x, y     int  // opSplit: try x, then y; opJump: x; opLook: its end y, and whether it must match
	negative bool
}

type opcode uint8

const (
	opSet   opcode = iota // one character
	opRun                 // a character repeated
	opSplit               // two ways
	opJump
	opLook  // look-ahead: code up to y
	opMatch // the end
)

// patternError says which construct is not supported.
type patternError struct {
	what string
	at   int
}

func (e *patternError) Error() string {
	return fmt.Sprintf("%s, at character %d of the pattern", e.what, e.at+1)
}

// compilePattern compiles a split regex.
func compilePattern(text string) (*pattern, error) {
	if !utf8.ValidString(text) {
		return nil, errors.New("the pattern is not UTF-8")
	}
	p := &patternParser{text: text}
	tree, err := p.alternatives()
	if err == nil && p.pos < len(text) {
		err = p.fail("a closing parenthesis without an opening one")
	}
	if err != nil {
		return nil, err
	}
	if tree.least() == 0 {
		return nil, errors.New("the pattern matches the empty text")
	}
	out := &pattern{}
	out.emit(tree)
	out.code = append(out.code, instruction{op: opMatch})
	return out, nil
}

// patternNode is a part of the pattern as read.
type patternNode struct {
	kind     nodeKind
	set      *charset // nodeSet
	parts    []*patternNode
	min, max int // nodeRepeat
	keep     bool
	negative bool // nodeLook
}

type nodeKind uint8

const (
	nodeSet nodeKind = iota
	nodeSequence
	nodeChoice
	nodeRepeat
	nodeLook
)

// least is the smallest number of characters that n matches.
func (n *patternNode) least() int {
	switch n.kind {
	case nodeSet:
		return 1
	case nodeLook:
		return 0
	case nodeRepeat:
		return n.min * n.parts[0].least()
	case nodeChoice:
		least := n.parts[0].least()
		for _, p := range n.parts[1:] {
			least = min(least, p.least())
		}
		return least
	}
	sum := 0
	for _, p := range n.parts {
		sum += p.least()
	}
	return sum
}

// repeats says whether n holds a repetition.
func (n *patternNode) repeats() bool {
	if n.kind == nodeRepeat && n.max != 1 {
		return true
	}
	for _, p := range n.parts {
		if p.repeats() {
			return true
		}
	}
	return false
}

// emit compiles a node behind what is there.
func (p *pattern) emit(n *patternNode) {
	switch n.kind {
	case nodeSet:
		p.code = append(p.code, instruction{op: opSet, set: p.addSet(n.set)})
	case nodeSequence:
		for _, part := range n.parts {
			p.emit(part)
		}
	case nodeChoice:
		p.emitChoice(n.parts)
	case nodeRepeat:
		p.emitRepeat(n)
	case nodeLook:
		at := len(p.code)
		p.code = append(p.code, instruction{op: opLook, negative: n.negative})
		p.emit(n.parts[0])
		p.code = append(p.code, instruction{op: opMatch})
		p.code[at].y = len(p.code)
	}
}

func (p *pattern) addSet(s *charset) int {
	p.sets = append(p.sets, s)
	return len(p.sets) - 1
}

func (p *pattern) emitChoice(parts []*patternNode) {
	var ends []int
	for i, part := range parts {
		if i == len(parts)-1 {
			p.emit(part)
			break
		}
		split := len(p.code)
		p.code = append(p.code, instruction{op: opSplit, x: split + 1})
		p.emit(part)
		ends = append(ends, len(p.code))
		p.code = append(p.code, instruction{op: opJump})
		p.code[split].y = len(p.code)
	}
	for _, e := range ends {
		p.code[e].x = len(p.code)
	}
}

func (p *pattern) emitRepeat(n *patternNode) {
	body := n.parts[0]
	if body.kind == nodeSet {
		p.code = append(p.code, instruction{op: opRun, set: p.addSet(body.set), min: n.min, max: n.max, keep: n.keep})
		return
	}
	for range n.min {
		p.emit(body)
	}
	if n.max < 0 {
		split := len(p.code)
		p.code = append(p.code, instruction{op: opSplit, x: split + 1})
		p.emit(body)
		p.code = append(p.code, instruction{op: opJump, x: split})
		p.code[split].y = len(p.code)
		return
	}
	var splits []int
	for range n.max - n.min {
		splits = append(splits, len(p.code))
		p.code = append(p.code, instruction{op: opSplit, x: len(p.code) + 1})
		p.emit(body)
	}
	for _, s := range splits {
		p.code[s].y = len(p.code)
	}
}

// patternParser reads a regex in the syntax that Hugging Face's engine (Oniguruma,
// Ruby syntax) has for these constructs.
type patternParser struct {
	text  string
	pos   int
	fold  bool // within (?i:…)
	depth int
}

func (p *patternParser) fail(what string) error { return &patternError{what, p.pos} }

func (p *patternParser) more() bool { return p.pos < len(p.text) }

func (p *patternParser) ahead(s string) bool { return strings.HasPrefix(p.text[p.pos:], s) }

func (p *patternParser) take(s string) bool {
	if p.ahead(s) {
		p.pos += len(s)
		return true
	}
	return false
}

func (p *patternParser) alternatives() (*patternNode, error) {
	choice := &patternNode{kind: nodeChoice}
	for {
		s, err := p.sequence()
		if err != nil {
			return nil, err
		}
		choice.parts = append(choice.parts, s)
		if !p.take("|") {
			break
		}
	}
	if len(choice.parts) == 1 {
		return choice.parts[0], nil
	}
	return choice, nil
}

func (p *patternParser) sequence() (*patternNode, error) {
	out := &patternNode{kind: nodeSequence}
	for p.more() && !p.ahead("|") && !p.ahead(")") {
		n, err := p.atom()
		if err != nil {
			return nil, err
		}
		if n, err = p.repeated(n); err != nil {
			return nil, err
		}
		out.parts = append(out.parts, n)
	}
	return out, nil
}

// repeated reads the quantifier behind an atom.
func (p *patternParser) repeated(n *patternNode) (*patternNode, error) {
	out := &patternNode{kind: nodeRepeat, parts: []*patternNode{n}}
	switch {
	case p.take("?"):
		out.max = 1
	case p.take("*"):
		out.max = -1
	case p.take("+"):
		out.min, out.max = 1, -1
	case p.ahead("{"):
		if err := p.counts(out); err != nil {
			return nil, err
		}
	default:
		return n, nil
	}
	// Behind a count, Ruby's syntax takes a plus as one more repetition.
	if p.text[p.pos-1] != '}' && p.take("+") {
		out.keep = true
	}
	if p.more() && strings.IndexByte("?*+{", p.text[p.pos]) >= 0 {
		return nil, p.fail("a repetition that is lazy or repeated itself")
	}
	switch {
	case n.kind == nodeLook:
		return nil, p.fail("a look-ahead that is repeated")
	case n.kind == nodeSet:
	case out.keep:
		return nil, p.fail("a possessive repetition of more than one character")
	case out.max != 1 && (n.repeats() || n.least() == 0):
		return nil, p.fail("a repetition within a repetition")
	}
	return out, nil
}

// counts reads {m}, {m,} or {m,n}.
func (p *patternParser) counts(out *patternNode) error {
	end := strings.IndexByte(p.text[p.pos:], '}')
	if end < 0 {
		return p.fail("a brace that is not closed")
	}
	low, high, two := strings.Cut(p.text[p.pos+1:p.pos+end], ",")
	m, err := strconv.Atoi(low)
	n := m
	if err == nil && two {
		if n = -1; high != "" {
			n, err = strconv.Atoi(high)
		}
	}
	if err != nil || m < 0 || n >= 0 && n < m || max(m, n) > 1000 {
		return p.fail("a count that is none, or above 1000")
	}
	out.min, out.max = m, n
	p.pos += end + 1
	return nil
}

// atom reads a character, a class or a group.
func (p *patternParser) atom() (*patternNode, error) {
	switch {
	case p.ahead("("):
		return p.group()
	case p.ahead("["):
		set, err := p.class()
		return p.setNode(set, err)
	case p.ahead("\\"):
		set := &charset{}
		err := p.escape(set)
		return p.setNode(set, err)
	case p.take("."):
		set := &charset{negated: true}
		set.addRange('\n', '\n')
		return &patternNode{set: set.finish()}, nil
	}
	r, size := utf8.DecodeRuneInString(p.text[p.pos:])
	if strings.ContainsRune("^$*+?{", r) {
		return nil, p.fail(fmt.Sprintf("%q as it is here", r))
	}
	p.pos += size
	set := &charset{}
	set.addRange(r, r)
	return p.setNode(set, nil)
}

func (p *patternParser) setNode(set *charset, err error) (*patternNode, error) {
	if err == nil && p.fold {
		if err = set.foldCase(); err != nil {
			err = p.fail(err.Error())
		}
	}
	if err != nil {
		return nil, err
	}
	return &patternNode{set: set.finish()}, nil
}

// group reads (…), (?:…), (?i:…), (?=…) and (?!…).
func (p *patternParser) group() (*patternNode, error) {
	from, fold := p.pos, p.fold
	if p.depth++; p.depth > 50 {
		return nil, p.fail("groups nested deeper than 50")
	}
	p.pos++
	look, negative := false, false
	if p.take("?") {
		switch {
		case p.take(":"):
		case p.take("i:"):
			p.fold = true
		case p.take("="):
			look = true
		case p.take("!"):
			look, negative = true, true
		default:
			return nil, p.fail("a group that begins with (?" + p.text[p.pos:min(p.pos+1, len(p.text))])
		}
	}
	n, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	if !p.take(")") {
		p.pos = from
		return nil, p.fail("a group that is not closed")
	}
	p.fold = fold
	p.depth--
	if look {
		n = &patternNode{kind: nodeLook, parts: []*patternNode{n}, negative: negative}
	}
	return n, nil
}
