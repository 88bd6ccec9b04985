package tokenizer

// patternMatcher runs a pattern; it holds the stack of ways that are still open.
type patternMatcher struct {
	open []openWay
}

// openWay is where the matcher goes on when it is stuck: at pos, or, while pos is
// above least, one character before it (a run gives back).
type openWay struct {
	pc, pos, least int
	run            bool
}

// match returns where the match that starts at s[i] ends, -1 if there is none. s must be
// valid UTF-8. Of several, it is the first in the order of alternatives, greedy runs
// longest first, as in backtracking engines.
func (m *patternMatcher) match(p *pattern, s []byte, i int) int { return m.run(p, s, 0, i) }

func (m *patternMatcher) run(p *pattern, s []byte, pc, i int) int {
	base := len(m.open)
	for {
		ok := true
		switch in := &p.code[pc]; in.op {
		case opMatch:
			m.open = m.open[:base]
			return i
		case opJump:
			pc = in.x
		case opSplit:
			m.open = append(m.open, openWay{pc: in.y, pos: i})
			pc = in.x
		case opSet:
			n := 0
			if i < len(s) {
				n = p.sets[in.set].match(s, i)
			}
			ok = n > 0
			i += n
			pc++
		case opRun:
			end, least, n := runEnd(p.sets[in.set], s, i, in.min, in.max)
			if ok = n >= in.min; ok && !in.keep && end > least {
				m.open = append(m.open, openWay{pc: pc + 1, pos: end, least: least, run: true})
			}
			i = end
			pc++
		case opLook:
			ok = (m.run(p, s, pc+1, i) >= 0) != in.negative
			pc = in.y
		}
		if ok {
			continue
		}
		if len(m.open) == base {
			return -1
		}
		pc, i = m.back(s)
	}
}

// back takes the way that was left open last.
func (m *patternMatcher) back(s []byte) (pc, i int) {
	top := &m.open[len(m.open)-1]
	if top.run {
		top.pos--
		for s[top.pos]&0xC0 == 0x80 {
			top.pos--
		}
	}
	pc, i = top.pc, top.pos
	if !top.run || top.pos <= top.least {
		m.open = m.open[:len(m.open)-1]
	}
	return pc, i
}

// runEnd takes up to most characters of a set (any number where most is negative). n is how
// many there were, least where the first few of them end.
func runEnd(set *charset, s []byte, i, few, most int) (end, least, n int) {
	least = i
	for i < len(s) && n != most {
		size := set.match(s, i)
		if size == 0 {
			break
		}
		i += size
		if n++; n == few {
			least = i
		}
	}
	return i, least, n
}
