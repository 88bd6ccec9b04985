package runner

import (
	"path"
	"strings"
)

// splitPattern cuts a pattern into the folder or file that it fixes and what is left: "lib/**/*.py" is "lib" and
// "**/*.py", "lib/a.py" is itself and nothing.
func splitPattern(pattern string) (fixed, rest string) {
	parts := strings.Split(pattern, "/")
	for i, part := range parts {
		if strings.ContainsAny(part, "*?[") {
			fixed = strings.Join(parts[:i], "/")
			if fixed == "" {
				fixed = "."
			}
			return fixed, strings.Join(parts[i:], "/")
		}
	}
	return pattern, ""
}

// matchPattern reports whether a slash-separated path matches a pattern: path.Match part by part, and "**" for any
// number of parts, none included. A malformed part matches nothing.
func matchPattern(pattern, name string) bool {
	return matchParts(strings.Split(pattern, "/"), strings.Split(name, "/"))
}

func matchParts(pattern, name []string) bool {
	for len(pattern) > 0 {
		if pattern[0] == "**" {
			for len(pattern) > 1 && pattern[1] == "**" {
				pattern = pattern[1:]
			}
			for skip := 0; skip <= len(name); skip++ {
				if matchParts(pattern[1:], name[skip:]) {
					return true
				}
			}
			return false
		}
		if len(name) == 0 {
			return false
		}
		if ok, err := path.Match(pattern[0], name[0]); err != nil || !ok {
			return false
		}
		pattern, name = pattern[1:], name[1:]
	}
	return len(name) == 0
}
