package runner

import "lpipe/cache"

// onlyForKeys tells whether a node's outputs, none of which is in the workspace, are wanted for nothing but the keys of
// what follows: it is no target, and its consumers count its outputs whole. A colleague's result then does without its bytes;
// a stage that has to run brings its inputs by itself (bringInputs).
func (x *execution) onlyForKeys(n *Node) bool {
	if x.asked[n.index] || !x.absent(n) {
		return false
	}
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

// markAsked marks the nodes that somebody wants in the workspace: the targets, without any all.
func (x *execution) markAsked(nodes []*Node) {
	x.asked = make([]bool, len(x.Plan.Nodes))
	if len(x.opts.Targets) > 0 && !x.opts.Downstream {
		nodes = nil
		for _, target := range x.opts.Targets {
			more, err := x.Plan.Target(target)
			if err == nil { // else Select has said so
				nodes = append(nodes, more...)
			}
		}
	}
	for _, n := range nodes {
		x.asked[n.index] = true
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
