package plot

import (
	_ "embed"
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

//go:embed page.html
var pageFrame string

//go:embed page.css
var pageStyle string

//go:embed page.js
var pageScript string

// Page is what a report shows: runs with their values, and curves of them.
type Page struct {
	Title, About string
	Smooth       float64 // what the page begins with; its reader may change both
	Log          bool
	Metric, Goal string   // what the runs aim at, "min" or "max"; or nothing
	Vars         []string // the columns of the table that are variables, in their order
	Metrics      []string // those that are metrics
	Runs         []Run
	Curves       []RunCurve
}

// Run is one row of the table. Vars are JSON values.
type Run struct {
	Name      string                     `json:"name"`
	State     string                     `json:"state"`
	Vars      map[string]json.RawMessage `json:"vars"`
	Metrics   map[string]*float64        `json:"metrics"`
	Seconds   float64                    `json:"seconds,omitempty"`
	Artifacts []Artifact                 `json:"artifacts,omitempty"`
}

// Artifact is a file or folder of a run; Link is a URL, as a rule relative to the page's own place.
type Artifact struct {
	Name string `json:"name"`
	Link string `json:"link"`
	Size string `json:"size"`
}

// RunCurve is a curve of Runs[Run]. Curves of one name share a chart; Of tells those of one run apart.
type RunCurve struct {
	Run            int
	Of, Name, Axis string
	Reduced
}

// Limits of a page: a point takes up to 24 bytes, so that all curves together stay below 4 MB.
const (
	mostPoints  = 160_000
	leastPoints = 40

	// CurvePoints is how many points of a curve a page shows at most.
	CurvePoints = 1000
)

// Write writes the page. Its size is bounded: the more curves there are, the fewer points each has; beyond 4,000 curves
// the last ones are left out, and the page says so.
func (p Page) Write(w io.Writer) error {
	data, err := json.Marshal(p.content()) // < and > are escaped: nothing in it ends the element around it
	if err != nil {
		return err
	}
	head, rest, one := strings.Cut(pageFrame, "/* style */")
	middle, rest, two := strings.Cut(rest, "/* data */")
	before, end, three := strings.Cut(rest, "/* script */")
	if !one || !two || !three {
		panic("the page's frame lacks a place")
	}
	for _, part := range []string{head, pageStyle, middle, string(data), before, pageScript, end} {
		if _, err := io.WriteString(w, part); err != nil {
			return err
		}
	}
	return nil
}

// pageContent is the page's data as page.js reads it.
type pageContent struct {
	Title   string      `json:"title"`
	About   string      `json:"about"`
	Smooth  float64     `json:"smooth"`
	Log     bool        `json:"log"`
	Metric  string      `json:"metric"`
	Goal    string      `json:"goal"`
	Vars    []string    `json:"vars"`
	Metrics []string    `json:"metrics"`
	Runs    []Run       `json:"runs"`
	Places  []digits    `json:"places"` // the x of curves, which many have in common
	Charts  []pageChart `json:"charts"`
	LeftOut int         `json:"left_out"` // curves for which there is no room
}

type pageChart struct {
	Name  string     `json:"name"`
	Axis  string     `json:"axis"`
	Lines []pageLine `json:"lines"`
}

type pageLine struct {
	Run   int    `json:"run"`
	Of    string `json:"of,omitempty"`
	Count int    `json:"count"`
	Each  int    `json:"each"`
	Place int    `json:"x"` // index into Places
	Y     digits `json:"y"`
	Low   digits `json:"lo,omitempty"`
	High  digits `json:"hi,omitempty"`
}

func (p Page) content() pageContent {
	c := pageContent{Title: p.Title, About: p.About, Smooth: p.Smooth, Log: p.Log, Metric: p.Metric, Goal: p.Goal, // lists, if empty ones, not null
		Vars: append([]string{}, p.Vars...), Metrics: append([]string{}, p.Metrics...), Runs: append([]Run{}, p.Runs...),
		Places: []digits{}, Charts: []pageChart{}}
	curves := p.Curves
	if most := mostPoints / leastPoints; len(curves) > most {
		c.LeftOut, curves = len(curves)-most, curves[:most]
	}
	points := min(CurvePoints, mostPoints/max(len(curves), 1))
	charts, places := map[string]int{}, map[string]int{}
	for _, one := range curves {
		at, known := charts[one.Name]
		if !known {
			at = len(c.Charts)
			charts[one.Name] = at
			c.Charts = append(c.Charts, pageChart{Name: one.Name, Axis: one.Axis})
		}
		r := one.Reduce(points)
		text, _ := digits(r.X).MarshalJSON() // it has no errors
		place, known := places[string(text)]
		if !known {
			place = len(c.Places)
			places[string(text)] = place
			c.Places = append(c.Places, r.X)
		}
		c.Charts[at].Lines = append(c.Charts[at].Lines, pageLine{one.Run, one.Of, r.Count, r.Each, place, r.Y, r.Low, r.High})
	}
	slices.SortStableFunc(c.Charts, func(a, b pageChart) int { return LossFirst(a.Name, b.Name) })
	return c
}

// digits are numbers of which five digits are enough for a picture; those that are not finite are null. Whole numbers
// keep all theirs.
type digits []float64

func (d digits) MarshalJSON() ([]byte, error) {
	text := append(make([]byte, 0, 8*len(d)+2), '[')
	for i, v := range d {
		if i > 0 {
			text = append(text, ',')
		}
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			text = append(text, "null"...)
		case v == math.Trunc(v) && math.Abs(v) < 1<<53:
			text = strconv.AppendInt(text, int64(v), 10)
		default:
			text = strconv.AppendFloat(text, v, 'g', min(17, 5+max(0, int(math.Log10(math.Abs(v)))-3)), 64) // the place of a late step
		}
	}
	return append(text, ']'), nil
}
