package plot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/color/palette"
	"image/draw"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lpipe/plot/browsertest"
)

// sweep is a page of runs with curves: a loss that falls, its validation, and how steep it was.
func sweep(runs, points int) Page {
	page := Page{Title: "sweep", About: "of a test", Metric: "tuned.accuracy", Goal: "max",
		Vars: []string{"lr", "optimizer", "rank"}, Metrics: []string{"tuned.accuracy", "lora.loss"}}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range runs {
		rank, lr := 4<<(i%4), []float64{1e-4, 3e-4, 1e-3}[i/4%3]
		speed := float64(rank) * lr * 400
		accuracy, last := 1-math.Exp(-speed/2), 0.0
		loss, check, norm := Curve{Name: "train/loss"}, Curve{Name: "validation/loss"}, Curve{Name: "train/grad_norm"}
		for step := range points {
			x := float64(step) / float64(points)
			last = 0.4 + 2*math.Exp(-x*speed*3) + 0.15*random.NormFloat64()*math.Exp(-x)
			loss.X, loss.Y = append(loss.X, float64(step+1)), append(loss.Y, last)
			norm.X, norm.Y = append(norm.X, float64(step+1)), append(norm.Y, math.Exp(random.NormFloat64()-3*x))
			if step%max(points/20, 1) == 0 {
				check.X, check.Y = append(check.X, float64(step+1)), append(check.Y, 0.5+2*math.Exp(-x*speed*3))
			}
		}
		page.Runs = append(page.Runs, Run{Name: fmt.Sprintf("ranks/lr=%g,rank=%d,seed=%d", lr, rank, i), State: "done", Seconds: 12.5 + float64(i),
			Vars:      map[string]json.RawMessage{"rank": json.RawMessage(strconv.Itoa(rank)), "lr": json.RawMessage(fmt.Sprint(lr)), "optimizer": json.RawMessage([]string{`"adamw"`, `"lion"`}[i%2])},
			Metrics:   map[string]*float64{"tuned.accuracy": &accuracy, "lora.loss": &last},
			Artifacts: []Artifact{{"lora.adapter", ".lpipe/exp/ranks/" + strconv.Itoa(i) + "/build/lora/adapter", "folder"}, {"tuned.metrics", "metrics.json", "81 B"}}})
		for _, c := range []Curve{loss, check, norm} {
			page.Curves = append(page.Curves, RunCurve{i, "lora", c.Name, "step", Reduce(c, CurvePoints)})
		}
	}
	return page
}

