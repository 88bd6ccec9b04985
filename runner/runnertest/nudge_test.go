package runnertest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"lpipe/runner"
	"lpipe/runner/runnertest"
)

type good struct {
	Rank   int                `hcl:"rank,optional" doc:"x"`
	LR     *float64           `hcl:"lr,optional" doc:"x"`
	Names  []string           `hcl:"names,optional" doc:"x"`
	Shares map[string]float64 `hcl:"shares,optional" doc:"x"`
	Stop   *stop              `hcl:"stop,optional" doc:"x"`
	Inner  stop               `hcl:"inner,optional" doc:"x"`
	Every  every              `hcl:"every,optional" key:"-" doc:"x"`
	Form   every              `hcl:"form,optional" doc:"x"`
}

type stop struct {
	Metric string `hcl:"metric,optional" doc:"x"`
	On     bool   `hcl:"on,optional" doc:"x"`
}

type every struct{ text string }

func (e *every) UnmarshalText(text []byte) error     { e.text = string(text); return nil }
func (e every) MarshalText() ([]byte, error)         { return []byte(e.text), nil }
func (*good) Run(context.Context, *runner.Env) error { return nil }

// bad has a setting whose value the key cannot see, one that is not documented, and one that is no setting.
type bad struct {
	Form   silent `hcl:"form,optional" doc:"x"`
	Silent int    `hcl:"silent,optional"`
	Lost   int
}

type silent struct{ n int }

func (s *silent) UnmarshalText(text []byte) error   { s.n = len(text); return nil }
func (s silent) MarshalText() ([]byte, error)       { return []byte("always"), nil }
func (*bad) Run(context.Context, *runner.Env) error { return nil }

// recorder keeps what a failing test says.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func TestNudgeSettings(t *testing.T) {
	runnertest.NudgeSettings(t, &runner.Kind{Name: "good", New: func() runner.Stage { return &good{Rank: 8} }})

	r := &recorder{TB: t}
	runnertest.NudgeSettings(r, &runner.Kind{Name: "bad", New: func() runner.Stage { return &bad{} }})
	said := strings.Join(r.said, "\n")
	for _, want := range []string{"bad.form", "bad.silent has no doc", "field Lost has no hcl tag"} {
		if !strings.Contains(said, want) {
			t.Errorf("nothing is said about %q:\n%s", want, said)
		}
	}
}

// hidden keeps a nested setting from the key by writing itself without it.
type hidden struct {
	Stop *half `hcl:"stop,optional" doc:"x"`
}

type half struct {
	Metric string `hcl:"metric,optional" doc:"x"`
	On     bool   `hcl:"on,optional" doc:"x" key:"-"`
}

func (half) MarshalJSON() ([]byte, error)              { return []byte("{}"), nil }
func (*hidden) Run(context.Context, *runner.Env) error { return nil }

func TestNudgeSettingsOfObjects(t *testing.T) {
	r := &recorder{TB: t}
	runnertest.NudgeSettings(r, &runner.Kind{Name: "hidden", New: func() runner.Stage { return &hidden{} }})
	if len(r.said) != 1 || !strings.Contains(r.said[0], "hidden.stop.metric") {
		t.Errorf("want one complaint, about hidden.stop.metric: %q", r.said)
	}
}
