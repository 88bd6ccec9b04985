package runner

import (
	"path"
	"slices"
	"strings"
)

// Selection says which stages a command is about.
type Selection struct {
	Targets    []string
	Only       bool // the targets alone
	Downstream bool // the targets and all that follows from them, without what they need
}

// Select returns the chosen nodes, each after those that it needs. Without targets these are all.
func (p *Plan) Select(s Selection) ([]*Node, error) {
	if len(s.Targets) == 0 {
		return p.order, nil
	}
	picked := make([]bool, len(p.Nodes))
	for _, target := range s.Targets {
		nodes, err := p.Target(target)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			switch {
			case s.Downstream:
				spread(n, picked, func(n *Node) []*Node { return n.Feeds })
			case s.Only:
				picked[n.index] = true
			default:
				spread(n, picked, func(n *Node) []*Node { return n.Needs })
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(p.order), func(n *Node) bool { return !picked[n.index] }), nil
}

func spread(from *Node, picked []bool, next func(*Node) []*Node) {
	todo := []*Node{from}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if picked[n.index] {
			continue
		}
		picked[n.index] = true
		todo = append(todo, next(n)...)
	}
}

// Target finds what a person means: a stage or instance by name, all instances of a block, an output's path or one in
// or above it, or a pattern over names and paths.
func (p *Plan) Target(target string) ([]*Node, error) {
	if n, ok := p.named[target]; ok {
		return []*Node{n}, nil
	}
	if nodes, ok := p.blocks[target]; ok {
		return nodes, nil
	}
	at := path.Clean(strings.TrimSuffix(target, "/"))
	if abs := strings.TrimPrefix(at, path.Clean(p.Pipeline.Dir)+"/"); abs != at {
		at = abs
	}
	var nodes []*Node
	for _, out := range p.makers(at) {
		if !slices.Contains(nodes, out.node) {
			nodes = append(nodes, out.node)
		}
	}
	if len(nodes) > 0 {
		return nodes, nil
	}
	for _, n := range p.Nodes {
		if n.matches(at) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) > 0 {
		return nodes, nil
	}
	return nil, p.unknown(target)
}

func (n *Node) matches(pattern string) bool {
	if !strings.ContainsAny(pattern, "*?[") {
		return false
	}
	return matchPattern(pattern, n.Step.Name) || matchPattern(pattern, n.Step.Block) ||
		slices.ContainsFunc(n.Step.Out, func(out StepOutput) bool { return matchPattern(pattern, out.Path) })
}

func (p *Plan) unknown(target string) error {
	for _, off := range p.Pipeline.Off {
		if off == target {
			return usage("stage %s is switched off by its when", target)
		}
	}
	names := make([]string, 0, len(p.Nodes))
	for _, n := range p.Nodes {
		names = append(names, n.Step.Name)
	}
	for block := range p.blocks {
		names = append(names, block)
	}
	return usage("no stage and no output is called %q. %s", target, suggest(target, names, "stages"))
}
