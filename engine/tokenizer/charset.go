package tokenizer

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// categoryNames are the general categories, in the order of categoryBlocks.
var categoryNames = [...]string{
	"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
	"Sm", "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co", "Cs", "Cn",
}

// categoryMask returns the bits of a property such as "L" or "Lu", 0 for an unknown one.
func categoryMask(name string) (mask uint32) {
	for i, c := range categoryNames {
		if c == name || len(name) == 1 && c[:1] == name {
			mask |= 1 << i
		}
	}
	return mask
}

// category returns the number of r's general category; r must be at most 0x10FFFF.
func category(r int32) uint8 {
	return categoryBlocks[int(categoryIndex[r>>8])<<8|int(r&255)]
}

// charset is a set of characters, as `[^\s\p{L}]` names one: what any item holds,
// or with negated what none does.
type charset struct {
	items   []charItem
	negated bool
	ascii   [4]uint32 // answers for ASCII, made by finish
	upper   int8      // 1 or 0 where all beyond ASCII is in or out, -1 where items decide
}

// charItem holds the characters of some categories and of one range, or with
// outside all others.
type charItem struct {
	categories uint32
	lo, hi     int32 // lo > hi: no range
	space      bool  // white space (the property White_Space) too
	outside    bool
}

func (c charItem) has(r int32) bool {
	in := r >= c.lo && r <= c.hi || c.categories>>category(r)&1 != 0 || c.space && property(r)&classMask == classSpace
	return in != c.outside
}

func (c *charset) add(items ...charItem) { c.items = append(c.items, items...) }

func (c *charset) addRange(lo, hi int32) { c.add(charItem{lo: lo, hi: hi}) }

// finish makes the table for ASCII.
func (c *charset) finish() *charset {
	for r := range int32(utf8.RuneSelf) {
		if c.decide(r) {
			c.ascii[r>>5] |= 1 << (r & 31)
		}
	}
	c.upper = -1
	if !slices.ContainsFunc(c.items, func(i charItem) bool {
		return i.outside || i.space || i.categories != 0 || i.hi >= utf8.RuneSelf
	}) {
		c.upper = 0
		if c.negated {
			c.upper = 1
		}
	}
	return c
}

func (c *charset) decide(r int32) bool {
	for _, i := range c.items {
		if i.has(r) {
			return !c.negated
		}
	}
	return c.negated
}

// match returns the length of the character at s[i] if the set has it, else 0. s
// must be valid UTF-8, and i < len(s).
func (c *charset) match(s []byte, i int) int {
	if b := s[i]; b < utf8.RuneSelf {
		return int(c.ascii[b>>5] >> (b & 31) & 1)
	}
	r, size := decodeValid(s[i:])
	if c.upper == 0 || c.upper < 0 && !c.decide(r) {
		return 0
	}
	return size
}

// foldCase adds what ASCII letters in the set match without regard to case. The only
// other characters that fold to ASCII are the long s and the Kelvin sign.
func (c *charset) foldCase() error {
	for _, i := range slices.Clone(c.items) {
		if i.outside || i.hi >= utf8.RuneSelf && i.lo < i.hi || i.categories&categoryMask("L") != 0 {
			return fmt.Errorf("a class without regard to case")
		}
		if i.lo > i.hi {
			continue
		}
		if i.hi >= utf8.RuneSelf {
			return fmt.Errorf("%q without regard to case", i.lo)
		}
		for r := i.lo; r <= i.hi; r++ {
			if lower := r | 0x20; lower >= 'a' && lower <= 'z' {
				c.addRange(lower, lower)
				c.addRange(lower&^0x20, lower&^0x20)
				if more := strings.IndexByte("sk", byte(lower)); more >= 0 {
					c.addRange([]int32{'ſ', 'K'}[more], []int32{'ſ', 'K'}[more])
				}
			}
		}
	}
	return nil
}
