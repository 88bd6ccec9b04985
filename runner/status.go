package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lpipe/cache"
)

// The states of a stage.
const (
	Fresh   = "fresh"   // nothing to do
	Stale   = "stale"   // repro would run it, or put other content in place
	Missing = "missing" // the key is as recorded; an output is not in the workspace
	Failed  = "failed"  // stale, and its last run failed
	Blocked = "blocked" // an input is missing, or a stage that it needs cannot be brought up to date
	Frozen  = "frozen"
)

// StatusReport is how far a workspace is; its JSON is schema 1 of `lpipe status --json`.
type StatusReport struct {
	Schema  int            `json:"schema"`
	Stages  []StageStatus  `json:"stages"`
	Sources []SourceStatus `json:"sources"`
}

// Work tells whether there is something to do: for repro, or for add, where a source that no stage reads is not as recorded.
// One that stages read shows in their states; one that is missing may be left out on purpose.
func (s StatusReport) Work() bool {
	return slices.ContainsFunc(s.Stages, func(one StageStatus) bool { return one.State != Fresh && one.State != Frozen }) ||
		slices.ContainsFunc(s.Sources, func(one SourceStatus) bool { return one.unread && (one.State == Stale || one.State == Blocked) })
}

// StageStatus is one stage's state. Would says what repro would do: "" (nothing), "run", "restore", "fetch" (from the
// remote, as far as is known without asking it) or, where that hangs on what a stage before it makes, "run?".
type StageStatus struct {
	Name    string         `json:"name"`
	Kind    string         `json:"kind"`
	State   string         `json:"state"`
	Reasons []Reason       `json:"reasons"`
	Outputs []OutputStatus `json:"outputs"`
	Would   string         `json:"would,omitempty"`
	Seconds float64        `json:"seconds,omitempty"` // how long it took last
	Unmoved []Unmoved      `json:"unmoved,omitempty"` // of `why`, where nothing is to be done: what was compared
}

// OutputStatus is one output: as recorded ("fresh"), "missing", or "changed" outside lpipe.
type OutputStatus struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	State string `json:"state"`
	ID    string `json:"id,omitempty"`
}

// SourceStatus is a path that no stage makes: fresh, stale (changed since it was recorded), missing, or new.
type SourceStatus struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	State   string   `json:"state"`
	Reasons []Reason `json:"reasons"`

	unread bool // by any stage
}

// Status says how far the targets are, and why not further. It writes nothing and asks no remote.
func (r *Runner) Status(ctx context.Context, targets []string) (StatusReport, error) {
	return r.assess(ctx, ReproOptions{Targets: targets, Only: true})
}

// DryRun says what Repro would do; stages that would do nothing are in the report, too.
func (r *Runner) DryRun(ctx context.Context, o ReproOptions) (StatusReport, error) {
	return r.assess(ctx, o)
}

// Why says what differs from the recorded run, for the stages of one target.
func (r *Runner) Why(ctx context.Context, target string) ([]StageStatus, error) {
	if _, err := r.Plan.Target(target); err != nil {
		return nil, err
	}
	report, err := r.assess(ctx, ReproOptions{Targets: []string{target}, Only: true, explain: true})
	return report.Stages, err
}

// assessment looks at stages without touching any.
type assessment struct {
	view
	opts    ReproOptions
	memory  *memory
	verdict []verdict // by node
	sources map[string]cache.Content
}

// verdict is what is known of a node: what it would hold after a repro, if that can be known without running.
type verdict struct {
	StageStatus
	out   map[string]cache.Content // nil: only running it tells
	stays bool                     // the workspace's outputs are those
}

func (r *Runner) assess(ctx context.Context, o ReproOptions) (StatusReport, error) {
	return r.assessBefore(ctx, o, nil)
}

