package runner

import (
	"slices"
	"strings"

	"lpipe/cache"
)

// onlyForKeys tells whether a node's outputs, none of which is in the workspace, are wanted for nothing but the keys of
// what follows: it is no target, and its consumers count its outputs whole. A colleague's result then does without its bytes;
// a stage that has to run brings its inputs by itself (bringInputs).
func (x *execution) onlyForKeys(n *Node) bool {
	return !x.asked[n.index] && x.absent(n) && n.readWhole()
}

// readWhole tells whether all that reads a node's outputs takes them as they are: a key can then be told from their hashes.
func (n *Node) readWhole() bool {
	for _, next := range n.Feeds {
		for i := range next.inputs {
			in := &next.inputs[i]
			for _, maker := range in.makers {
				if maker.node == n && (len(in.makers) > 1 || maker.Path != in.Path || next.reads(in) != nil) {
					return false
				}
			}
		}
	}
	return true
}

// asked marks the nodes that somebody wants in the workspace: the targets, without any all of some.
func (p *Plan) asked(o ReproOptions, nodes []*Node) []bool {
	asked := make([]bool, len(p.Nodes))
	if len(o.Targets) > 0 && !o.Downstream {
		nodes = nil
		for _, target := range o.Targets {
			more, err := p.Target(target)
			if err == nil { // else Select has said so
				nodes = append(nodes, more...)
			}
		}
	}
	for _, n := range nodes {
		asked[n.index] = true
	}
	return asked
}

// spareFetches takes back that repro would bring what no target is and nothing that runs reads: its record is enough.
func (a *assessment) spareFetches(chosen []*Node) {
	asked := a.Plan.asked(a.opts, chosen)
	for _, n := range chosen {
		v := &a.verdict[n.index]
		here := slices.ContainsFunc(v.Outputs, func(out OutputStatus) bool { return out.State != Missing })
		read := slices.ContainsFunc(n.Feeds, func(next *Node) bool { return strings.HasPrefix(a.verdict[next.index].Would, "run") })
		if v.Would == "fetch" && v.out != nil && !asked[n.index] && !here && !read && n.readWhole() {
			v.Would = ""
		}
	}
}

// fromRemote says of a stage whose outputs are not here that the remote has its result, as far as is known without asking.
// What follows it can then be judged by its key, as repro does it.
func (a *assessment) fromRemote(n *Node, key cache.Key, v *verdict, want map[string]cache.Content) {
	if v.Would != "run" || a.opts.Force || a.opts.NoRemote || n.Step.Always || a.Elsewhere == nil {
		return
	}
	name := a.Elsewhere(key)
	if name == "" {
		return
	}
	v.Would = "fetch"
	for i, r := range v.Reasons {
		if r.What == "output" && r.New == "" {
			v.Reasons[i].New = "not here; remote " + name + " has it"
		}
	}
	for _, out := range n.Step.Out {
		if _, named := want[out.Name]; !named {
			return
		}
	}
	v.out = want
}