func written(t *testing.T, page Page) []byte {
	var out bytes.Buffer
	if err := page.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A hundred runs of 10,000 points, and thousands of runs, make a page of at most 5 MB.
func TestPageIsSmall(t *testing.T) {
	if size := len(written(t, sweep(100, 10_000))); size > 5_000_000 {
		t.Errorf("100 runs of 10,000 points are %d bytes", size)
	}
	page := sweep(12, 10_000)
	for len(page.Curves) < 6000 {
		page.Curves = append(page.Curves, page.Curves[:36]...)
	}
	if size := len(written(t, page)); size > 5_000_000 {
		t.Errorf("%d curves are %d bytes", len(page.Curves), size)
	}
}

// hostile has markup in every text.
func hostile() Page {
	page, bad := sweep(3, 50), "</script><img src=x onerror=alert(1)>"
	page.Title, page.About, page.Vars = bad, bad, append(page.Vars, bad)
	text, _ := json.Marshal(bad)
	for i := range page.Runs {
		page.Runs[i].Name += bad
		page.Runs[i].Vars[bad] = text
		page.Runs[i].Artifacts = append(page.Runs[i].Artifacts, Artifact{bad, "a%20b", bad})
	}
	page.Runs[1].Vars["lr"], page.Runs[1].Metrics["lora.loss"], page.Runs[2].State = json.RawMessage(`[1,{"a":null}]`), nil, "failed"
	page.Curves[0].Name, page.Curves[0].Y[3] = bad, math.NaN()
	return page
}

// The page loads nothing, and nothing that it shows becomes markup.
func TestPageIsSelfContained(t *testing.T) {
	page := strings.ToLower(string(written(t, hostile())))
	for _, bad := range []string{"<link", "<img", "<iframe", "<object", "@import", "url(", "javascript:", "src=\"", "fetch("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if n := strings.Count(page, "</script>"); n != 2 {
		t.Errorf("%d scripts end", n)
	}
	if hosts := regexp.MustCompile(`https?://[^"]*`).FindAllString(page, -1); len(hosts) != 1 { // the name of SVG's elements
		t.Errorf("the page names %q", hosts)
	}
}

// shower shows pages of a folder in a browser.
type shower struct {
	t   *testing.T
	dir string
	*browsertest.Browser
}

func newShower(t *testing.T) shower {
	dir := t.TempDir()
	return shower{t, dir, browsertest.Open(t, dir)}
}

// dom is the page as it stands after its script ran, which must have come to its end.
func (s shower) dom(page, address string) (dom string, ready time.Duration) {
	dom = s.DOM(page + address)
	at := regexp.MustCompile(`data-ready="(\d+)"`).FindStringSubmatch(dom)
	if at == nil || !strings.Contains(dom, `id="wrong" hidden=""></p>`) {
		s.t.Fatalf("the page broke: %s", regexp.MustCompile(`id="wrong"[^/]*`).FindString(dom))
	}
	ms, _ := strconv.Atoi(at[1])
	return dom, time.Duration(ms) * time.Millisecond
}

func (s shower) write(name string, page Page) {
	if err := os.WriteFile(filepath.Join(s.dir, name), written(s.t, page), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// A browser shows the table sorted and filtered as the address says, charts, axes and links; nothing of a hostile page
// becomes an element. With -update the picture in the documents is made.
func TestPageInABrowser(t *testing.T) {
	s := newShower(t)
	s.write("page.html", sweep(12, 3000))
	dom, _ := s.dom("page.html", "#sort=-tuned.accuracy&filter=rank%3E%3D16+lr%3C0.001&smooth=0.9&log=1")
	rows := regexp.MustCompile(`ranks/lr=[^<]*`).FindAllString(dom[strings.Index(dom, `<tbody`):strings.Index(dom, `</tbody>`)], -1)
	if got := strings.Join(rows, " "); got != "ranks/lr=0.0003,rank=32,seed=7 ranks/lr=0.0003,rank=16,seed=6 ranks/lr=0.0001,rank=32,seed=3 ranks/lr=0.0001,rank=16,seed=2" {
		t.Errorf("the table shows %s", got)
	}
	for _, want := range []string{"4 of 12 runs", "<figcaption>validation/loss</figcaption>", `href=".lpipe/exp/ranks/7/build/lora/adapter"`, "tuned.accuracy ↓", `aria-sort="descending"`, ">adamw</td>"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if lines, off := strings.Count(dom, `<path d="M`), strings.Count(dom, `class="off"`); lines != 12 || off != 8 {
		t.Errorf("%d lines between the axes, %d of them pale", lines, off)
	}
	s.write("hostile.html", hostile())
	dom, _ = s.dom("hostile.html", "")
	if strings.Contains(dom, "<img") || !strings.Contains(dom, "&lt;img src=x onerror=alert(1)&gt;</h1>") {
		t.Error("a text became markup")
	}
	s.picture()
}

// gestures are a reader's: a range chosen on the second axis, a chart looked at closely, a run switched off, a head clicked.
const gestures = `<script>
Element.prototype.setPointerCapture = () => {};
function drag(on, fromX, fromY, toX, toY) {
  const box = on.getBoundingClientRect();
  on.dispatchEvent(new PointerEvent("pointerdown", { clientX: box.left + fromX, clientY: box.top + fromY }));
  on.dispatchEvent(new PointerEvent("pointerup", { clientX: box.left + toX, clientY: box.top + toY }));
}
drag(document.querySelectorAll("#axes .touch")[1], 9, 0, 9, 60); // the upper quarter: lion
document.body.dataset.brushed = document.getElementById("shown").textContent;
drag(document.querySelector("canvas"), 150, 50, 250, 90);
document.body.dataset.zoomed = view.zoom[0] > 1 && view.zoom[1] < 3000 && view.zoom[0] < view.zoom[1];
document.querySelector("tbody input").click();
document.body.dataset.shown = document.getElementById("shown").textContent;
document.querySelectorAll("th button")[3].click();
document.body.dataset.sorted = view.sort;
document.querySelector("canvas").dispatchEvent(new PointerEvent("pointermove", { clientX: document.querySelector("canvas").getBoundingClientRect().left + 200, clientY: document.querySelector("canvas").getBoundingClientRect().top + 205 }));
document.body.dataset.tip = document.getElementById("tip").textContent;
</script>`

// Axes choose, charts zoom, boxes switch runs off, heads sort, and the pointer is told what it is at.
func TestPageAnswers(t *testing.T) {
	s := newShower(t)
	page := strings.Replace(string(written(t, sweep(12, 3000))), "</body>", gestures+"</body>", 1)
	if err := os.WriteFile(filepath.Join(s.dir, "page.html"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	dom, _ := s.dom("page.html", "")
	for _, want := range []string{`data-brushed="6 of 12 runs"`, `data-zoomed="true"`, `data-shown="5 of 12 runs"`, `data-sorted="rank"`, `data-tip="ranks/lr=`} {
		if !strings.Contains(dom, want) {
			t.Errorf("the page lacks %s: %s", want, regexp.MustCompile("<body[^>]*").FindString(dom))
		}
	}
}

// picture takes a screenshot and wants colours of several lines in each chart.
func (s shower) picture() {
	const width, height = 1100, 1660
	shot := filepath.Join(s.dir, "page.png")
	s.Run("page.html#smooth=0.9&sort=-tuned.accuracy", fmt.Sprintf("--window-size=%d,%d", width, height), "--screenshot="+shot)
	raw, err := os.ReadFile(shot)
	if err != nil {
		s.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(raw))
	if err != nil || picture.Bounds().Dx() != width || picture.Bounds().Dy() != height {
		s.t.Fatal(err, picture.Bounds())
	}
	coloured, edge := 0, 0
	for y := range height {
		for x := range width {
			r, g, b, _ := picture.At(x, y).RGBA()
			if max(r, g, b)-min(r, g, b) > 0x4000 {
				coloured++
				if x >= width-4 {
					edge++
				}
			}
		}
	}
	if coloured < 20_000 || edge > 0 {
		s.t.Errorf("%d coloured points, %d at the edge", coloured, edge)
	}
	if *update {
		colours := slices.Clone(palette.WebSafe)
		for grey := 136; grey < 256; grey += 3 {
			colours = append(colours, color.Gray{uint8(grey)})
		}
		few := image.NewPaletted(picture.Bounds(), colours)
		draw.Draw(few, few.Bounds(), picture, image.Point{}, draw.Src)
		var out bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("..", "doc", "plots.png"), out.Bytes(), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

// A hundred runs of 10,000 points open within two seconds where the machine has nothing else to do; a busy one gets ten.
func TestLargePageOpens(t *testing.T) {
	s := newShower(t)
	s.write("large.html", sweep(100, 10_000))
	_, ready := s.dom("large.html", "#smooth=0.5")
	t.Logf("drawn %v after the start of loading", ready)
	if ready > 10*time.Second {
		t.Errorf("the page took %v", ready)
	}
}