// assessBefore is assess before a witness of all that the report hangs on, if there is one.
func (r *Runner) assessBefore(ctx context.Context, o ReproOptions, witness *cache.Witness) (StatusReport, error) {
	report := StatusReport{Schema: 1, Stages: []StageStatus{}, Sources: []SourceStatus{}}
	chosen, err := r.Plan.Select(Selection{o.Targets, o.Only, o.Downstream})
	if err != nil {
		return report, err
	}
	if r.lockErr != nil {
		return report, r.lockErr
	}
	a := &assessment{opts: o, memory: readMemory(r.path("stages.json")), verdict: make([]verdict, len(r.Plan.Nodes)), sources: map[string]cache.Content{}}
	a.view = view{Runner: r, made: a.made, witness: witness}
	needed := r.Plan.order
	if !o.Downstream { // what a stage needs is looked at as well: its state hangs on theirs
		needed, _ = r.Plan.Select(Selection{Targets: o.Targets})
	}
	release, err := r.hold(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	for _, n := range needed {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		a.verdict[n.index] = a.judge(ctx, n)
	}
	a.spareFetches(chosen)
	picked := make(map[*Node]bool, len(chosen))
	for _, n := range chosen {
		picked[n] = true
	}
	for _, n := range r.Plan.Nodes {
		if picked[n] {
			report.Stages = append(report.Stages, a.verdict[n.index].StageStatus)
		}
	}
	if report.Sources, err = a.sourceStates(ctx, picked); err != nil {
		return report, err
	}
	if r.State != nil {
		r.State.Save() // what was hashed need not be hashed again; where it cannot be saved, it is
	}
	return report, nil
}

// made answers for outputs that this look has reached.
func (a *assessment) made(n *Node, output string) (cache.Content, bool) {
	content, known := a.verdict[n.index].out[output]
	return content, known
}

// judge finds a node's state. Its needs are judged before it.
func (a *assessment) judge(ctx context.Context, n *Node) verdict {
	recorded, locked := a.lock.Stages[n.Step.Name]
	v := verdict{StageStatus: StageStatus{Name: n.Step.Name, Kind: n.Step.Kind.Name, Reasons: []Reason{}, Seconds: a.memory.seconds(n.Step.Name)}}
	v.Outputs = a.outputStates(ctx, n, recorded)
	if n.Step.Frozen {
		v.State, v.stays = Frozen, true // what stands there counts, whatever it is
		if a.opts.explain {
			v.Unmoved = a.unmoved(n, recorded.Key, ingredients{})
		}
		return v
	}
	if stop := a.upstream(n, &v); stop {
		return v
	}
	if reason, missing := a.unpinned(n); missing {
		v.State, v.Would, v.Reasons = Stale, "run?", append(v.Reasons, reason)
		return v
	}
	in, err := a.ingredients(ctx, n)
	if err != nil {
		v.State = Blocked
		v.Reasons = append(v.Reasons, Reason{What: "input", Name: blamed(err), New: err.Error()})
		return v
	}
	description := describe(n, in)
	key := cache.SumKey(description)
	var want map[string]cache.Content
	if locked && recorded.Key == key {
		want = recorded.contents()
		a.judgeOutputs(&v, want)
	} else {
		v.State = Stale
		v.Reasons = a.reasons(ctx, n, key, description, in)
		if result, err := a.Cache.Result(key); err == nil {
			want = result.Outputs
		}
	}
	if v.State != Fresh || n.Step.Always || a.opts.Force {
		a.foresee(ctx, n, &v, want)
		a.fromRemote(n, key, &v, want)
	} else {
		v.out, v.stays = want, true
		if a.opts.explain {
			v.Unmoved = a.unmoved(n, key, in)
		}
	}
	if v.State == Stale && a.memory.stages[n.Step.Name].Failed != "" {
		v.State = Failed
	}
	return v
}

// upstream looks at the stages that a node reads from: where what one of them will make cannot be known, neither can
// the node's key.
func (a *assessment) upstream(n *Node, v *verdict) (stop bool) {
	told := map[*Node]bool{}
	check := func(need *Node, whole bool) {
		other := &a.verdict[need.index]
		if other.Name == "" || other.stays || told[need] || whole && other.out != nil {
			return
		}
		told[need] = true
		v.Reasons = append(v.Reasons, Reason{What: "upstream", Name: need.Step.Name, New: other.State})
		if other.State == Blocked {
			v.State, v.Would = Blocked, ""
		} else if v.State != Blocked {
			v.State, v.Would = Stale, "run?"
		}
	}
	for i := range n.inputs {
		in := &n.inputs[i]
		for _, out := range in.makers {
			check(out.node, in.Path == out.Path && n.reads(in) == nil)
		}
	}
	for _, code := range n.code {
		for _, out := range code.makers {
			check(out.node, false)
		}
	}
	return len(told) > 0
}

// outputStates compares the outputs in the workspace with the record.
func (a *assessment) outputStates(ctx context.Context, n *Node, recorded LockStage) []OutputStatus {
	states := make([]OutputStatus, 0, len(n.Step.Out))
	for i := range n.Step.Out {
		out := &n.Step.Out[i]
		state := OutputStatus{Name: out.Name, Path: out.Path, State: Fresh}
		scan, err := a.look(ctx, a.Plan.abs(out.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			state.State = Missing
		case err != nil || scan.Content != recorded.Out[out.Name].Content:
			state.State = "changed"
		}
		if err == nil {
			state.ID = scan.ID.String()
		}
		states = append(states, state)
	}
	return states
}

// judgeOutputs gives the state of a stage whose key is as recorded.
func (a *assessment) judgeOutputs(v *verdict, want map[string]cache.Content) {
	v.State = Fresh
	for _, out := range v.Outputs {
		switch out.State {
		case Missing:
			if v.State == Fresh {
				v.State = Missing
			}
			v.Reasons = append(v.Reasons, Reason{What: "output", Name: out.Path, Old: want[out.Name].ID.String()})
		case "changed":
			v.State = Stale
			v.Reasons = append(v.Reasons, Reason{What: "output", Name: out.Path, Old: want[out.Name].ID.String(), New: "changed outside lpipe"})
		}
	}
}

// foresee says what repro would do with a stage that is not fresh.
func (a *assessment) foresee(ctx context.Context, n *Node, v *verdict, want map[string]cache.Content) {
	v.Would = "run"
	if a.opts.Force || n.Step.Always {
		if v.State == Fresh {
			v.State = Stale
			name := "always"
			if a.opts.Force {
				name = "force"
			}
			v.Reasons = append(v.Reasons, Reason{What: "setting", Name: name})
		}
		return
	}
	for i := range n.Step.Out {
		content, named := want[n.Step.Out[i].Name]
		if !named {
			return
		}
		if v.Outputs[i].ID == content.ID.String() {
			continue
		}
		if missing, err := a.Cache.Missing(ctx, content); err != nil || len(missing) > 0 {
			return
		}
	}
	v.Would, v.out = "restore", want
}

// sourcesOf are those that the picked stages read and, where everything is asked for, those that were added though no
// stage reads them.
func (a *assessment) sourcesOf(picked map[*Node]bool) []*Origin {
	var chosen []*Origin
	for _, origin := range a.Plan.Sources {
		if slices.ContainsFunc(origin.Readers, func(n *Node) bool { return picked[n] }) {
			chosen = append(chosen, origin)
		}
	}
	if len(a.opts.Targets) > 0 {
		return chosen
	}
	for _, source := range a.Pipeline.Sources {
		_, read := a.Plan.origins[source.Path]
		if _, known := a.lock.Sources[source.Path]; known && !read && !source.fetchable() {
			chosen = append(chosen, &Origin{Path: source.Path, Source: source})
		}
	}
	slices.SortStableFunc(chosen, func(a, b *Origin) int { return strings.Compare(a.Path, b.Path) })
	return chosen
}

// sourceStates compares sources with the record.
func (a *assessment) sourceStates(ctx context.Context, picked map[*Node]bool) ([]SourceStatus, error) {
	states := []SourceStatus{}
	for _, origin := range a.sourcesOf(picked) {
		state := SourceStatus{Name: origin.Name(), Path: origin.Path, State: Fresh, Reasons: []Reason{}, unread: len(origin.Readers) == 0}
		recorded, known := a.lock.Sources[origin.Path]
		if origin.Download != nil {
			if reason, missing := a.unpinnedSource(origin.Download); missing {
				state.State, state.Reasons = Missing, append(state.Reasons, reason)
				states = append(states, state)
				continue
			}
		}
		scan, err := a.scan(ctx, &nodeInput{StepInput: &StepInput{Path: origin.Path}, origin: origin})
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			state.State = Missing
			state.Reasons = append(state.Reasons, Reason{What: "input", Name: origin.Path, Old: hashOrNone(recorded.ID), New: a.whereSource(ctx, recorded)})
		case err != nil:
			state.State = Blocked
			state.Reasons = append(state.Reasons, Reason{What: "input", Name: origin.Path, New: err.Error()})
		case !known:
			state.State = "new"
		case scan.Content != recorded.Content:
			state.State = Stale
			state.Reasons = a.openFolders(ctx, []Reason{{What: "input", Name: origin.Path, Old: recorded.ID.String(), New: scan.ID.String()}},
				func(string) (cache.ID, cache.ID, *cache.Scan) { return recorded.ID, scan.ID, scan })
		}
		states = append(states, state)
	}
	return states, nil
}

// whereSource says how a source that is not here can be had, as far as that is known without asking anybody; "": not at all.
func (a *assessment) whereSource(ctx context.Context, recorded LockSource) string {
	if missing, err := a.Cache.Missing(ctx, recorded.Content); err == nil && len(missing) == 0 && !recorded.ID.IsZero() {
		return "not here; lpipe checkout puts it back"
	}
	switch {
	case recorded.Pin != "":
		return "not here; lpipe repro brings it"
	case recorded.Stored:
		return "not here; lpipe pull brings it"
	}
	return ""
}

// blamed is a short name for what an error is about.
func blamed(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Path
	}
	return ""
}

