package crash

import (
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// failure is what a disk or the system may answer.
type failure struct {
	name  string
	errno syscall.Errno
	on    effect // calls that it may end
	ever  bool   // and from then on, for every process
	reads bool   // opening for reading too
}

// errnos are injected at the n-th call for which they are possible.
var errnos = []failure{
	{"ENOSPC", syscall.ENOSPC, grows, false, false},
	{"ENOSPC from then on", syscall.ENOSPC, grows, true, false},
	{"EIO", syscall.EIO, writes | syncs | syncsAll | opens, false, true},
	{"EMFILE", syscall.EMFILE, opens, false, true},
	{"EXDEV", syscall.EXDEV, names, false, false},
	{"EROFS", syscall.EROFS, writes, false, false},
}

// trial is one disturbance of one scenario.
type trial struct {
	scenario *scenario
	what     string // "kill", "power", or an errno's name
	n        int
}

func (x trial) String() string {
	return fmt.Sprintf("%s, %s at change %d", x.scenario.name, x.what, x.n)
}

// matrix goes through all trials with some workers.
type matrix struct {
	t       *testing.T
	program string
	stride  int // 1: every n, for failures every second
	seed    uint64
	trials  atomic.Int64 // done
	states  atomic.Int64 // looked at

	mu       sync.Mutex
	failures int
	messages map[string]int // failures by scenario and way, to print only some of each
}

// TestMatrix disturbs every command at its n-th change of the disk, and looks at what is left. LPIPE_CRASH=full takes
// every n; without it a sample is taken.
func TestMatrix(t *testing.T) {
	m := &matrix{t: t, program: buildProgram(t), stride: 97, seed: 1, messages: map[string]int{}}
	if os.Getenv("LPIPE_CRASH") == "full" {
		m.stride = 1
	}
	if s := os.Getenv("LPIPE_CRASH_STRIDE"); s != "" {
		fmt.Sscan(s, &m.stride)
	}
	if s := os.Getenv("LPIPE_CRASH_SEED"); s != "" {
		fmt.Sscan(s, &m.seed)
	}
	began := time.Now()
	jobs := make(chan func(p *place))
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			p := newPlace(t, m.program)
			for job := range jobs {
				job(p)
			}
		})
	}
	only, err := regexp.Compile(os.Getenv("LPIPE_CRASH_ONLY"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		for _, what := range ways() {
			if only.MatchString(s.name + ", " + what) {
				jobs <- func(p *place) { m.row(p, s, what) }
			}
		}
	}
	close(jobs)
	workers.Wait()
	t.Logf("seed %d, every %d. change, for failures every second of these. operations tried: %d, states examined: %d, failures: %d, %.0f s",
		m.seed, m.stride, m.trials.Load(), m.states.Load(), m.failures, time.Since(began).Seconds())
}

func ways() []string {
	list := []string{"power", "kill"}
	for _, e := range errnos {
		list = append(list, e.name)
	}
	return list
}

// row disturbs one scenario in one way, at all n.
func (m *matrix) row(p *place, s *scenario, what string) {
	start, err := s.prepare(p)
	if err != nil {
		m.fail(trial{s, what, 0}, fmt.Errorf("undisturbed: %w", err))
		return
	}
	stride := m.stride
	if what != "power" && what != "kill" {
		stride *= 2 // where one failure is not injected, others are
	}
	h := fnv.New32()
	fmt.Fprint(h, s.name, what, m.seed)
	for n := 1 + int(h.Sum32()%uint32(stride)); ; n += stride {
		x := trial{s, what, n}
		reached, err := m.try(p, x, start)
		if err != nil {
			m.fail(x, err)
		}
		if !reached {
			return
		}
		m.trials.Add(1)
	}
}

func (m *matrix) fail(x trial, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures++
	kind := x.scenario.name + x.what
	if m.messages[kind]++; m.messages[kind] <= 3 {
		m.t.Errorf("%s: %v", x, err)
	}
}

