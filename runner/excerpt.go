package runner

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Excerpt is what a repro needs of a project of which little has changed: the stages that the changes concern, all that follows
// from them, what these read, and their records. Of all else the names are known, and the lock's text.
type Excerpt struct {
	Pipeline *Pipeline
	Record   *Record
}

// ErrExcerpt is a project that has changed since its excerpt was made. The whole of it must be read.
var ErrExcerpt = errors.New("more has changed than the excerpt of the project has")

// left is what an excerpt leaves out.
type left struct {
	still map[string]bool // stages of the excerpt that stand, and are there for what they made
	rest  []lockText      // stages that are not in it, all of which stand
}

// stages are those that are not in the excerpt; none where l is nil.
func (l *left) stages() []lockText {
	if l == nil {
		return nil
	}
	return l.rest
}

// lockText is a stage's record as the lock has it.
type lockText struct{ name, text string }

// kind is that of the stage.
func (t lockText) kind() string {
	_, after, _ := strings.Cut(t.text, `"kind":"`)
	kind, _, _ := strings.Cut(after, `"`)
	return kind
}

// excerptChanges is how many changed paths are looked at one by one.
const excerptChanges = 100

// ReadExcerpt gives the excerpt of a project in which KeepFresh found nothing to do, and of which few paths differ since. Nil
// means only that all of it must be read, as unlooked does, whose answer this is for a Repro of everything.
func ReadExcerpt(c Circumstances) *Excerpt {
	workspace, err := c.workspace()
	if err != nil {
		return nil
	}
	on, answer, known := readRemembered(workspace, "fresh", freshMagic)
	if !known || !on.asked(c, workspace) {
		return nil
	}
	lock := make(chan *lockExcerpt, 1)
	go func() { lock <- readLockExcerpt(workspace, c.Decode.Profile) }()
	changed, few := on.marks.Differing(workspace, excerptChanges)
	rest := reader{b: answer}
	readReport(&rest)
	records := <-lock
	if !few || records == nil || !records.hasNames(&rest) {
		return nil
	}
	outline, ok := readOutline(rest, len(records.stages), len(records.sources))
	if !ok {
		return nil
	}
	looked, ok := records.touches(outline, workspace, c.Decode.Profile, changed)
	if !ok {
		return nil
	}
	return excerpt(c, outline, looked, records, changed)
}

// touches tells, by place in the outline, which stages need a look. It is false where a changed path is nobody's, where a stage
// that needs one takes the whole pipeline.
func (l *lockExcerpt) touches(outline []outlined, workspace, profile string, changed []string) (looked []bool, ok bool) {
	above := map[string][]int{}
	explained := make([]bool, len(changed))
	for i, at := range changed {
		explained[i] = at == LockPath(workspace, profile) || at == filepath.Join(workspace, ".lpipe", "stages.json")
		at = strings.TrimPrefix(at, workspace+string(filepath.Separator))
		for ; ; at = filepath.Dir(at) {
			above[at] = append(above[at], i)
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	looked = make([]bool, len(outline))
	for i := range outline {
		one := &outline[i]
		looked[i] = one.looks || l.differs[one.record] || textSum(l.stages[one.record].text) != one.sum ||
			slices.ContainsFunc(one.needs, func(need int) bool { return looked[need] }) ||
			slices.ContainsFunc(one.reads, func(source int) bool { return l.changed[source] })
		for _, at := range one.paths {
			for _, change := range above[at] {
				looked[i], explained[change] = true, true
			}
		}
		if looked[i] && one.whole {
			return nil, false
		}
	}
	return looked, !slices.Contains(explained, false)
}

// excerpt reads what the stages that need a look take.
func excerpt(c Circumstances, outline []outlined, looked []bool, records *lockExcerpt, changed []string) *Excerpt {
	const unread, read, runs = 0, 1, 2
	steps, many := make([]byte, len(outline)), 0
	for i := range outline {
		if !looked[i] {
			continue
		}
		steps[outline[i].step] = runs
		for _, need := range outline[i].needs {
			if at := outline[need].step; steps[at] == unread {
				steps[at] = read
			}
		}
	}
	for _, step := range steps {
		if step != unread {
			many++
		}
	}
	if many == 0 || many == len(steps) {
		return nil
	}
	p, known := readDecodedSteps(Circumstances{Decode: c.Decode, Program: c.Program}, func(i int) bool { return i < len(steps) && steps[i] != unread })
	if !known || len(p.Steps) != many || p.Tracking != nil || slices.ContainsFunc(changed, p.reads.again(p.Dir).Notes) {
		return nil
	}
	p.left = &left{still: map[string]bool{}}
	next := 0
	for _, step := range steps {
		if step == unread {
			continue
		}
		if one := p.Steps[next]; step == read { // it only stands there: what it waits for is of no interest
			p.left.still[one.Name] = true
			one.In, one.Code, one.DependsOn = nil, nil, nil
		}
		next++
	}
	var wanted, others []string
	for i := range outline {
		name := records.stages[outline[i].record].name
		if steps[outline[i].step] == unread {
			others = append(others, name)
		} else {
			wanted = append(wanted, name)
		}
	}
	record := records.record(wanted, others, p)
	if record == nil {
		return nil
	}
	return &Excerpt{p, record}
}
