package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// halvingBlock is a halving block as it is written.
type halvingBlock struct {
	Metric string   `hcl:"metric,optional"`
	Goal   string   `hcl:"goal,optional"`
	Rungs  rungList `hcl:"rungs"`
	Keep   float64  `hcl:"keep,optional"`
}

// rungList is a list of rungs, or how many there are to be.
type rungList struct {
	at    []float64
	count int
}

// UnmarshalJSON reads a list of numbers, or a number.
func (l *rungList) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &l.at) == nil && len(l.at) > 0 {
		return nil
	}
	const most = 20
	if json.Unmarshal(text, &l.count) == nil && l.count >= 1 && l.count <= most {
		return nil
	}
	return errors.New("must be a list like [0.1, 0.3] (shares of all steps) or [100, 300] (steps), or how many rungs there are, from 1 to " + strconv.Itoa(most))
}

// halving makes of a block what it stands for. What it leaves out it takes from the experiment. An error begins with the
// setting's name.
func (b halvingBlock) halving(metric, goal string) (*Halving, error) {
	h := &Halving{Metric: b.Metric, Goal: b.Goal, Rungs: b.Rungs.at, Keep: b.Keep}
	if h.Metric == "" {
		h.Metric = metric
	}
	if h.Goal == "" && h.Metric == metric {
		h.Goal = goal
	}
	if h.Goal == "" {
		h.Goal = usualGoal(h.Metric)
	}
	if h.Keep == 0 {
		h.Keep = 0.5
	}
	for i := range b.Rungs.count {
		h.Rungs = append(h.Rungs, math.Pow(h.Keep, float64(b.Rungs.count-i)))
	}
	stage, number := h.split()
	shares := h.Rungs[0] < 1
	switch {
	case h.Metric == "":
		return nil, errors.New(`metric: say what is measured: metric = "STAGE.NAME", "lora.validation/loss" for example`)
	case stage == "" || number == "":
		return nil, fmt.Errorf(`metric: %q names no stage; write it as "STAGE.NAME"`, h.Metric)
	case h.Goal != "max" && h.Goal != "min":
		return nil, fmt.Errorf("goal: %q is neither max nor min", h.Goal)
	case !(h.Keep > 0 && h.Keep < 1):
		return nil, fmt.Errorf("keep: must be above 0 and below 1, not %v: the share of instances that goes on from a rung", h.Keep)
	case !(h.Rungs[0] > 0) || !slices.IsSorted(h.Rungs) || len(slices.Compact(slices.Clone(h.Rungs))) < len(h.Rungs):
		return nil, errors.New("rungs: must rise, each above the one before, and the first above 0")
	case shares && h.Rungs[len(h.Rungs)-1] >= 1:
		return nil, errors.New("rungs: must all be shares of the steps (below 1), or all numbers of steps (from 1)")
	}
	return h, nil
}

// usualGoal is what one wants of a metric that nobody says it of: little of a loss, much of anything else.
func usualGoal(metric string) string {
	if last := metric[strings.LastIndexAny(metric, "./")+1:]; strings.HasSuffix(last, "loss") || last == "perplexity" {
		return "min"
	}
	return "max"
}

// decodeHalving reads an experiment's halving, written as a block or as an object.
func (d *decoder) decodeHalving(block *hclsyntax.Block, inner []*hclsyntax.Block, object *halvingBlock, exp *ExperimentBlock) *Halving {
	failures := len(d.diags)
	at := func(string) hcl.Range { return block.DefRange() }
	switch attr := block.Body.Attributes["halving"]; {
	case len(inner) > 1 || len(inner) == 1 && attr != nil:
		d.failAt(inner[len(inner)-1].DefRange(), "halving stands twice", "An experiment has one way to stop its instances. Keep one of them.")
		return nil
	case len(inner) == 1:
		object = &halvingBlock{}
		d.fillBlock(inner[0], "halving", object)
		at = func(name string) hcl.Range {
			if attr := inner[0].Body.Attributes[name]; attr != nil {
				return attr.Expr.Range()
			}
			return inner[0].DefRange()
		}
	case attr != nil:
		at = func(name string) hcl.Range { return rangeIn(attr.Expr, name) }
	}
	if object == nil || len(d.diags) > failures {
		return nil
	}
	h, err := object.halving(exp.Metric, exp.Goal)
	if err != nil {
		name, text, _ := strings.Cut(err.Error(), ": ")
		d.failAt(at(name), fmt.Sprintf("halving.%s cannot be used as it stands", name), capital(text))
		return nil
	}
	d.checkMeasured(at("metric"), h)
	return h
}

// checkMeasured wants a stage that tells its metric while it runs.
func (d *decoder) checkMeasured(at hcl.Range, h *Halving) {
	name, _ := h.split()
	block, _, _ := strings.Cut(name, "@")
	declared := d.stages[block]
	if declared == nil {
		d.failAt(at, fmt.Sprintf("There is no stage %q", block), suggest(block, sortedKeys(d.stages), "stages"))
		return
	}
	kind := declared.kind
	switch {
	case kind == nil:
	case !kind.InPlace && !slices.ContainsFunc(kind.Out, func(p Port) bool { return p.Plots }):
		d.failAt(at, fmt.Sprintf("Stage %q tells nothing while it runs", block), fmt.Sprintf(
			"Its kind, %s, has no curves. Name a number of a train stage (%q), or of a shell stage that names plots.", kind.Name, "lora.validation/loss"))
	case kind.InPlace && declared.attrs["plots"] == nil:
		d.failAt(at, fmt.Sprintf("Stage %q tells nothing while it runs", block),
			`Let its command write a line of JSON a step into an output, and name that: plots = ["curve"].`)
	case kind.InPlace && h.Rungs[0] < 1:
		d.failAt(at, fmt.Sprintf("How many steps stage %q has is not known", block), "So its rungs cannot be shares. Give them as numbers of steps: rungs = [100, 300].")
	}
}