// reasons says what differs between the recorded run of a stage and the one that its key now describes.
func (v *view) reasons(ctx context.Context, n *Node, key cache.Key, description string, in ingredients) []Reason {
	recorded, locked := v.lock.Stages[n.Step.Name]
	if !locked {
		return []Reason{{What: "output", New: "no recorded run"}}
	}
	if recorded.Key == key {
		return nil
	}
	var reasons []Reason
	if made, err := v.Cache.Result(recorded.Key); err == nil && made.Description != "" {
		reasons = v.openListed(ctx, n, made, in, compareDescriptions(made.Description, description, n.Step.publicEnv))
	} else {
		reasons = compareLocked(recorded, lockStage(n, key, description, in, nil))
	}
	if v.lock == nil {
		nameReferences(n, reasons)
		return reasons
	}
	reasons = v.openFolders(ctx, reasons, func(name string) (before, after cache.ID, scan *cache.Scan) {
		i := slices.IndexFunc(in.inputs, func(one readInput) bool { return one.Name == name })
		if i < 0 || !in.inputs[i].content.Dir {
			return before, after, nil
		}
		one := in.inputs[i]
		before = recorded.In[name]
		if !one.digest.IsZero() {
			before = cache.ID{} // what is on record is a digest of some of the files
			if one.origin != nil {
				before = v.lock.Sources[one.Path].ID
			}
		}
		scan, err := v.scan(ctx, one.nodeInput)
		if err != nil || scan.Content != one.content {
			scan = nil
		}
		return before, one.content.ID, scan
	})
	nameReferences(n, reasons)
	return reasons
}

// String is the one-line form of a reason.
func (r Reason) String() string {
	text := r.What
	if r.Name != "" {
		text += " " + r.Name
	}
	switch {
	case r.Old == "" && r.New == "":
		return text
	case r.Old == "":
		return fmt.Sprintf("%s: %s", text, r.New)
	case r.New == "":
		return fmt.Sprintf("%s: gone (was %s)", text, r.Old)
	case r.Old == r.New:
		return text + ": changed"
	}
	return fmt.Sprintf("%s: %s → %s", text, r.Old, r.New)
}
