package stages

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lpipe/plot/browsertest"
)

// reportPageOf runs a set of rows with something of everything through validate, twice, so that the page compares.
func reportPageOf(t *testing.T) (b *bench, page string) {
	b = newBench(t)
	rows := problems(900)
	for i := range rows {
		row := &rows[i]
		row.Source, row.License = []string{"olympiads", "cn_k12", "<script>alert(1)</script>"}[i%7%3], "cc-by-nc-sa-4.0"
		row.Messages[1].Content = "<think>\n" + strings.Repeat(fmt.Sprintf("Step %d. ", i), 1+i*i%97) + "\n</think>\n\n\\boxed{1}"
		switch {
		case i%31 == 5:
			row.Messages[1].Content = "<think>\nIt breaks off"
		case i%37 == 5:
			row.Messages[1].Content += "\uFFFD"
		case i%41 == 5:
			row.Messages[1].Content = "<think>\nSo it is two.\n</think>\n\n\\boxed{2}"
		case i%43 == 5:
			row.Messages[0].Content += " See https://example.com/<img src=x onerror=alert(1)>"
		}
	}
	v := stageOf[*Validate](t, "validate")
	v.NearDuplicates, v.Checks.Repetition.Severity = defaultNear(), "warn"
	b.in["data"] = []string{writeRows(t, b.path("rows.jsonl"), rows[:500])}
	b.out = map[string]string{"data": b.path("out.jsonl"), "report": b.path("before.json")}
	b.must(v)
	b.in = map[string][]string{"data": {writeRows(t, b.path("rows.jsonl"), rows)}, "before": {b.path("before.json")}}
	b.out = map[string]string{"data": b.path("out.jsonl"), "html": b.path("report.html")}
	b.must(v)
	raw, err := os.ReadFile(b.path("report.html"))
	if err != nil {
		t.Fatal(err)
	}
	return b, string(raw)
}

// The page is whole by itself, runs nothing, and lets nothing of the rows become markup.
func TestPageIsSelfContained(t *testing.T) {
	_, page := reportPageOf(t)
	for _, bad := range []string{"<script", "<link", "<img", "<iframe", "<object", "@import", "url(", "javascript:"} {
		if strings.Contains(strings.ToLower(page), bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if handlers := regexp.MustCompile(`<[^>]* (on\w+|src|href)=`).FindAllString(page, -1); len(handlers) > 0 {
		t.Errorf("the page holds handlers: %q", handlers)
	}
	var open []string
	for _, tag := range regexp.MustCompile(`</?([a-z][a-z0-9]*)[^>]*?(/?)>`).FindAllStringSubmatch(page[strings.Index(page, "<body>"):], -1) {
		switch {
		case tag[1] == "br" || tag[2] == "/":
		case !strings.HasPrefix(tag[0], "</"):
			open = append(open, tag[1])
		case len(open) == 0 || open[len(open)-1] != tag[1]:
			if tag[1] != "html" { // begins before the body
				t.Fatalf("%s closes %v", tag[0], open)
			}
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("%v stay open", open)
	}
}

// A browser shows every part of the page, its bars, and nothing beside it; with -update the picture in the documents is made.
func TestPageInABrowser(t *testing.T) {
	b, _ := reportPageOf(t)
	browser := browsertest.Open(t, filepath.Dir(b.path("report.html")))
	dom := browser.DOM("report.html")
	for _, want := range []string{"Since the earlier report", "Funnel", "Checks", "Near duplicates", "Answers", "Sources", "Lengths", "cc-by-nc-sa-4.0", "is never closed", "&lt;script&gt;"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the browser's page lacks %q", want)
		}
	}
	if strings.Count(dom, "<rect") < 20 {
		t.Errorf("%d bars", strings.Count(dom, "<rect"))
	}
	const width, height = 1000, 3060
	browser.Run("report.html", fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+b.path("page.png"))
	raw, err := os.ReadFile(b.path("page.png"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(filepath.Join("..", "doc", "report.png"), smaller(t, raw), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	checkPicture(t, raw, width, height)
}

// checkPicture wants a picture of that size that holds bars in the page's blue, and paper at its right edge: nothing is wider
// than the page.
func checkPicture(t *testing.T, raw []byte, width, height int) {
	picture, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds(); size.Dx() != width || size.Dy() != height {
		t.Fatalf("the picture has %v", size)
	}
	blue, edge := 0, 0
	for y := range height {
		for x := range width {
			r, g, b, _ := picture.At(x, y).RGBA()
			if r>>8 == 0x4a && g>>8 == 0x7f && b>>8 == 0xb5 {
				blue++
			}
			if x >= width-4 && (r>>8 < 0xf0 || g>>8 < 0xf0) {
				edge++
			}
		}
	}
	if blue < 5000 || edge > 0 {
		t.Errorf("%d pixels of bars, %d at the edge", blue, edge)
	}
}

// smaller is a picture in the few colours that the page has.
func smaller(t *testing.T, raw []byte) []byte {
	picture, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	colours := color.Palette{color.RGBA{0x4a, 0x7f, 0xb5, 0xff}, color.RGBA{0xc0, 0x50, 0x4d, 0xff}, color.RGBA{0xc7, 0x8a, 0x2c, 0xff}}
	for i := range 13 {
		grey := uint8(255 * i / 12)
		colours = append(colours, color.RGBA{grey, grey, grey, 0xff})
	}
	few := image.NewPaletted(picture.Bounds(), colours)
	draw.Draw(few, few.Bounds(), picture, image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