// try disturbs once and looks at every state that may be left. reached is false where the command made fewer changes.
func (m *matrix) try(p *place, x trial, start prepared) (reached bool, err error) {
	if err := p.reset(start.before); err != nil {
		return true, err
	}
	disk, err := NewDisk(p.root)
	if err != nil {
		return true, err
	}
	defer disk.Close()
	ended, err := m.disturb(p, x, disk)
	if err != nil {
		return true, err
	}
	ways := []Survival{All}
	if x.what == "power" {
		ways = []Survival{Nothing, Names, Half}
	}
	states := map[Survival]*Node{}
	for _, s := range ways {
		if states[s], err = disk.After(s, m.seed+uint64(x.n)); err != nil {
			return true, err
		}
	}
	last := ended.Calls[max(0, len(ended.Calls)-8):]
	for _, s := range ways {
		if err = m.examine(p, x, ended, s, states[s], start.want); err != nil {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("%w\n  the last changes:\n    %s\n  it had printed: exit %d\n%s%s", err, strings.Join(last, "\n    "), ended.Code, ended.Stdout, ended.Stderr)
	}
	return ended.Disturbed, err
}

// disturb runs the command with a disturbance at the n-th change.
func (m *matrix) disturb(p *place, x trial, disk *Disk) (Ended, error) {
	w := Watch{Root: p.root, Disk: disk}
	at := slices.IndexFunc(errnos, func(e failure) bool { return e.name == x.what })
	if at >= 0 {
		e, count := errnos[at], 0
		w.Reads = e.reads
		w.Act = func(_ int, c *Call) Verdict {
			if c.effect&e.on == 0 || !c.Main && !(e.ever && count >= x.n) {
				return Verdict{}
			}
			if count++; count == x.n || e.ever && count > x.n {
				return Verdict{Errno: e.errno}
			}
			return Verdict{}
		}
	} else {
		w.Act = func(n int, c *Call) Verdict {
			return Verdict{Kill: n == x.n && x.what == "kill", Cut: n == x.n && x.what == "power"}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Run(ctx, p.command(x.scenario.folder(), x.scenario.args...), w)
}

// examine looks at one state: whether what was promised holds, and whether work goes on to the same end.
func (m *matrix) examine(p *place, x trial, ended Ended, survival Survival, state *Node, want map[string]string) error {
	m.states.Add(1)
	if err := p.reset(state); err != nil {
		return err
	}
	err := x.scenario.examine(p, ended, want, survival != All)
	if err == nil && ended.Code > 0 && ended.Disturbed {
		err = x.explained(ended)
	}
	if err != nil {
		return fmt.Errorf("[%s survived] %w", survival, err)
	}
	return nil
}

// explained tells whether a failure was told as one should be: with the cause, and beside it what it is the cause of.
func (x trial) explained(ended Ended) error {
	unread := ended.Code == 2 && strings.Contains(ended.Stderr, "cannot be read") // a pipeline file
	if ended.Code != 1 && ended.Code != 6 && !unread {
		return fmt.Errorf("exit code %d", ended.Code)
	}
	at := slices.IndexFunc(errnos, func(e failure) bool { return e.name == x.what })
	if at < 0 {
		return nil
	}
	for line := range strings.Lines(ended.Stderr) {
		if strings.Contains(strings.ToLower(line), errnos[at].errno.Error()) && (unread || strings.Contains(line, "/")) {
			return nil
		}
	}
	return fmt.Errorf("no line names the cause, %q, and a path", errnos[at].errno)
}

// inputs are a person's files in the project: they never change, whatever happens. Without want they only must be there.
func (p *place) inputs(folder string, want map[string]string) error {
	for _, path := range []string{"pipeline.hcl", "rows.jsonl", "data/one", "data/sub/two"} {
		rel := filepath.Join(folder, path)
		text, err := os.ReadFile(filepath.Join(p.root, rel))
		if err != nil {
			return fmt.Errorf("a person's file is gone: %w", err)
		}
		if want != nil && !strings.HasSuffix(want[rel], " "+string(text)) {
			return fmt.Errorf("a person's file changed: %s is %.100q", rel, text)
		}
	}
	return nil
}
