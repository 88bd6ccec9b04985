package runner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// sort fills order: every node after all that it needs, else in the order of the file. Nodes on a cycle are reported,
// each cycle once and whole.
func (p *Plan) sort() hcl.Diagnostics {
	waits := make([]int, len(p.Nodes))
	var ready []*Node
	for i, node := range p.Nodes {
		waits[i] = len(node.Needs)
		if waits[i] == 0 {
			ready = append(ready, node)
		}
	}
	p.order = make([]*Node, 0, len(p.Nodes))
	for len(ready) > 0 {
		node := ready[0]
		ready = ready[1:]
		p.order = append(p.order, node)
		for _, next := range node.Feeds {
			if waits[next.index]--; waits[next.index] == 0 {
				ready = append(ready, next)
			}
		}
	}
	if len(p.order) == len(p.Nodes) {
		return nil
	}
	return p.cycles(waits)
}

// cycles follows, from each node that could not be ordered, one unordered need after the other until a node repeats.
func (p *Plan) cycles(waits []int) hcl.Diagnostics {
	var diags hcl.Diagnostics
	walk := make([]int, len(p.Nodes)) // 0: not seen, else the number of the walk that saw it
	for n, start := range p.Nodes {
		if waits[start.index] == 0 || walk[start.index] != 0 {
			continue
		}
		var trail []*Node
		at := start
		for walk[at.index] == 0 {
			walk[at.index] = n + 1
			trail = append(trail, at)
			at = at.Needs[slices.IndexFunc(at.Needs, func(need *Node) bool { return waits[need.index] > 0 })]
		}
		if walk[at.index] == n+1 { // else it ran into a cycle that is already reported
			diags = append(diags, cycle(trail[slices.Index(trail, at):]))
		}
	}
	return diags
}

func cycle(nodes []*Node) *hcl.Diagnostic {
	if len(nodes) == 1 {
		in := nodes[0].Step.Range
		return mistake(in, "A stage that reads its own output", "Stage %s %s", nodes[0].Step.Name, nodes[0].reason(nodes[0]))
	}
	var text strings.Builder
	text.WriteString("Each of these stages waits for the next, and the last for the first:\n")
	for i, node := range nodes {
		next := nodes[(i+1)%len(nodes)]
		fmt.Fprintf(&text, "  %s (%s) %s\n", node.Step.Name, where(node.Step.Range), node.reason(next))
	}
	text.WriteString("Cut one of these.")
	return mistake(nodes[0].Step.Range, "Stages in a cycle", "%s", text.String())
}

// reason says why a node waits for another.
func (n *Node) reason(other *Node) string {
	for _, in := range n.inputs {
		for _, out := range in.makers {
			if out.node == other {
				return reads(in.Path, out)
			}
		}
	}
	for _, code := range n.code {
		for _, out := range code.makers {
			if out.node == other {
				return reads(code.pattern, out)
			}
		}
	}
	return "depends on " + other.Step.Name
}

func reads(at string, out output) string {
	if at == out.Path {
		return fmt.Sprintf("reads %s, which %s makes.", at, out.node.Step.Name)
	}
	return fmt.Sprintf("reads %s, and %s makes %s.", at, out.node.Step.Name, out.Path)
}

// resources is what a node needs: its block's word, else its kind's, else one CPU.
func (n *Node) resources() Resources {
	needs := Resources{CPU: 1}
	switch {
	case n.Step.Resources != nil:
		needs = *n.Step.Resources
	case n.Step.Kind.Resources != nil:
		needs = n.Step.Kind.Resources(n.Step.Stage)
	}
	if needs.CPU == 0 {
		needs.CPU = 1
	}
	return needs
}
