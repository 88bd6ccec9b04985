package spool

import (
	"bytes"
	"strconv"
)

// parseMetrics reads a record of metrics in the form that appendMetrics gives it, which json.Unmarshal reads too, in several times
// as long; false for any other form.
func parseMetrics(text []byte) (r Record, good bool) {
	p := parsing{text, true}
	p.expect(`{`)
	if p.has(`"run":`) {
		r.Run = p.name()
		p.expect(`,`)
	}
	p.expect(`"time":`)
	r.Time = p.whole()
	if p.has(`,"step":`) {
		r.Step = p.whole()
	}
	p.expect(`,"metrics":{`)
	if !p.good {
		return Record{}, false
	}
	r.Metrics = make(map[string]Number, bytes.Count(p.rest, []byte{':'}))
	for first := true; p.good && !p.has(`}`); first = false {
		if !first {
			p.expect(`,`)
		}
		name := p.name()
		p.expect(`:`)
		r.Metrics[name] = p.number()
	}
	p.expect(`}`)
	return r, p.good && len(p.rest) == 0
}

// parsing is what is left of a text; good is false once it did not go on as expected.
type parsing struct {
	rest []byte
	good bool
}

func (p *parsing) has(word string) bool {
	if len(p.rest) < len(word) || string(p.rest[:len(word)]) != word {
		return false
	}
	p.rest = p.rest[len(word):]
	return true
}

func (p *parsing) expect(word string) { p.good = p.has(word) && p.good }

// name takes a string in which each letter stands for itself.
func (p *parsing) name() string {
	p.expect(`"`)
	for i, c := range p.rest {
		switch {
		case c == '"':
			s := string(p.rest[:i])
			p.rest = p.rest[i+1:]
			return s
		case c == '\\' || c < ' ' || c > '~':
			p.good = false
			return ""
		}
	}
	p.good = false
	return ""
}

// token takes the letters up to the next comma or bracket.
func (p *parsing) token() string {
	end := bytes.IndexAny(p.rest, `,}`)
	if end < 0 {
		p.good = false
		return ""
	}
	token := string(p.rest[:end])
	p.rest = p.rest[end:]
	return token
}

func (p *parsing) whole() int64 {
	n, err := strconv.ParseInt(p.token(), 10, 64)
	p.good = p.good && err == nil
	return n
}

// number takes one that JSON allows, by its first letter: ParseFloat takes others too.
func (p *parsing) number() (n Number) {
	token := p.token()
	if token == "" || token[0] != '-' && token[0] != '"' && (token[0] < '0' || token[0] > '9') {
		p.good = false
		return 0
	}
	p.good = n.UnmarshalJSON([]byte(token)) == nil && p.good
	return n
}
