package stages

import (
	"encoding/json"
	"fmt"
	"os"

	"lpipe/engine"
	"lpipe/engine/ops"
	"lpipe/runner"
)

// What the stages that compute with a model share: train, evaluate, merge.

// openDevice opens the device that the run asks for and says which it is.
func openDevice(env *runner.Env) (ops.Device, error) {
	dev, err := engine.OpenDevice(env.Device, env.CPUs)
	if err != nil {
		return nil, err
	}
	info := dev.Info()
	if env.Report != nil {
		env.Report(runner.Event{Device: info.Name})
	}
	if env.Log != nil {
		fmt.Fprintf(env.Log, "computing on %s (%s, threads: %d)\n", info.Name, info.Detail, info.Threads)
	}
	return dev, nil
}

// reportSteps passes an engine's progress on as events.
func reportSteps(env *runner.Env, unit string) func(engine.Progress) {
	if env.Report == nil {
		return nil
	}
	return func(p engine.Progress) {
		env.Report(runner.Event{
			Done: float64(p.Step), Total: float64(p.Steps), Unit: unit, Message: p.Message, Metrics: p.Metrics,
		})
	}
}

// one is the path of an input that takes a single one, "" without it.
func one(env *runner.Env, port string) string {
	if in := env.In[port]; len(in) > 0 {
		return in[0].Path
	}
	return ""
}

// writeMetrics writes the output metrics, where it is declared.
func writeMetrics(env *runner.Env, metrics any) error {
	path := env.Out["metrics"]
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(metrics, "", "  ")
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o666); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}
