package tokenizer

import "testing"

func TestNFC(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"e\u0301", "\u00e9"},
		{"a\u0323\u0307", "\u1ea1\u0307"},
		{"a\u0307\u0323", "\u1ea1\u0307"},
		{"\u1112\u1161\u11ab", "\ud55c"},
		{"\u212b", "\u00c5"},
		{"a\xffb", "a\ufffdb"},
	} {
		if got := NFC(c.in); got != c.want {
			t.Errorf("NFC(%+q) = %+q, want %+q", c.in, got, c.want)
		}
	}
}
