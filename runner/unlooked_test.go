package runner_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
	"lpipe/runner"
)

// open is a runner as the next command has it; nil where the pipeline has mistakes.
func (m *moodyProject) open() *runner.Runner {
	p, diags := runner.Decode(m.circumstances().Decode)
	if diags.HasErrors() {
		return nil
	}
	return m.openWith(p, nil)
}

// excerpt is the one that the next command takes, nil where it reads the whole project.
func (m *moodyProject) excerpt() *runner.Excerpt {
	c := m.circumstances()
	if p, diags := runner.Decode(c.Decode); !diags.HasErrors() {
		_ = p.KeepDecoded(runner.Circumstances{Decode: c.Decode, Program: c.Program})
	}
	return runner.ReadExcerpt(c)
}

// openWith is a runner for a pipeline with its record, which is read where it is nil. The runner is nil where the pipeline has
// mistakes.
func (m *moodyProject) openWith(p *runner.Pipeline, record *runner.Record) *runner.Runner {
	store, err := cache.Open(m.t.Context(), cache.Options{Dir: m.at(".lpipe/cache")})
	m.must(err)
	m.t.Cleanup(func() { store.Close() })
	state, err := cache.OpenState(m.at(".lpipe/state"))
	m.must(err)
	var environ []string
	for name, value := range m.env {
		environ = append(environ, name+"="+value)
	}
	r, diags, err := runner.New(runner.Options{Pipeline: p, Cache: store, State: state, Environ: environ, Jobs: 4, Report: m.note, Record: record})
	m.must(err)
	if diags.HasErrors() {
		return nil
	}
	return r
}

// unlooked compares what needs no look with what a look at everything finds, and returns how many stages those are.
func (m *moodyProject) unlooked(after any) int {
	m.t.Helper()
	r := m.open()
	if r == nil {
		return 0
	}
	unlooked := runner.Unlooked(r, m.circumstances())
	if part := m.excerpt(); part != nil {
		m.excerpts++
		looks := runner.ExcerptLooks(part)
		for _, n := range r.Plan.Nodes {
			if name := n.Step.Name; slices.Contains(looks, name) == slices.Contains(unlooked, name) {
				m.t.Errorf("after %v the excerpt looks at %v, and of the whole %v needs no look", after, looks, unlooked)
			}
		}
	}
	status, err := r.Status(m.t.Context(), nil)
	if err != nil && len(unlooked) > 0 {
		m.t.Fatalf("after %v: %v", after, err)
	}
	for _, s := range status.Stages {
		if s.State != runner.Fresh && slices.Contains(unlooked, s.Name) {
			m.t.Errorf("after %v stage %s is not looked at, and is %s: %v", after, s.Name, s.State, s.Reasons)
		}
	}
	return len(unlooked)
}

// TestUnlookedIsFresh changes a project at random, also again after a run that repaired it, and compares with a look at everything.
func TestUnlookedIsFresh(t *testing.T) {
	m := newMoodyProject(t)
	changes := m.changes()
	r := rand.New(rand.NewPCG(3, 4))
	names := slices.Sorted(maps.Keys(changes))
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	some := 0
	for i, name := range names {
		if i%3 == 0 {
			m.settle()
		}
		changes[name]()
		if n := m.unlooked(name); n > 0 {
			some++
		}
		m.reset()
		m.write("pipeline.hcl", moody)
		m.write("items/x.txt", "x")
		if answer, _ := m.plain(); strings.HasPrefix(answer, "failed") {
			os.Remove(m.at("pipeline.lock"))
			m.plain()
		}
	}
	if m.excerpts < 3 {
		t.Errorf("of %d changes %d left an excerpt", len(names), m.excerpts)
	}
	if some < 5 { // every third comes where nothing else has changed, and many concern all stages
		t.Errorf("of %d changes %d left a stage that needs no look", len(names), some)
	}
}

