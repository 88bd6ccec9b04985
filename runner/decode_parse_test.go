package runner

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A file that is parsed in chunks must be the file that the parser sees as a whole, places of things included.
func TestParseInChunks(t *testing.T) {
	plain := chainOf(400)
	cases := map[string]string{
		"blocks":      plain,
		"text":        plain + "locals {\n  a = <<E\n" + strings.Repeat("x\n}\n", 8000) + "E\n}\n" + plain[:2000],
		"comment":     plain + "/*\n" + strings.Repeat("x\n}\n", 8000) + "*/\n",
		"indentation": plain + "locals {\na = {\n" + strings.Repeat("b = [\n{\n}\n]\n", 1) + strings.Repeat("#\n", 30000) + "}\n}\n",
		"attributes":  strings.Repeat("#\n", 30000) + "a = {\n}\n" + strings.Repeat("#\n", 30000) + "b = {\n}\n" + strings.Repeat("#\n", 30000),
		"twice":       strings.Repeat("#\n", 30000) + "a = {\n}\n" + strings.Repeat("#\n", 30000) + "a = {\n}\n" + strings.Repeat("#\n", 30000),
		"error":       plain + "stage {{\n",
	}
	for name, text := range cases {
		if len(cutChunks([]byte(text))) < 2 {
			t.Errorf("%s: the case is not cut", name)
		}
		got, gotDiags := parseHCL([]byte(text), "x")
		want, wantDiags := hclsyntax.ParseConfig([]byte(text), "x", hcl.InitialPos)
		equal(t, name+": mistakes", fmt.Sprint(gotDiags), fmt.Sprint(wantDiags))
		equal(t, name+": body", outline(got), outline(want))
	}
}

// outline lists where everything at the top stands.
func outline(file *hcl.File) string {
	var b strings.Builder
	body := file.Body.(*hclsyntax.Body)
	for _, attr := range sortedAttrs(body.Attributes) {
		fmt.Fprintln(&b, attr.SrcRange, attr.SrcRange.Start.Byte, attr.Expr.Range())
	}
	for _, block := range body.Blocks {
		fmt.Fprintln(&b, block.Type, block.Labels, block.DefRange(), block.CloseBraceRange.End.Byte)
		for _, attr := range sortedAttrs(block.Body.Attributes) {
			fmt.Fprintln(&b, attr.Name, attr.Expr.Range(), attr.Expr.Range().End.Byte)
		}
	}
	return b.String()
}
