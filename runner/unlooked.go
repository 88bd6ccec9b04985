package runner

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// vouched are the records, by name and path, of the stages and sources that KeepFresh found fresh, each as its check in the
// lock. What .lpipe/fresh hangs on is the stat of every path that was looked at, so of a project of which a few paths have
// changed it still tells which stages have not.
type vouched struct {
	stages, sources map[string]string
}

// encodeChecks is the middle of the answer in .lpipe/fresh, before the outline.
func (l *Lock) encodeChecks(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(l.Stages)))
	for _, name := range sortedKeys(l.Stages) {
		b = appendText(appendText(b, name), l.stageCheck(name))
	}
	b = binary.AppendUvarint(b, uint64(len(l.Sources)))
	for _, path := range sortedKeys(l.Sources) {
		b = appendText(appendText(b, path), l.Sources[path].check(path))
	}
	return b
}

// stageCheck is the check of a stage's record, from its text where the lock was read as text.
func (l *Lock) stageCheck(name string) string {
	if check := checkIn(l.texts[name]); check != "" {
		return check
	}
	return l.Stages[name].check(name)
}

// checkIn is the check in a record's text, "" where there is none.
func checkIn(text string) string {
	const field = `,"check":"` // within a string the quotes would be escaped, and texts have none that are
	_, after, _ := strings.Cut(text, field)
	check, _, _ := strings.Cut(after, `"`)
	return check
}

// decodeVouched reads what encodeChecks wrote, off the front; false: it is not that.
func decodeVouched(r *reader) (v vouched, ok bool) {
	pairs := func() map[string]string {
		n := r.count()
		all := make(map[string]string, n)
		for range n {
			name := r.text()
			all[name] = r.text()
		}
		return all
	}
	v.stages, v.sources = pairs(), pairs()
	return v, !r.bad
}

// unlooked tells, by node, which stages need no look: what KeepFresh found of them hung on paths that all are as they were,
// they have the record that they had, and so have all stages and sources that they read. It is nil where that cannot be told.
// It sees what a look sees at this moment, and must be called by the holder of the workspace's lock.
func (r *Runner) unlooked(c Circumstances) []bool {
	if left := r.Pipeline.left; left != nil {
		still := make([]bool, len(r.Plan.Nodes))
		for _, n := range r.Plan.Nodes {
			still[n.index] = left.still[n.Step.Name]
		}
		return still
	}
	if r.Origin != "" || r.Shared != nil || r.lockErr != nil || r.lock == nil {
		return nil
	}
	on, answer, known := readRemembered(r.dir, "fresh", freshMagic)
	if !known || !on.asked(c, r.dir) {
		return nil
	}
	rest := reader{b: answer}
	readReport(&rest)
	was, ok := decodeVouched(&rest)
	if !ok {
		return nil
	}
	changed, ok := on.marks.Differing(r.dir, maxChanged)
	if !ok {
		return nil
	}
	touched, ok := r.touched(changed)
	if !ok {
		return nil
	}
	still := make([]bool, len(r.Plan.Nodes))
	for _, n := range r.Plan.order {
		still[n.index] = !touched[n.index] && r.vouchedFor(n, was)
		for _, need := range n.Needs {
			still[n.index] = still[n.index] && still[need.index]
		}
	}
	return still
}

// maxChanged is how many changed paths are worth being told apart.
const maxChanged = 10_000

// vouchedFor tells whether a node and its sources have the records that they had.
func (r *Runner) vouchedFor(n *Node, was vouched) bool {
	name := n.Step.Name
	if _, locked := r.lock.Stages[name]; !locked || was.stages[name] != r.lock.stageCheck(name) {
		return false
	}
	if n.Step.Always || n.Step.Frozen || len(n.Step.Tools) > 0 { // tools are found by folders that are no node's
		return false
	}
	for i := range n.inputs {
		origin := n.inputs[i].origin
		if origin == nil {
			continue
		}
		source, locked := r.lock.Sources[n.inputs[i].Path]
		if origin.Download != nil || !locked || was.sources[n.inputs[i].Path] != source.check(n.inputs[i].Path) {
			return false
		}
	}
	return true
}

// touched tells, by node, whether one of its outputs, inputs or folders of code lies at or above a changed path. It is
// false where a changed path concerns more than that: decoding read it, or nobody knows who did.
func (r *Runner) touched(changed []string) (nodes []bool, ok bool) {
	above := map[string][]int{} // each changed path and the folders above it, to the changed paths' numbers
	for i, at := range changed {
		for ; ; at = filepath.Dir(at) {
			above[at] = append(above[at], i)
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	reads := r.Pipeline.reads.again(r.dir)
	explained := make([]bool, len(changed))
	for i, at := range changed {
		if reads.Notes(at) {
			return nil, false
		}
		explained[i] = at == LockPath(r.dir, r.Pipeline.Profile) || at == r.path("stages.json") // compared record by record, or worth nothing
	}
	nodes = make([]bool, len(r.Plan.Nodes))
	for _, n := range r.Plan.Nodes {
		for _, at := range r.pathsOf(n) {
			for _, i := range above[at] {
				nodes[n.index], explained[i] = true, true
			}
		}
	}
	for i := range explained {
		if !explained[i] {
			return nil, false
		}
	}
	return nodes, true
}

// pathsOf are the paths at and below which a look at a node looks, tools apart.
func (r *Runner) pathsOf(n *Node) []string {
	paths := make([]string, 0, len(n.Step.Out)+len(n.inputs)+len(n.code))
	for i := range n.Step.Out {
		paths = append(paths, r.Plan.abs(n.Step.Out[i].Path))
	}
	for i := range n.inputs {
		paths = append(paths, under(r.dir, n.inputs[i].Path))
	}
	for _, code := range n.code {
		fixed, _ := splitPattern(code.pattern)
		paths = append(paths, under(r.dir, fixed))
	}
	return paths
}

// scheduleRest is schedule for the nodes that need a look; the others stand by the word of an earlier one.
func (x *execution) scheduleRest(ctx context.Context, nodes []*Node, unlooked []bool) error {
	if unlooked == nil {
		return x.schedule(ctx, nodes)
	}
	var guarding sync.WaitGroup
	if slices.ContainsFunc(nodes, func(n *Node) bool { return !unlooked[n.index] && n.Step.Kind.InPlace }) {
		// What has changed will most likely make it run. An error is told by the stage that asks for the guard again.
		guarding.Go(func() { x.guard.start(ctx) })
	}
	x.skip(unlooked)
	err := x.schedule(ctx, nodes)
	guarding.Wait()
	return err
}

// skip makes known what needs no look.
func (x *execution) skip(unlooked []bool) {
	for _, n := range x.Plan.order {
		if !unlooked[n.index] {
			continue
		}
		done := x.timed(n, func() outcome {
			done := outcome{how: HowWorkspace}
			if slices.ContainsFunc(n.Feeds, func(next *Node) bool { return !unlooked[next.index] }) { // else nobody asks
				done.out = x.lock.Stages[n.Step.Name].contents()
			}
			return done
		})
		x.outcomes[n.index] = done
		x.finished(n, x.lock.Stages[n.Step.Name].Key, done, x.spans[n.index].ended)
	}
	now := x.Now()
	for _, one := range x.Pipeline.left.stages() {
		x.emit(RunEvent{Event: "stage", Time: now, Stage: one.name, Kind: one.kind(), How: HowWorkspace})
	}
}
