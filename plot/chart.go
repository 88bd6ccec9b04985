package plot

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Chart says how curves are drawn in a terminal.
type Chart struct {
	Width, Height int     // characters, with labels; least 20 x 3
	Log           bool    // of y; what is not above 0 is left out
	Smooth        float64 // weight of Smooth; the legend's numbers are not smoothed
	// Paint colours a text for the i-th line; nil paints nothing.
	Paint func(line int, text string) string
}

// Line is one curve of a chart with its name.
type Line struct {
	Label string
	Curve
}

// listed is how many lines the legend names.
const listed = 16

// Draw draws lines over one another, the later ones above, with a title, axes, and a legend that gives each line's last
// number. A character holds 2 x 4 dots and has one colour: that of the last line through it.
func (c Chart) Draw(w io.Writer, title string, lines []Line) error {
	c.Width, c.Height = max(c.Width, 20), max(c.Height, 3)
	drawn := make([]Line, len(lines))
	for i, line := range lines {
		drawn[i] = line
		drawn[i].Y = Smooth(line.Y, c.Smooth)
	}
	box := c.bounds(drawn)
	var out strings.Builder
	fmt.Fprintln(&out, title)
	if box.empty() {
		fmt.Fprintln(&out, "  no numbers to draw")
	} else {
		c.body(&out, box, drawn)
	}
	for i, line := range lines {
		if i == listed {
			fmt.Fprintf(&out, "  … and %d more\n", len(lines)-listed)
			break
		}
		facts, text := FactsOf(line.Curve), "no numbers"
		if facts.Points > 0 {
			text = fmt.Sprintf("last %s, min %s, max %s", short(facts.Last), short(facts.Min), short(facts.Max))
		}
		fmt.Fprintf(&out, "  %s %s  %s\n", c.paint(i, "━━"), line.Label, text)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func (c Chart) paint(line int, text string) string {
	if c.Paint == nil {
		return text
	}
	return c.Paint(line, text)
}

// body draws the field of dots between its axes.
func (c Chart) body(out *strings.Builder, box bounds, lines []Line) {
	labels, margin := make([]string, c.Height), 0
	every := max(1, (c.Height-1)/4)
	for row := range labels {
		if row%every == 0 && (row+every <= c.Height-1 || row == c.Height-1) || row == c.Height-1 {
			value := box.high - (box.high-box.low)*float64(row)/float64(c.Height-1)
			labels[row] = short(c.value(value))
			margin = max(margin, len(labels[row]))
		}
	}
	field := newDots(max(c.Width-margin-2, 4), c.Height)
	for i, line := range lines {
		c.trace(field, box, i, line.Curve)
	}
	for row := range c.Height {
		tick := "│"
		if labels[row] != "" {
			tick = "┤"
		}
		fmt.Fprintf(out, "%*s %s%s\n", margin, labels[row], tick, field.row(row, c.paint))
	}
	left, right := short(box.left), short(box.right)
	middle := lines[0].Axis
	space := field.columns - len(left) - len(right)
	if n := utf8.RuneCountInString(middle); n+2 > space {
		middle = ""
	}
	before := (space - utf8.RuneCountInString(middle)) / 2
	after := space - utf8.RuneCountInString(middle) - before
	fmt.Fprintf(out, "%*s └%s\n", margin, "", strings.Repeat("─", field.columns))
	fmt.Fprintf(out, "%*s  %s%s%s%s%s\n", margin, "", left, strings.Repeat(" ", max(before, 1)), middle, strings.Repeat(" ", max(after, 0)), right)
}

// bounds are the drawn range, of y in the chart's scale.
type bounds struct{ left, right, low, high float64 }

func (b bounds) empty() bool { return b.left > b.right || b.low > b.high }

func (c Chart) bounds(lines []Line) bounds {
	b := bounds{math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)}
	for _, line := range lines {
		for i, y := range line.Y {
			if y = c.scale(y); drawable(line.X[i], y) {
				b.left, b.right = min(b.left, line.X[i]), max(b.right, line.X[i])
				b.low, b.high = min(b.low, y), max(b.high, y)
			}
		}
	}
	if b.high-b.low <= 1e-9*math.Abs(b.high) { // a constant stands in the middle
		half := max(math.Abs(b.low)*0.5, 1e-9)
		b.low, b.high = b.low-half, b.high+half
	}
	return b
}

func drawable(x, y float64) bool { return !math.IsNaN(x-x) && !math.IsNaN(y-y) }

// scale is y as it is measured along the axis; NaN cannot be drawn.
func (c Chart) scale(y float64) float64 {
	if !c.Log {
		return y
	}
	if y <= 0 {
		return math.NaN()
	}
	return math.Log10(y)
}

func (c Chart) value(y float64) float64 {
	if c.Log {
		return math.Pow(10, y)
	}
	return y
}

// trace draws one curve: neighbours are joined, a point between gaps stands alone.
func (c Chart) trace(field *dots, b bounds, line int, curve Curve) {
	joined, lastX, lastY := false, 0, 0
	for i, y := range curve.Y {
		if y = c.scale(y); !drawable(curve.X[i], y) {
			joined = false
			continue
		}
		x := 0.5
		if b.right > b.left {
			x = (curve.X[i] - b.left) / (b.right - b.left)
		}
		px := int(math.Round(x * float64(field.columns*2-1)))
		py := int(math.Round((b.high - y) / (b.high - b.low) * float64(field.lines*4-1)))
		if joined {
			field.segment(line, lastX, lastY, px, py)
		} else {
			field.set(line, px, py)
		}
		joined, lastX, lastY = true, px, py
	}
}

// dots is a field of characters of 2 x 4 dots.
type dots struct {
	columns, lines int
	bits           []byte
	owner          []int
}

func newDots(columns, lines int) *dots {
	return &dots{columns, lines, make([]byte, columns*lines), make([]int, columns*lines)}
}

// set sets the dot x, y; the Braille block numbers them down the left side, then the right, the fourth row last:
// Unicode 17.0, section 21.1.
func (d *dots) set(line, x, y int) {
	at := y/4*d.columns + x/2
	bit := [2][4]byte{{0x01, 0x02, 0x04, 0x40}, {0x08, 0x10, 0x20, 0x80}}[x%2][y%4]
	d.bits[at] |= bit
	d.owner[at] = line
}

// segment sets the dots from one place to another: Bresenham's line.
func (d *dots) segment(line, x, y, toX, toY int) {
	dx, dy := abs(toX-x), -abs(toY-y)
	stepX, stepY, off := sign(toX-x), sign(toY-y), dx+dy
	for {
		d.set(line, x, y)
		if x == toX && y == toY {
			return
		}
		twice := 2 * off
		if twice >= dy {
			off, x = off+dy, x+stepX
		}
		if twice <= dx {
			off, y = off+dx, y+stepY
		}
	}
}

func abs(n int) int { return max(n, -n) }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// row is a row's characters, those of one line beside each other painted together.
func (d *dots) row(row int, paint func(int, string) string) string {
	var out, run strings.Builder
	owner := -1
	flush := func() {
		if run.Len() > 0 {
			out.WriteString(paint(owner, run.String()))
			run.Reset()
		}
	}
	blank := 0
	for at := row * d.columns; at < (row+1)*d.columns; at++ {
		if d.bits[at] == 0 {
			blank++
			continue
		}
		if blank > 0 || d.owner[at] != owner {
			flush()
			out.WriteString(strings.Repeat(" ", blank))
			blank, owner = 0, d.owner[at]
		}
		run.WriteRune(0x2800 + rune(d.bits[at]))
	}
	flush()
	return out.String()
}

func short(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
