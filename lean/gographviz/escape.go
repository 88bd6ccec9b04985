// Package gographviz stands in for github.com/awalterschulze/gographviz, of which Gorgonia uses the part that writes graphs in
// DOT (https://graphviz.org/doc/info/lang.html). The original decodes the tables of its parser of DOT at every start.
package gographviz

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Escape is a graph that quotes its names and values.
type Escape struct {
	graph
	directed bool
	named    map[string]*graph // the graph itself, and every graph in it
}

// graph is a graph or a part of one.
type graph struct {
	name  string
	attrs map[string]string
	nodes []string // statements
	parts []*graph
	edges []string // statements
}

// NewEscape is an empty graph.
func NewEscape() *Escape { return &Escape{named: map[string]*graph{}} }

// SetName names the graph, before anything is added to it by that name.
func (e *Escape) SetName(name string) error {
	e.graph = graph{name: name, attrs: map[string]string{}}
	e.named[name] = &e.graph
	return nil
}

// SetDir says whether edges have a direction.
func (e *Escape) SetDir(directed bool) error {
	e.directed = directed
	return nil
}

// find returns the graph of a name.
func (e *Escape) find(name string) (*graph, error) {
	if g, known := e.named[name]; known {
		return g, nil
	}
	return nil, fmt.Errorf("there is no graph %q; add it first", name)
}

// AddAttr sets an attribute of a graph.
func (e *Escape) AddAttr(of, field, value string) error {
	g, err := e.find(of)
	if err == nil {
		g.attrs[field] = value
	}
	return err
}

// AddSubGraph makes a graph a part of another one.
func (e *Escape) AddSubGraph(parent, name string, attrs map[string]string) error {
	g, err := e.find(parent)
	if err != nil {
		return err
	}
	part := &graph{name: name, attrs: maps.Clone(attrs)}
	g.parts = append(g.parts, part)
	e.named[name] = part
	return nil
}

// IsSubGraph tells whether there is a part of this name.
func (e *Escape) IsSubGraph(name string) bool {
	_, known := e.named[name]
	return known && name != e.name
}

// AddNode puts a node into a graph.
func (e *Escape) AddNode(parent, name string, attrs map[string]string) error {
	g, err := e.find(parent)
	if err == nil {
		g.nodes = append(g.nodes, quote(name)+list(attrs))
	}
	return err
}

// AddEdge connects two nodes.
func (e *Escape) AddEdge(from, to string, directed bool, attrs map[string]string) error {
	return e.AddPortEdge(from, "", to, "", directed, attrs)
}

// AddPortEdge connects two nodes at ports, which are written "node:port:side"; "" is anywhere.
func (e *Escape) AddPortEdge(from, fromPort, to, toPort string, directed bool, attrs map[string]string) error {
	arrow := " -- "
	if directed {
		arrow = " -> "
	}
	e.edges = append(e.edges, quote(from)+port(fromPort)+arrow+quote(to)+port(toPort)+list(attrs))
	return nil
}

func port(s string) string {
	if _, after, has := strings.Cut(s, ":"); has {
		return ":" + after
	}
	return ""
}

// String is the graph in DOT.
func (e *Escape) String() string {
	var b strings.Builder
	word := "graph "
	if e.directed {
		word = "digraph "
	}
	e.write(&b, word, "")
	return b.String()
}

func (g *graph) write(b *strings.Builder, word, indent string) {
	fmt.Fprintf(b, "%s%s%s {\n", indent, word, quote(g.name))
	inner := indent + "\t"
	for _, field := range slices.Sorted(maps.Keys(g.attrs)) {
		fmt.Fprintf(b, "%s%s=%s;\n", inner, field, quote(g.attrs[field]))
	}
	for _, part := range g.parts {
		part.write(b, "subgraph ", inner)
	}
	for _, statement := range slices.Concat(g.nodes, g.edges) {
		fmt.Fprintf(b, "%s%s;\n", inner, statement)
	}
	fmt.Fprintf(b, "%s}\n", indent)
}

// list writes attributes behind a node or an edge.
func list(attrs map[string]string) string {
	if len(attrs) == 0 {
		return ""
	}
	var all []string
	for _, field := range slices.Sorted(maps.Keys(attrs)) {
		all = append(all, field+"="+quote(attrs[field]))
	}
	return " [ " + strings.Join(all, ", ") + " ]"
}

// quote writes a name or a value; one that is a tag of HTML stays.
func quote(s string) string {
	if tag := strings.TrimSpace(s); strings.HasPrefix(tag, "<") && strings.Count(tag, "<") == strings.Count(tag, ">") {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}
