package lpipe_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentsHold: what a page links to is there, and what it tells to make can be made.
func TestDocumentsHold(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	link, target := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`), regexp.MustCompile("(?m)(?:`|^    )make ([a-z][a-z0-9-]*)")
	pages, err := filepath.Glob("*.md")
	for _, pattern := range []string{"doc/*.md", "doc/adr/*.md", "tools/*/*.md"} {
		more, wrong := filepath.Glob(pattern)
		if pages = append(pages, more...); wrong != nil || err != nil {
			t.Fatal(err, wrong)
		}
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
		for _, m := range target.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s says make %s, which the Makefile does not know", page, m[1])
			}
		}
	}
}
