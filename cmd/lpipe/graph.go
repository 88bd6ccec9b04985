package main

import (
	"fmt"
	"html"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
)

func (p *program) graphCommand() *cli.Command {
	return &cli.Command{
		Name: "graph", Category: categoryLook, Usage: "draw the stages and what flows between them", ArgsUsage: "[TARGET...]",
		Flags:  []cli.Flag{&cli.StringFlag{Name: "format", Usage: "text, mermaid, dot, svg or json", Value: "text"}},
		Action: p.graph,
	}
}

// graphNode is a stage or a source with the names of those that it needs.
type graphNode struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"` // a stage's kind, or "source"
	Desc   string   `json:"desc,omitempty"`
	Needs  []string `json:"needs"`
	column int
}

func (p *program) graph(c *cli.Context) error {
	pipeline, err := p.decode()
	if err != nil {
		return err
	}
	plan, diags := runner.NewPlan(pipeline, runner.PlanOptions{Known: func(string) bool { return true }})
	if err := p.diagnosePlan(diags, pipeline); err != nil {
		return err
	}
	chosen, err := plan.Select(runner.Selection{Targets: c.Args().Slice()})
	if err != nil {
		return err
	}
	nodes := graphNodes(plan, chosen)
	format := c.String("format")
	if p.json {
		format = "json"
	}
	switch format {
	case "text":
		p.drawText(nodes)
	case "mermaid":
		p.drawMermaid(nodes)
	case "dot":
		p.drawDot(nodes)
	case "svg":
		p.drawSVG(nodes)
	case "json":
		return p.printJSON(map[string]any{"schema": 1, "nodes": nodes})
	default:
		return usagef("--format %s: there are text, mermaid, dot, svg and json", format)
	}
	return nil
}

// graphNodes lists sources, then stages, each after what it needs; a column is one more than that of its needs.
func graphNodes(plan *runner.Plan, chosen []*runner.Node) []graphNode {
	columns := map[string]int{}
	needs := map[string][]string{}
	var nodes []graphNode
	wanted := map[*runner.Node]bool{}
	for _, n := range chosen {
		wanted[n] = true
	}
	for _, origin := range plan.Sources {
		used := false
		for _, reader := range origin.Readers {
			if wanted[reader] {
				used = true
				needs[reader.Step.Name] = append(needs[reader.Step.Name], origin.Name())
			}
		}
		if used {
			nodes = append(nodes, graphNode{Name: origin.Name(), Kind: "source", Desc: origin.Path, Needs: []string{}})
		}
	}
	for _, n := range chosen {
		node := graphNode{Name: n.Step.Name, Kind: n.Step.Kind.Name, Desc: n.Step.Desc, Needs: append([]string{}, needs[n.Step.Name]...)}
		for _, need := range n.Needs {
			if wanted[need] {
				node.Needs = append(node.Needs, need.Step.Name)
			}
		}
		for _, need := range node.Needs {
			node.column = max(node.column, columns[need]+1)
		}
		columns[node.Name] = node.column
		nodes = append(nodes, node)
	}
	return nodes
}

func (p *program) drawText(nodes []graphNode) {
	rows := [][]string{}
	for _, n := range nodes {
		from := ""
		if len(n.Needs) > 0 {
			from = "← " + strings.Join(n.Needs, ", ")
		}
		rows = append(rows, []string{strings.Repeat("  ", n.column) + p.paintResult(bold, n.Name), p.paintResult(grey, n.Kind), from})
	}
	table(p.stdout, rows)
}

func (p *program) drawMermaid(nodes []graphNode) {
	p.result("flowchart LR")
	index := map[string]int{}
	for i, n := range nodes {
		index[n.Name] = i
		shape := [2]string{"[", "]"}
		if n.Kind == "source" {
			shape = [2]string{"[(", ")]"}
		}
		p.result("  n%d%s\"%s<br/><small>%s</small>\"%s", i, shape[0], html.EscapeString(n.Name), html.EscapeString(n.Kind), shape[1])
	}
	for i, n := range nodes {
		for _, need := range n.Needs {
			p.result("  n%d --> n%d", index[need], i)
		}
	}
}

func (p *program) drawDot(nodes []graphNode) {
	p.result("digraph lpipe {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];")
	for _, n := range nodes {
		style := ""
		if n.Kind == "source" {
			style = ", shape=cylinder"
		}
		p.result("  %q [label=%q%s];", n.Name, n.Name+"\n"+n.Kind, style)
		for _, need := range n.Needs {
			p.result("  %q -> %q;", need, n.Name)
		}
	}
	p.result("}")
}

// drawSVG places the nodes in columns, each behind all that it needs.
func (p *program) drawSVG(nodes []graphNode) {
	const width, height, gapX, gapY, margin = 150, 44, 60, 22, 20
	rows := map[int]int{}
	type place struct{ x, y int }
	at := map[string]place{}
	right, bottom := 0, 0
	for _, n := range nodes {
		place := place{margin + n.column*(width+gapX), margin + rows[n.column]*(height+gapY)}
		rows[n.column]++
		at[n.Name] = place
		right, bottom = max(right, place.x+width), max(bottom, place.y+height)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", right+margin, bottom+margin)
	b.WriteString(`<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker></defs>` + "\n")
	for _, n := range nodes {
		for _, need := range n.Needs {
			from, to := at[need], at[n.Name]
			x1, y1, x2, y2 := from.x+width, from.y+height/2, to.x, to.y+height/2
			fmt.Fprintf(&b, `<path d="M%d %dC%d %d %d %d %d %d" fill="none" stroke="#888" marker-end="url(#arrow)"/>`+"\n", x1, y1, x1+gapX/2, y1, x2-gapX/2, y2, x2, y2)
		}
	}
	for _, n := range nodes {
		fill := "#eef4ff"
		if n.Kind == "source" {
			fill = "#fff6e0"
		}
		where := at[n.Name]
		fmt.Fprintf(&b, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#667"/>`, html.EscapeString(n.Desc), where.x, where.y, width, height, fill)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-weight="bold">%s</text><text x="%d" y="%d" text-anchor="middle" fill="#555" font-size="11">%s</text></g>`+"\n",
			where.x+width/2, where.y+19, html.EscapeString(n.Name), where.x+width/2, where.y+35, html.EscapeString(n.Kind))
	}
	b.WriteString("</svg>")
	p.result("%s", b.String())
}
