package runner

import (
	"strings"
	"unsafe"

	"lpipe/cache"
)

// scanLock reads a lock whose text is as encode writes it, byte by byte: seven times as fast as a reader of any JSON. False
// means only that decodeLock must be asked, also where a check does not fit.
func scanLock(data []byte) (*Lock, bool) {
	c := lockScan{s: unsafe.String(unsafe.SliceData(data), len(data))} // nobody changes data after this
	many := len(data)/averageRecord + 1
	lock := &Lock{Sources: make(map[string]LockSource, many/8), Stages: make(map[string]LockStage, many), texts: make(map[string]string, many)}
	c.must(lockHead)
	c.each("    ", func(path string) {
		lock.Sources[path] = c.source(path)
	})
	c.must(",\n  \"stages\": {")
	c.each("    ", func(name string) {
		from := c.s
		lock.Stages[name] = c.stage(name)
		lock.texts[name] = from[:len(from)-len(c.s)]
	})
	c.must("\n}\n")
	return lock, !c.bad && c.s == ""
}

// lockHead is how a lock begins.
const lockHead = "{\n  \"schema\": 2,\n  \"sources\": {"

// averageRecord is about how many bytes of a lock are one stage's, those of its sources included.
const averageRecord = 400

// lockScan takes what it expects off the front of a text; after the first surprise it is bad, and takes nothing.
type lockScan struct {
	s   string
	bad bool
}

func (c *lockScan) surprise() { c.s, c.bad = "", true }

func (c *lockScan) must(text string) {
	if !c.has(text) {
		c.surprise()
	}
}

func (c *lockScan) has(text string) bool {
	rest, ok := strings.CutPrefix(c.s, text)
	if ok {
		c.s = rest
	}
	return ok
}

// each reads the entries of an object that appendSorted wrote, behind its opening brace, and the closing one.
func (c *lockScan) each(indent string, read func(name string)) {
	if c.has("}") {
		return
	}
	last, first := "", true
	for {
		c.must("\n" + indent)
		name := c.text()
		c.must(": ")
		if !first && name <= last {
			c.surprise() // also where it stands twice
		}
		if c.bad {
			return
		}
		read(name)
		last, first = name, false
		if !c.has(",") {
			break
		}
	}
	c.must("\n" + indent[2:] + "}")
}

// text reads a string of plain ASCII.
func (c *lockScan) text() string {
	c.must(`"`)
	for i := range len(c.s) {
		switch b := c.s[i]; {
		case b == '"':
			text := c.s[:i]
			c.s = c.s[i+1:]
			return text
		case b == '\\' || b < ' ' || b > '~':
			c.surprise()
			return ""
		}
	}
	c.surprise()
	return ""
}

// optional reads a field with a string, if it stands next.
func (c *lockScan) optional(head string) string {
	if !c.has(head) {
		return ""
	}
	text := c.text()
	if text == "" {
		c.surprise()
	}
	return text
}

func (c *lockScan) hash() (hash [32]byte) {
	text := c.text()
	if len(text) != 64 {
		c.surprise()
		return hash
	}
	for i := range hash {
		high, low := hexDigit(text[2*i]), hexDigit(text[2*i+1])
		if high > 15 || low > 15 {
			c.surprise()
			return [32]byte{}
		}
		hash[i] = high<<4 | low
	}
	return hash
}

func hexDigit(b byte) byte {
	switch {
	case '0' <= b && b <= '9':
		return b - '0'
	case 'a' <= b && b <= 'f':
		return b - 'a' + 10
	}
	return 255
}

func (c *lockScan) number() (n int64) {
	i := 0
	for ; i < len(c.s) && i < 18 && '0' <= c.s[i] && c.s[i] <= '9'; i++ {
		n = 10*n + int64(c.s[i]-'0')
	}
	if i == 0 || i > 1 && c.s[0] == '0' {
		c.surprise()
		return 0
	}
	c.s = c.s[i:]
	return n
}

func (c *lockScan) content() (content cache.Content) {
	c.must(`"id":`)
	content.ID = cache.ID(c.hash())
	content.Dir = c.has(`,"dir":true`)
	content.Exec = c.has(`,"exec":true`)
	c.must(`,"size":`)
	content.Size = c.number()
	if c.has(`,"files":`) {
		if content.Files = c.number(); content.Files == 0 {
			c.surprise()
		}
	}
	return content
}

func (c *lockScan) source(path string) (one LockSource) {
	c.must("{")
	one.Content = c.content()
	one.Stored = c.has(`,"stored":true`)
	one.Pin, one.From, one.Choice = c.optional(`,"pin":`), c.optional(`,"from":`), c.optional(`,"choice":`)
	check := c.optional(`,"check":`)
	c.must("}")
	if !c.bad && check != one.check(path) {
		c.surprise()
	}
	return one
}

func (c *lockScan) stage(name string) (one LockStage) {
	c.must("{\n      \"key\":")
	one.Key = cache.Key(c.hash())
	c.must(`,"kind":`)
	one.Kind = c.text()
	one.Settings, one.Code = c.optional(`,"settings":`), c.optional(`,"code":`)
	one.Tools, one.Env = c.optional(`,"tools":`), c.optional(`,"env":`)
	check := c.optional(`,"check":`)
	c.must(",")
	if c.has("\n      \"in\": {") {
		one.In = c.inputs()
		c.must(",")
	}
	c.must("\n      \"out\": {")
	one.Out = map[string]LockOutput{}
	c.each("        ", func(name string) {
		c.must(`{"path":`)
		path := c.text()
		c.must(",")
		one.Out[name] = LockOutput{path, c.content()}
		c.must("}")
	})
	c.must("\n    }")
	if !c.bad && check != one.check(name) {
		c.surprise()
	}
	return one
}

// inputs reads the entries of an object on one line, behind its opening brace, and the closing one.
func (c *lockScan) inputs() map[string]cache.ID {
	in := map[string]cache.ID{}
	for last := ""; !c.bad; {
		name := c.text()
		c.must(":")
		if len(in) > 0 && name <= last {
			c.surprise()
		}
		in[name] = cache.ID(c.hash())
		last = name
		if !c.has(",") {
			break
		}
	}
	c.must("}")
	return in
}
