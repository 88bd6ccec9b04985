package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MetricOutputs are the outputs of a step that hold metrics: those its block names, else those its kind marks.
func (s *Step) MetricOutputs() []StepOutput {
	var outs []StepOutput
	for _, out := range s.Out {
		marked := slices.Contains(s.Metrics, out.Name)
		for _, port := range s.Kind.Out {
			marked = marked || port.Name == out.Name && port.Metrics
		}
		if marked {
			outs = append(outs, out)
		}
	}
	return outs
}

// PlotOutputs are the outputs of a step that hold curves: those its block names, else those its kind marks.
func (s *Step) PlotOutputs() []StepOutput {
	var outs []StepOutput
	for _, out := range s.Out {
		if slices.Contains(s.Plots, out.Name) {
			outs = append(outs, out)
		}
	}
	return outs
}

// Metric is one number of a metrics file; nil is none that is finite.
type Metric struct {
	Name  string // a dotted path
	Value *float64
}

// ReadMetrics flattens a JSON file, or the last line of a JSONL file, into its numbers, sorted by name.
func ReadMetrics(path string) ([]Metric, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseMetrics(data, filepath.Ext(path))
}

// ParseMetrics is ReadMetrics of a file's bytes; the extension tells which of the two formats they have.
func ParseMetrics(data []byte, extension string) ([]Metric, error) {
	if extension == ".jsonl" {
		lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
		data = lines[len(lines)-1]
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	var numbers []Metric
	flattenNumbers("", root, &numbers)
	slices.SortFunc(numbers, func(a, b Metric) int { return strings.Compare(a.Name, b.Name) })
	return numbers, nil
}

func flattenNumbers(prefix string, v any, into *[]Metric) {
	join := func(name string) string {
		if prefix == "" {
			return name
		}
		return prefix + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			flattenNumbers(join(name), inner, into)
		}
	case []any:
		for i, inner := range v {
			flattenNumbers(join(strconv.Itoa(i)), inner, into)
		}
	case float64:
		*into = append(*into, Metric{prefix, &v})
	case nil:
		*into = append(*into, Metric{prefix, nil})
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			*into = append(*into, Metric{prefix, nil}) // "NaN", as JSON writers without null have it
		}
	}
}
