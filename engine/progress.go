package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
	"time"

	"lpipe/engine/model"
)

// point is one line of the curve. Everything but tokens_per_s follows from the run's key; that one says how fast
// the machine was, which is why two runs of one key have equal metrics and adapters but not equal curves.
type point struct {
	Step       int                `json:"step"`
	Tokens     int64              `json:"tokens"`
	Loss       *float64           `json:"train/loss,omitempty"`
	Norm       *float64           `json:"train/grad_norm,omitempty"`
	Rate       *float64           `json:"train/lr,omitempty"`
	Validation map[string]float64 `json:"-"`
	Preference map[string]float64 `json:"-"` // of the step's pairs: rewards and log p
	Speed      float64            `json:"tokens_per_s,omitempty"`
	Memory     float64            `json:"memory_mb,omitempty"`
}

// MarshalJSON writes the numbers of validation and of preferences beside the other fields: "validation/loss",
// "validation/<name>/loss", "train/rewards/margins".
func (p point) MarshalJSON() ([]byte, error) {
	type plain point
	fields, err := json.Marshal(plain(p))
	for _, more := range []map[string]float64{p.Preference, p.Validation} {
		if err != nil || len(more) == 0 {
			continue
		}
		var text []byte
		if text, err = json.Marshal(more); err == nil {
			fields = append(append(fields[:len(fields)-1], ','), text[1:]...)
		}
	}
	return fields, err
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *point) UnmarshalJSON(b []byte) error {
	type plain point
	if err := json.Unmarshal(b, (*plain)(p)); err != nil {
		return err
	}
	var all map[string]float64
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for name, v := range all {
		switch {
		case strings.HasPrefix(name, "validation/"):
			put(&p.Validation, name, v)
		case strings.HasPrefix(name, "train/rewards/"), strings.HasPrefix(name, "train/logps/"):
			put(&p.Preference, name, v)
		}
	}
	return nil
}

func put(m *map[string]float64, name string, v float64) {
	if *m == nil {
		*m = map[string]float64{}
	}
	(*m)[name] = v
}

