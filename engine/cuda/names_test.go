package cuda

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Kernels are exported under their own name and launched by it, take outputs before inputs before sizes, and their file names the plain
// twins that it is tested against.
func TestNamesBelongTogether(t *testing.T) {
	launchers := all(t, "*.go")
	sources, err := filepath.Glob("kernels/*.cu")
	if err != nil || len(sources) < 7 {
		t.Fatalf("%d kernel files, %v", len(sources), err)
	}
	declared := regexp.MustCompile(`(?s)\nKERNEL\((\w+)\)\((.*?)\) \{`)
	twins := regexp.MustCompile(`[\w/]+\.go`)
	count := 0
	for _, path := range sources {
		text := all(t, path)
		head, _, _ := strings.Cut(text, "#include")
		names := twins.FindAllString(head, -1)
		if len(names) == 0 {
			t.Errorf("%s names no twin", path)
		}
		for _, name := range names {
			if !strings.Contains(name, "/") {
				name = "engine/cpu/" + name
			}
			if _, err := os.Stat(filepath.Join("..", "..", name)); err != nil {
				t.Errorf("%s names a twin that is not there: %v", path, err)
			}
		}
		for _, k := range declared.FindAllStringSubmatch(text, -1) {
			count++
			name, params := k[1], strings.Split(k[2], ",")
			if !strings.Contains(text, "\nEXPORT("+name+")") {
				t.Errorf("%s: kernel %s is not exported under its name", path, name)
			}
			if !launched(launchers, name) {
				t.Errorf("%s: nothing launches %s", path, name)
			}
			if where := disorder(params); where != "" {
				t.Errorf("%s: %s has %s too late: outputs first, then inputs, then numbers", path, name, where)
			}
		}
	}
	if count < 50 {
		t.Errorf("only %d kernels were found", count)
	}
}

// launched says whether a kernel's name stands in the sources: whole, or put together of a beginning and head width and tile.
func launched(sources, name string) bool {
	stem, _, _ := strings.Cut(strings.TrimSuffix(name, "_small"), "_64")
	stem, _, _ = strings.Cut(stem, "_128")
	return strings.Contains(sources, `"`+stem+`"`)
}

// disorder is the first parameter that stands behind one of a later kind.
func disorder(params []string) string {
	last := 0
	for _, p := range params {
		kind := 2 // a number
		switch {
		case strings.Contains(p, "const") && strings.Contains(p, "*"):
			kind = 1
		case strings.Contains(p, "*"):
			kind = 0
		}
		if kind < last {
			return strings.TrimSpace(p)
		}
		last = kind
	}
	return ""
}

// all is the text of files.
func all(t *testing.T, pattern string) string {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}