// A grown project is a graph of copies, drawn by chance.
func grown(t *testing.T, r *rand.Rand, stages int) (m *moodyProject, sources, outputs []string) {
	var hcl strings.Builder
	files := []string{}
	for i := range stages/3 + 1 {
		sources = append(sources, fmt.Sprintf("in/%d.txt", i))
		files = append(files, sources[i], fmt.Sprint("source ", i))
	}
	for i := range stages {
		fmt.Fprintf(&hcl, "stage \"shell\" \"s%d\" {\n  in = {", i)
		var read []string
		for k := range 1 + r.IntN(3) {
			if i > 0 && r.IntN(3) > 0 {
				from := r.IntN(i)
				fmt.Fprintf(&hcl, " a%d = stage.s%d.o,", k, from)
				read = append(read, outputs[from])
			} else {
				read = append(read, sources[r.IntN(len(sources))])
				fmt.Fprintf(&hcl, " a%d = %q,", k, read[k])
			}
		}
		outputs = append(outputs, fmt.Sprintf("out/%d.txt", i))
		fmt.Fprintf(&hcl, " }\n  out = { o = %q }\n  command = \"cat %s > %s\"\n}\n", outputs[i], strings.Join(read, " "), outputs[i])
	}
	m = &moodyProject{workspace: newWorkspace(t, hcl.String(), files...)}
	m.reset()
	return m, sources, outputs
}

// bring brings the project up to date, by its excerpt if there is one and it is asked for.
func (m *moodyProject) bring(after any, byExcerpt bool) {
	m.t.Helper()
	c := m.circumstances()
	runs := m.open()
	if byExcerpt {
		if part := m.excerpt(); part != nil {
			runs = m.openWith(part.Pipeline, part.Record)
		}
	}
	summary, err := runs.Repro(m.t.Context(), runner.ReproOptions{Circumstances: &c})
	if err != nil {
		m.t.Fatalf("after %v: %v", after, err)
	}
	if all := len(m.open().Plan.Nodes); summary.Ran+summary.Reused != all {
		m.t.Fatalf("after %v a run of %d stages counts %+v", after, all, summary)
	}
}

// TestUnlookedInGraphs: in graphs drawn by chance, after edits drawn by chance, what a run leaves out without a look is what a
// look finds fresh, and such a run leaves nothing to do. After the edit of one source only what hangs on it is looked at.
func TestUnlookedInGraphs(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 5))
		m, sources, outputs := grown(t, r, 14)
		settle := func() {
			t.Helper()
			m.settle()
			if n := m.unlooked("nothing"); n != len(outputs) {
				t.Fatalf("with nothing changed %d of %d stages need no look", n, len(outputs))
			}
		}
		settle()
		oldLock := m.read("pipeline.lock")
		for round := range 10 {
			var done []string
			for range 1 + r.IntN(2) {
				source, output := sources[r.IntN(len(sources))], outputs[r.IntN(len(outputs))]
				edits := map[string]func(){
					"new content of " + source:     func() { m.write(source, fmt.Sprint(seed, round)) },
					"the same again for " + source: func() { m.write(source, m.read(source)) },
					"an edit of " + output:         func() { os.Remove(m.at(output)); m.write(output, "edited") },
					"no " + output:                 func() { os.Remove(m.at(output)) },
					"the lock of before":           func() { m.write("pipeline.lock", oldLock) },
					"no durations":                 func() { os.Remove(m.at(".lpipe/stages.json")) },
					"no lock":                      func() { os.Remove(m.at("pipeline.lock")) },
					"another folder " + output:     func() { m.must(os.Chtimes(m.at("out"), time.Now(), time.Now())) },
				}
				name := slices.Sorted(maps.Keys(edits))[r.IntN(len(edits))]
				edits[name]()
				done = append(done, name)
			}
			m.unlooked(done)
			m.bring(done, r.IntN(3) > 0)
			if status, err := m.open().Status(t.Context(), nil); err != nil || status.Work() {
				t.Fatalf("after %v a run left something to do: %v", done, err)
			}
			if r.IntN(3) == 0 {
				settle()
			}
		}
		if m.excerpts < 3 {
			t.Errorf("%d of 10 rounds had an excerpt", m.excerpts)
		}
	}
}

// TestExcerptThatIsOld: where the lock changed after its excerpt was made, or another lpipe worked meanwhile, the whole must be read.
func TestExcerptThatIsOld(t *testing.T) {
	m, sources, _ := grown(t, rand.New(rand.NewPCG(1, 1)), 14)
	m.settle()
	m.write(sources[len(sources)-1], "new")
	part := m.excerpt()
	if part == nil {
		t.Fatal("no excerpt after one change")
	}
	m.bring("new content", false)
	c := m.circumstances()
	if _, err := m.openWith(part.Pipeline, part.Record).Repro(t.Context(), runner.ReproOptions{Circumstances: &c}); !errors.Is(err, runner.ErrExcerpt) {
		t.Errorf("an excerpt of before the last run was used: %v", err)
	}
	if err := m.openWith(part.Pipeline, part.Record).KeepFresh(t.Context(), c); err == nil {
		t.Error("an excerpt says that all is fresh")
	}
}