// curveLines is the curve as JSON lines.
func curveLines(curve []point) ([]byte, error) {
	var b bytes.Buffer
	for _, p := range curve {
		line, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("curve, step %d: %w", p.Step, err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}

// writeCurve adds to the curve's file the points that it lacks, whole lines at once. Called behind the evaluation, when nothing is
// added to the last point any more, it writes each step once; what a run that goes on has from its checkpoint comes first.
// Who cannot look at it while training runs loses nothing: finish writes all of it.
func (r *run) writeCurve() {
	if r.CurveOut == "" || r.written < 0 || r.written == len(r.Curve) {
		return
	}
	how := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if r.written == 0 {
		how |= os.O_TRUNC
	}
	lines, err := curveLines(r.Curve[r.written:])
	if err == nil {
		err = appendTo(r.CurveOut, how, lines)
	}
	if err != nil {
		r.logf("the curve cannot be followed while training runs: %v", err)
		r.written = -1
		return
	}
	r.written = len(r.Curve)
}

func appendTo(path string, how int, text []byte) error {
	f, err := os.OpenFile(path, how, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// clock keeps the times of a run that tell how fast it is; none of them reaches a result but tokens_per_s.
type clock struct {
	tokens    int64         // of the steps made by this process
	training  time.Duration // that they took
	saved     time.Time     // when the last checkpoint was written, or the run began
	savedStep int           // its step
}

// announce says what is about to happen: steps, tokens of each, memory, time.
func (r *run) announce(ctx context.Context) error {
	set, steps := r.plan.set, r.plan.steps()
	if r.Step >= steps {
		return nil
	}
	trained := int64(0)
	for _, p := range r.model.Parameters() {
		trained += int64(p.Weights.Len)
	}
	r.logf("%s of %s: %d of %d parameters are trained, rows %d with %d tokens, %d of them targets",
		r.methodText(), describe(r.model.Config), trained, r.model.Config.Parameters(), len(set.rows), set.tokens, set.trained)
	if set.unused > 0 {
		r.logf("%d rows have no token to train on and are left out", set.unused)
	}
	r.logf("%d steps of up to %d tokens in packs of up to %d, %.3g epochs, on %s", steps-r.Step, r.BatchTokens,
		r.plan.capacity, set.epochs(r.plan.place(steps)-r.plan.place(r.Step)), r.dev.Info().Name)
	if r.Schedule.Warmup >= steps {
		r.logf("the warm-up takes all %d steps, so that the rate never reaches lr: lower warmup, or make more steps", steps)
	}
	r.logf("memory: at most %s (%s); %s", sizeText(r.memory.Total), r.memory.Parts(), r.memory.Choice())
	return r.estimate(ctx)
}

// methodText names what is trained, as the settings do.
func (r *run) methodText() string {
	method := r.Method
	switch {
	case r.Pairs != "":
		method = "dpo"
	case r.LoRA.DoRA:
		method = "dora"
	}
	if r.Quantize != "none" && r.model.Config.Quantised == nil {
		method += " with 4-bit weights (" + r.Quantize + ")"
	}
	return method
}

// estimate times one pack forward and backward and says how long the run will take, where the run is so long that
// this does not matter. The gradients that it leaves are cleared by the first step.
func (r *run) estimate(ctx context.Context) error {
	const enough = 40 // packs
	packs, _ := r.plan.step(r.Step + 1)
	b := r.batch.fill(r.plan.set, packs[0])
	left := r.tokensLeft()
	if left < enough*int64(b.T) {
		return nil
	}
	var took time.Duration
	for range 2 { // the first pays for memory
		began := r.Now()
		if err := r.pass(b, packs[0], 1); err != nil {
			return err
		}
		if _, err := r.model.Settle(); err != nil {
			return err
		}
		took = max(r.Now().Sub(began), time.Microsecond)
	}
	r.logf("about %s at %s tokens/s",
		clockText(time.Duration(float64(took)*float64(left)/float64(b.T))), perSecond(int64(b.T), took))
	return ctx.Err()
}

// tokensLeft is close to the tokens of the steps not yet made: rows left, at the average length.
func (r *run) tokensLeft() int64 {
	rows := r.plan.place(r.plan.steps()) - r.plan.place(r.Step)
	return int64(float64(rows) * float64(r.plan.set.tokens) / float64(len(r.plan.set.rows)))
}

// stepDone adds a step to the curve and reports it.
func (r *run) stepDone(p point, tokens int, took time.Duration) {
	took = max(took, time.Microsecond)
	p.Speed = math.Round(float64(tokens)/took.Seconds()*10) / 10
	r.Curve = append(r.Curve, p)
	r.clock.tokens += int64(tokens)
	r.clock.training += took
	message := fmt.Sprintf("loss %.4f  lr %.3g  ", *p.Loss, *p.Rate)
	if margin, ok := p.Preference["train/rewards/margins"]; ok {
		message += fmt.Sprintf("margin %.3f  ", margin)
	}
	r.report(p, message+perSecond(r.clock.tokens, r.clock.training)+" tokens/s")
}

// report hands a point to whoever watches.
func (r *run) report(p point, message string) {
	if r.Report == nil {
		return
	}
	metrics := map[string]float64{}
	for name, v := range map[string]*float64{"train/loss": p.Loss, "train/grad_norm": p.Norm, "train/lr": p.Rate} {
		if v != nil {
			metrics[name] = *v
		}
	}
	maps.Copy(metrics, p.Validation)
	maps.Copy(metrics, p.Preference)
	if p.Speed > 0 {
		metrics["tokens_per_s"] = p.Speed
	}
	r.Report(Progress{Step: p.Step, Steps: r.plan.steps(), Message: message, Metrics: metrics})
}

func (r *run) logf(format string, args ...any) { fmt.Fprintf(r.Log, format+"\n", args...) }

func (r *run) megabytes() float64 { return math.Round(float64(r.dev.Info().Bytes)/1e5) / 10 }

// perSecond is a rate with thousands set apart: "12,345".
func perSecond(n int64, took time.Duration) string {
	s := fmt.Sprintf("%.0f", float64(n)/max(took.Seconds(), 1e-6))
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// clockText is a duration as people read it: "0:34", "1:02:03".
func clockText(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// describe says what a model is, in a few words.
func describe(c model.Config) string {
	bits := ""
	if c.Quantised != nil {
		bits = ", linears in 4 bits"
	}
	return fmt.Sprintf("a model of %d layers, width %d, vocabulary %d%s", c.Layers, c.C, c.V, bits)
}
