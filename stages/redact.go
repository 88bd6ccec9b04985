package stages

import (
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

var emailAddress = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,252}\.[A-Za-z]{2,24}\b`)
})

func redactEmail(s string) string {
	if !strings.Contains(s, "@") {
		return s
	}
	return emailAddress().ReplaceAllString(s, "[email]")
}

// redactIP replaces public addresses, of both versions. Private, loopback and documentation-like ones (0.0.0.0)
// tell nothing about anybody, and a version number such as 1.2.3 is none.
func redactIP(s string) string {
	var out []byte
	from := 0
	for i := 0; i < len(s); {
		if !addressByte(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && addressByte(s[end]) {
			end++
		}
		word := strings.TrimRight(s[i:end], ".:")
		inside := i > 0 && wordByte(s[i-1]) || end < len(s) && wordByte(s[end])
		if !inside && publicAddress(word) {
			out = append(append(out, s[from:i]...), "[ip]"...)
			from = i + len(word)
		}
		i = end
	}
	if from == 0 {
		return s
	}
	return string(append(out, s[from:]...))
}

func publicAddress(word string) bool {
	// The shortest of version 6 look like C++ (a::b) or a time.
	if strings.Count(word, ".") != 3 && (strings.Count(word, ":") < 2 || len(word) < 9) {
		return false
	}
	a, err := netip.ParseAddr(word)
	return err == nil && a.IsGlobalUnicast() && !a.IsPrivate()
}

func addressByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == '.' || c == ':'
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}
