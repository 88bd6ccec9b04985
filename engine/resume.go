package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// resume puts the run where an earlier one stopped: a checkpoint of the same run in Scratch, else the one that
// the options name, else the start.
func (r *run) resume() error {
	note := func(s string) { r.logf("%s", s) }
	if r.Scratch != "" {
		c, err := latestCheckpoint(r.Scratch, note)
		if err != nil {
			return fmt.Errorf("resume: %w", err)
		}
		if c != nil {
			differs := differences(c.Settings, r.settings)
			if len(differs) == 0 {
				return r.restore(c)
			}
			r.logf("a checkpoint of step %d is of another run (%s): starting anew", c.Step, strings.Join(differs, "; "))
		}
	}
	if r.Checkpoint == "" {
		return nil
	}
	c, err := latestCheckpoint(r.Checkpoint, note)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if c == nil {
		return fmt.Errorf("checkpoint: %s holds no usable checkpoint", r.Checkpoint)
	}
	if differs := differences(c.Settings, r.settings); len(differs) > 0 {
		return fmt.Errorf("checkpoint: going on exactly needs the same run, but %s; to start from its weights with "+
			"other settings, give its adapter as from", strings.Join(differs, "; "))
	}
	if err := r.restore(c); err != nil {
		return err
	}
	r.Stopped, r.Stale, r.Mark = false, 0, nil // this run has its own patience
	return nil
}

// differences names the settings in which two runs differ.
func differences(old, now map[string]string) []string {
	var list []string
	names := slices.Collect(maps.Keys(now))
	if _, own := now["kernel"]; !own {
		names = append(names, "kernel") // of the checkpoint alone; an adapter that it began with may be left out
	}
	slices.Sort(names)
	for _, name := range names {
		if was := old[name]; was != now[name] {
			list = append(list, difference(name, was, now[name])...)
		}
	}
	return list
}

// difference says how one entry of two runs' identities differs, by the names of the settings.
func difference(name, was, is string) []string {
	switch name {
	case "model", "train", "validation", "from": // their content's fingerprints
		if was != "" && is != "" {
			return []string{fmt.Sprintf("%s is another one (fingerprint %.8s, was %.8s)", name, is, was)}
		}
	case "adapter":
		var before, after map[string]json.RawMessage
		if json.Unmarshal([]byte(was), &before) == nil && json.Unmarshal([]byte(is), &after) == nil {
			return adapterDifferences(before, after)
		}
	}
	return []string{fmt.Sprintf("%s was %s and is %s", name, orNone(was), orNone(is))}
}

// adapterDifferences are those of two adapters' settings.
func adapterDifferences(before, after map[string]json.RawMessage) (list []string) {
	for field := range after {
		was, is := string(before[field]), string(after[field])
		if was == is {
			continue
		}
		name, known := adapterSettings[field]
		if !known {
			name = field
		}
		list = append(list, fmt.Sprintf("%s was %s and is %s", name, orNone(was), is))
	}
	slices.Sort(list)
	return list
}

// adapterSettings are the settings' names of a model.LoRA's fields.
var adapterSettings = map[string]string{
	"Rank": "rank", "Alpha": "alpha", "Dropout": "dropout", "Targets": "targets", "Init": "init", "RSLoRA": "rslora",
	"DoRA": "method dora", "RankPattern": "rank_pattern", "AlphaPattern": "alpha_pattern",
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// restore takes over a checkpoint.
func (r *run) restore(c *checkpoint) error {
	var s state
	if err := json.Unmarshal(c.State, &s); err != nil {
		return fmt.Errorf("checkpoint of step %d: %w", c.Step, err)
	}
	if err := r.plan.continueFrom(s.Step, s.Place); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := r.optimizer.restore(c, s.Step-s.Skipped); err != nil {
		return err
	}
	if r.average != nil {
		if err := r.average.restore(c); err != nil {
			return err
		}
	}
	r.state = s
	if err := r.restoreBest(c); err != nil {
		return err
	}
	r.clock.savedStep = s.Step
	r.logf("going on after step %d of %d", s.Step, r.plan.steps())
	return nil
}

// restoreBest takes over the best weights so far. A run that did not select the best kept none: then the best is
// what follows.
func (r *run) restoreBest(c *checkpoint) error {
	if r.Best == nil || !r.SelectBest {
		return nil
	}
	for _, p := range r.optimizer.params {
		if !c.has("best." + p.Name) {
			r.best, r.Best = nil, nil
			r.logf("the checkpoint holds no best weights: the best is looked for from here on")
			return nil
		}
		data, err := c.tensor("best."+p.Name, p.Weights.Len)
		if err != nil {
			return err
		}
		r.best = append(r.best, data)
	}
	return nil
}
