package runner

import "github.com/hashicorp/hcl/v2/hclwrite"

// FormatFile returns a pipeline file in its canonical layout, as `lpipe fmt` writes it. Only white space changes.
func FormatFile(src []byte) []byte { return hclwrite.Format(src) }
