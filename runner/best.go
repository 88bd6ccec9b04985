package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lpipe/cache"
)

// best brings sources that are an output of an experiment's best instance. It is a Downloader that asks nobody: records and
// locks of the project say which content that is, and cache or remote give it.
type best struct{ *Runner }

var _ Downloader = best{}

// downloader is who brings a source; nil: nobody.
func (r *Runner) downloader(s *Source) Downloader {
	if s.Download == "experiment" {
		return best{r}
	}
	return r.Downloader
}

// Resolve chooses anew: the pin names the instance, and begins the content's hash.
func (b best) Resolve(_ context.Context, s *Source) (string, error) {
	pin, _, err := b.choose(s, "")
	return pin, err
}

// Download puts the output of the best instance, or of the one that is pinned, in place.
func (b best) Download(ctx context.Context, s *Source, d Download) (string, error) {
	pin, content, err := b.choose(s, d.Pin)
	if err != nil {
		return "", err
	}
	missing, err := b.Cache.Missing(ctx, content)
	if errors.Is(err, cache.ErrNotFound) || err == nil && len(missing) > 0 {
		if err = cache.ErrNotFound; b.Fetcher != nil {
			err = b.Fetcher.Contents(ctx, []cache.Content{content})
		}
	}
	if err == nil {
		_, err = b.Cache.Place(ctx, b.State, content, d.To)
	}
	if errors.Is(err, cache.ErrNotFound) {
		name, _, _ := strings.Cut(pin, "@")
		return "", fmt.Errorf("%s of %s is neither in the cache nor at the remote; lpipe exp run %s makes it again: %w", s.Output, name, name, err)
	}
	return pin, err
}

// choose finds the content of the output: of the instance that a pin names, or with "" of the best one.
func (b best) choose(s *Source, pin string) (string, cache.Content, error) {
	project := b.origin()
	if pin != "" {
		name := pin[:max(0, strings.LastIndexByte(pin, '@'))]
		if e, records, err := FindExperiments(project, name); err == nil && len(records) == 1 {
			if content, err := outputOf(project, e, records[0], s.Output); err == nil && pinOf(name, content) == pin {
				return pin, content, nil
			}
		}
		return "", cache.Content{}, fmt.Errorf("what is pinned, %s, is neither in the cache nor at the remote, and experiment %s does not have it here: lpipe push sends it from where it is, lpipe update %s chooses anew: %w",
			pin, s.Experiment, s.Name, cache.ErrNotFound)
	}
	e, records, err := b.experiment(s.Experiment)
	if err != nil {
		return "", cache.Content{}, err
	}
	chosen, err := b.bestOf(e, records)
	if err != nil {
		return "", cache.Content{}, err
	}
	content, err := outputOf(project, e, chosen, s.Output)
	return pinOf(chosen.FullName(), content), content, err
}

// pinOf names an instance and its content.
func pinOf(name string, content cache.Content) string { return name + "@" + content.ID.String()[:12] }

// experiment reads an experiment's records. Its metric and goal are those of the block, where there is one.
func (b best) experiment(name string) (*Experiment, []*ExperimentRecord, error) {
	i := slices.IndexFunc(b.Pipeline.Experiments, func(block *ExperimentBlock) bool { return block.Name == name })
	if i >= 0 && !HasExperiment(b.origin(), name) {
		return nil, nil, usage("experiment %s was not run here yet; lpipe exp run %s does", name, name)
	}
	e, records, err := FindExperiments(b.origin(), name)
	if err == nil && i >= 0 {
		e.Metric, e.Goal = b.Pipeline.Experiments[i].Metric, b.Pipeline.Experiments[i].Goal
	}
	return e, records, err
}

// bestOf is the best of an experiment's finished instances.
func (b best) bestOf(e *Experiment, records []*ExperimentRecord) (*ExperimentRecord, error) {
	states := map[string]int{}
	for _, r := range records {
		states[r.State]++
	}
	done := states[ExperimentDone]
	if len(records) == 1 && done == 1 {
		return records[0], nil
	}
	if done == 0 {
		return nil, usage("no instance of experiment %s is done; lpipe exp run %s goes on", e.Name, e.Name)
	}
	if e.Metric == "" {
		return nil, usage(`experiment %s has %s and no metric to choose by; add one to its block: metric = "STAGE.NAME"`, e.Name, plural(len(records), "instance"))
	}
	chosen := Best(records, e.Metric, e.Goal)
	if chosen == nil {
		return nil, usage("none of the %s of %s that are done has the metric %s; lpipe exp show %s shows what there is", plural(done, "instance"), e.Name, e.Metric, e.Name)
	}
	if left := states[ExperimentUnfinished]; left > 0 {
		b.report(RunEvent{Event: "note", Message: fmt.Sprintf("%s of experiment %s did not finish yet: the best of the others is taken, %s", plural(left, "instance"), e.Name, chosen.Instance)})
	}
	return chosen, nil
}

// outputOf is the recorded content of an instance's output: "lora.adapter", or "lora" if that has one alone.
func outputOf(project string, e *Experiment, record *ExperimentRecord, output string) (cache.Content, error) {
	lock, err := ReadLock(LockPath(record.Dir(project), e.Profile))
	if err != nil {
		return cache.Content{}, err
	}
	stage, name := output, ""
	recorded, known := lock.Stages[stage]
	if !known {
		at := max(0, strings.LastIndexByte(output, '.'))
		stage, name = output[:at], strings.TrimPrefix(output[at:], ".")
		recorded, known = lock.Stages[stage]
	}
	all := sortedKeys(recorded.Out)
	switch {
	case !known:
		return cache.Content{}, usage("%s has no stage %q. %s", record.FullName(), strings.TrimSuffix(output, "."+name), suggest(stage, sortedKeys(lock.Stages), "stages"))
	case name == "" && len(all) == 1:
		name = all[0]
	case name == "":
		return cache.Content{}, usage("stage %s has several outputs (%s); say which: output = %q", stage, strings.Join(all, ", "), stage+"."+all[0])
	case recorded.Out[name].ID.IsZero():
		return cache.Content{}, usage("stage %s of %s has no output %q. %s", stage, record.FullName(), name, suggest(name, all, "outputs"))
	}
	return recorded.Out[name].Content, nil
}

// notItsOwnBest refuses to run an experiment that needs its own best instance.
func (r *Runner) notItsOwnBest(experiment string, targets []string) error {
	nodes, err := r.Plan.Select(Selection{Targets: targets})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for i := range n.inputs {
			origin := n.inputs[i].origin
			if origin == nil || origin.Download == nil || origin.Download.Experiment != experiment {
				continue
			}
			return usage("experiment %s would need its own best instance: stage %s reads source.%s; name in its targets what comes before that: targets = [...]",
				experiment, n.Step.Name, origin.Download.Name)
		}
	}
	return nil
}
