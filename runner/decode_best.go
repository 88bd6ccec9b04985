package runner

import (
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// outputExt is the extension of a stage's output ("lora.metrics"), "" for a folder and for one that only its stage's own block
// tells when it is decoded: sources come first.
func (d *decoder) outputExt(output string) string {
	at := max(0, strings.LastIndexByte(output, '.'))
	stage, _, _ := strings.Cut(output[:at], "@")
	name := strings.TrimPrefix(output[at:], ".")
	for _, block := range d.blocks["stage"] {
		if len(block.Labels) == 2 && block.Labels[1] == stage {
			if declared := d.declaredOutput(block, name); declared != "" {
				return plainExt().FindString(path.Ext(declared))
			}
			return d.usualExt(block.Labels[0], name)
		}
	}
	return ""
}

// declaredOutput is the path that a block gives an output, "" if it gives none that can be told without the stage.
func (d *decoder) declaredOutput(block *hclsyntax.Block, name string) string {
	attr := block.Body.Attributes["out"]
	if attr == nil {
		return ""
	}
	v, diags := attr.Expr.Value(d.globalScope("A source").ctx)
	if diags.HasErrors() {
		return ""
	}
	v, _ = v.UnmarkDeep()
	for _, key := range []string{name, "path"} {
		if isObject(v) {
			if v = valueMap(v)[key]; v == cty.NilVal {
				return ""
			}
		}
	}
	text, _ := textOf(v)
	return text
}

// usualExt is the extension of a kind's output.
func (d *decoder) usualExt(kind, name string) string {
	if known := d.kinds[kind]; known != nil {
		for _, port := range known.Out {
			if port.Name == name {
				return port.Ext
			}
		}
	}
	return ""
}
