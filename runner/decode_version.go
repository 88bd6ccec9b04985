package runner

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

var versionBound = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(>=|<=|!=|~>|=|>|<)?\s*v?(\d+(?:\.\d+){0,2})$`) })

// checkVersion holds required_version (">= 0.1, < 2") against the program's version.
func (d *decoder) checkVersion(attr *hclsyntax.Attribute, required string) {
	at := attr.Expr.Range()
	version, _, _ := strings.Cut(strings.TrimPrefix(d.opts.Version, "v"), "-") // 0.2.0-rc1 counts as 0.2.0
	for bound := range strings.SplitSeq(required, ",") {
		parts := versionBound().FindStringSubmatch(strings.TrimSpace(bound))
		if parts == nil {
			d.failAt(at, fmt.Sprintf("%q is no bound on versions", strings.TrimSpace(bound)), `Write it as: required_version = ">= 0.1".`)
			return
		}
		have := versionBound().FindStringSubmatch(version)
		if have == nil {
			continue // a build without a version suits everyone
		}
		if !withinBound(versionNumbers(have[2]), parts[1], parts[2]) {
			d.failAt(at, fmt.Sprintf("This is lpipe %s, the pipeline requires %s", d.opts.Version, required), "Install a version that fits, or change required_version.")
			return
		}
	}
}

func versionNumbers(text string) [3]int {
	var numbers [3]int
	for i, part := range strings.Split(text, ".") {
		numbers[i], _ = strconv.Atoi(part)
	}
	return numbers
}

// withinBound compares numbers part by part; ~> 1.2 means from 1.2 to before 2.
func withinBound(have [3]int, op, bound string) bool {
	want := versionNumbers(bound)
	order := 0
	for i := range have {
		if order = have[i] - want[i]; order != 0 {
			break
		}
	}
	switch op {
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	case "!=":
		return order != 0
	case "~>":
		fixed := max(1, strings.Count(bound, "."))
		for i := range fixed {
			if have[i] != want[i] {
				return false
			}
		}
		return order >= 0
	}
	return order == 0
}
