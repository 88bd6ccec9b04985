package tokenizer

import "unicode/utf8"

// patternMatcher runs patterns. It goes back where it is stuck, which is fast with patterns
// that anybody would write. After many steps it begins to note where it has been, and goes
// there no more: there are no groups to refer to, so what failed once fails again, and the
// time grows with the text, not with the number of ways through it.
type patternMatcher struct {
	open  []openWay
	eager bool // notes from the first step on, in tests
	steps int  // of this start
	start int
	// From here on it is noted, once that was necessary.
	seen  []uint64 // a bit for each instruction and position behind base
	log   []int    // the bits set, in their order
	base  int
	width int       // positions
	runs  []lastRun // by instruction
}

// openWay is where the matcher goes on when it is stuck: at pos, or, while pos is
// above least, one character before it (a run gives back).
type openWay struct {
	pc, pos, least int
	run            bool
}

// lastRun is how an instruction ran last: what it gave back, from end down to least, was tried.
type lastRun struct{ from, least, end int }

// freeSteps is how far a match comes before anything is noted; four characters of a run are a step.
const freeSteps = 1 << 10

// find returns the first match at or behind s[i]; from is len(s) if there is none. s must be
// valid UTF-8. Of several that begin there, it is the first in the order of alternatives, greedy
// runs longest first, as in backtracking engines.
func (m *patternMatcher) find(p *pattern, s []byte, i int) (from, end int) {
	m.seen, m.log = nil, m.log[:0]
	for i < len(s) {
		m.steps, m.start = 0, i
		if end := m.run(p, s, 0, i); end >= 0 {
			return i, end
		}
		_, size := utf8.DecodeRune(s[i:])
		i += size
	}
	return i, i
}

func (m *patternMatcher) run(p *pattern, s []byte, pc, i int) int {
	base := len(m.open)
	for {
		ok := true
		if m.steps++; m.steps >= freeSteps || m.seen != nil || m.eager {
			ok = m.first(p, s, pc, i)
		}
		switch in := &p.code[pc]; {
		case !ok:
		case in.op == opMatch:
			m.open = m.open[:base]
			return i
		case in.op == opJump:
			pc = in.x
		case in.op == opSplit:
			m.open = append(m.open, openWay{pc: in.y, pos: i})
			pc = in.x
		case in.op == opSet:
			n := 0
			if i < len(s) {
				n = p.sets[in.set].match(s, i)
			}
			ok = n > 0
			i += n
			pc++
		case in.op == opRun:
			i, ok = m.runOf(p, s, pc, i)
			pc++
		case in.op == opLook:
			ok = m.look(p, s, pc, i) != in.negative
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

// look says whether what stands in a look-ahead matches at s[i]. What was noted on the way of a
// match did not fail.
func (m *patternMatcher) look(p *pattern, s []byte, pc, i int) bool {
	noted := len(m.log)
	if m.run(p, s, pc+1, i) < 0 {
		return false
	}
	noted = min(noted, len(m.log))
	for _, bit := range m.log[noted:] {
		m.seen[bit/64] &^= 1 << (bit % 64)
	}
	m.log = m.log[:noted]
	clear(m.runs)
	return true
}

// first says whether the matcher is for the first time at an instruction and a position, and
// notes it.
func (m *patternMatcher) first(p *pattern, s []byte, pc, i int) bool {
	if m.seen == nil {
		m.base, m.width = m.start, len(s)-m.start+1
		m.seen, m.runs = make([]uint64, (len(p.code)*m.width+63)/64), make([]lastRun, len(p.code))
	}
	bit := pc*m.width + i - m.base
	if m.seen[bit/64]>>(bit%64)&1 != 0 {
		return false
	}
	m.seen[bit/64] |= 1 << (bit % 64)
	m.log = append(m.log, bit)
	return true
}

// runOf runs the characters of an instruction from s[i] and returns where the match goes on. A
// run that comes to an earlier one ends where that ended, and gives back what that did not.
func (m *patternMatcher) runOf(p *pattern, s []byte, pc, i int) (end int, ok bool) {
	in := &p.code[pc]
	set, last := p.sets[in.set], lastRun{from: len(s) + 1}
	if m.seen != nil && in.max < 0 && m.runs[pc].end > i {
		last = m.runs[pc]
	}
	end, least, n := i, 0, 0
	if i < last.from {
		end, least, n = runEnd(set, s, i, in.min, in.max, last.from)
		m.steps += (end - i) / 4
	}
	top, joined := end, end >= last.from
	if joined {
		_, least, n = runEnd(set, s, i, in.min, in.min, -1)
		end, top = last.end, last.least
	}
	if n < in.min {
		return end, false
	}
	if m.seen != nil && i < last.from {
		m.runs[pc] = lastRun{i, least, end}
	}
	if in.keep {
		return end, true
	}
	if top > least {
		m.open = append(m.open, openWay{pc: pc + 1, pos: top, least: least, run: true})
	}
	return end, !joined
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

// runEnd takes up to most characters of a set (any number where most is negative), and none from
// stop on. n is how many there were, least where the first few of them end.
func runEnd(set *charset, s []byte, i, few, most, stop int) (end, least, n int) {
	least = i
	for i < len(s) && n != most && i != stop {
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
