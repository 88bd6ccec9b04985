package stages

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
)

//go:embed report.html
var reportPage string

// page is the report as one HTML page that loads nothing.
func (r *report) page() ([]byte, error) {
	page, err := template.New("report").Funcs(template.FuncMap{
		"percent": func(n, of int64) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(max(of, 1))) },
		"width":   func(n, of int64) string { return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(max(of, 1))) },
		"mean":    func(h histogramJSON) string { return fmt.Sprintf("%.1f", float64(h.Sum)/float64(max(h.Count, 1))) },
		"share":   func(x float64) string { return fmt.Sprintf("%.2f %%", 100*x) },
		"bars":    bars,
	}).Parse(reportPage)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := page.Execute(&out, r); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// bars draws a histogram as SVG, the axis logarithmic as its buckets are.
func bars(h histogramJSON) template.HTML {
	if len(h.Bins) == 0 {
		return ""
	}
	const width, height = 460.0, 90.0
	first, last := bucketOf(h.Bins[0][0]), bucketOf(h.Bins[len(h.Bins)-1][0])
	step := width / float64(last-first+1)
	most := 0
	for _, bin := range h.Bins {
		most = max(most, bin[1])
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %.0f %.0f" role="img">`, width, height+16)
	for _, bin := range h.Bins {
		x := float64(bucketOf(bin[0])-first) * step
		tall := math.Max(height*float64(bin[1])/float64(most), 1)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>from %d: %d</title></rect>`, x, height-tall, math.Max(step-0.5, 0.5), tall, bin[0], bin[1])
	}
	fmt.Fprintf(&b, `<text x="0" y="%.0f">%d</text><text x="%.0f" y="%.0f" text-anchor="end">%d</text></svg>`, height+13, h.Min, width, height+13, h.Max)
	return template.HTML(b.String()) //nolint:gosec // numbers only
}
