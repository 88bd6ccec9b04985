package runner

import (
	"bytes"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// FormatDiagnostics prints each diagnostic as the user should read it: what, where with the source line, and
// what to do. files is Pipeline.HCL. With color, ANSI codes mark the severity and the place in the line.
//
//	Error: Two stages write the same path
//	  on pipeline.hcl line 14, in stage "split" "sets":
//	  14:   out = { train = "data/train.jsonl" }
//	Stage "clean" already writes data/train.jsonl (line 6). Give one of them another path.
func FormatDiagnostics(w io.Writer, diags hcl.Diagnostics, files map[string]*hcl.File, color bool) error {
	var b bytes.Buffer
	for i, diag := range diags {
		if i > 0 {
			b.WriteByte('\n')
		}
		formatDiagnostic(&b, diag, files, color)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func formatDiagnostic(b *bytes.Buffer, diag *hcl.Diagnostic, files map[string]*hcl.File, color bool) {
	severity, code := "Error", "\x1b[1;31m"
	if diag.Severity == hcl.DiagWarning {
		severity, code = "Warning", "\x1b[1;33m"
	}
	if color {
		fmt.Fprintf(b, "%s%s:\x1b[0m \x1b[1m%s\x1b[0m\n", code, severity, diag.Summary)
	} else {
		fmt.Fprintf(b, "%s: %s\n", severity, diag.Summary)
	}
	if diag.Subject != nil && diag.Subject.Filename != "" {
		formatSubject(b, *diag.Subject, files[diag.Subject.Filename], color)
	}
	if diag.Detail != "" {
		b.WriteString(diag.Detail)
		b.WriteByte('\n')
	}
}

// formatSubject prints where a diagnostic is and the line itself.
func formatSubject(b *bytes.Buffer, at hcl.Range, file *hcl.File, color bool) {
	if at.Start.Line == 0 {
		fmt.Fprintf(b, "  on %s\n", at.Filename)
		return
	}
	if file == nil || file.Bytes == nil || at.Start.Byte > len(file.Bytes) {
		fmt.Fprintf(b, "  on %s line %d\n", at.Filename, at.Start.Line)
		return
	}
	in := ""
	if file.Body != nil {
		if block := file.OutermostBlockAtPos(at.Start); block != nil {
			in = ", in " + blockHeader(block)
		}
	}
	line, start := lineAt(file.Bytes, at.Start.Byte)
	fmt.Fprintf(b, "  on %s line %d%s:\n", at.Filename, at.Start.Line, in)
	if color {
		from := at.Start.Byte - start
		to := min(max(at.End.Byte-start, from), len(line))
		line = line[:from] + "\x1b[4m" + line[from:to] + "\x1b[0m" + line[to:]
	}
	fmt.Fprintf(b, "  %d: %s\n", at.Start.Line, line)
}

// lineAt returns the line around a byte offset, without its end, and the offset at which it begins.
func lineAt(src []byte, offset int) (line string, start int) {
	start = bytes.LastIndexByte(src[:offset], '\n') + 1
	end := bytes.IndexByte(src[offset:], '\n')
	if end < 0 {
		end = len(src)
	} else {
		end += offset
	}
	return strings.TrimSuffix(string(src[start:end]), "\r"), start
}

func blockHeader(block *hcl.Block) string {
	header := block.Type
	for _, label := range block.Labels {
		header += fmt.Sprintf(" %q", label)
	}
	return header
}

// sortDiagnostics brings diagnostics in the order of the files, those without a place first, and drops repeats.
func sortDiagnostics(diags hcl.Diagnostics, order []string) hcl.Diagnostics {
	rank := make(map[string]int, len(order))
	for i, name := range order {
		rank[name] = i
	}
	at := func(diag *hcl.Diagnostic) hcl.Range {
		if diag.Subject == nil {
			return hcl.Range{}
		}
		return *diag.Subject
	}
	sort.SliceStable(diags, func(i, j int) bool {
		a, b := at(diags[i]), at(diags[j])
		if a.Filename != b.Filename {
			ra, oka := rank[a.Filename]
			rb, okb := rank[b.Filename]
			if oka && okb {
				return ra < rb
			}
			return !oka && (okb || a.Filename < b.Filename)
		}
		return a.Start.Byte < b.Start.Byte
	})
	type seen struct {
		at              hcl.Range
		summary, detail string
	}
	known := map[seen]bool{}
	kept := diags[:0]
	for _, diag := range diags {
		one := seen{at(diag), diag.Summary, diag.Detail}
		if !known[one] {
			known[one] = true
			kept = append(kept, diag)
		}
	}
	return kept
}
