package runner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// ExperimentInstance is one run of an experiment.
type ExperimentInstance struct {
	Name  string            // "lr=0.0001,rank=8": unique in its experiment, and a folder's name
	Point map[string]string // the variables that set it apart, in canonical JSON
	Vars  map[string]string // all that it sets
}

// Instances lists what an experiment runs: every combination of its matrix that exclude does not name, then what include
// adds, each with the values of `set`. Sets, from the command line, replace the values of a variable or add an axis.
func (b *ExperimentBlock) Instances(sets []ExperimentSet) ([]ExperimentInstance, error) {
	axes, fixed := maps.Clone(b.Matrix), maps.Clone(b.Set)
	if axes == nil {
		axes = map[string][]string{}
	}
	for _, set := range sets {
		axes[set.Name] = set.Values
		delete(fixed, set.Name)
	}
	points := []map[string]string{{}} // the plain pipeline with `set`
	if len(axes)+len(b.Include) > 0 {
		points = nil
	}
	var err error
	if len(axes) > 0 {
		if points, err = combinations(b.Name, axes); err != nil {
			return nil, err
		}
		points = slices.DeleteFunc(points, b.excludes)
	}
	if points, err = b.included(points, sets); err != nil {
		return nil, err
	}
	var instances []ExperimentInstance
	seen := map[string]bool{}
	for _, point := range points {
		named := point
		if len(named) == 0 {
			named = fixed
		}
		one := ExperimentInstance{Name: instanceLabel(named), Point: named, Vars: map[string]string{}}
		maps.Copy(one.Vars, fixed)
		maps.Copy(one.Vars, point)
		if !seen[one.Name] {
			seen[one.Name] = true
			instances = append(instances, one)
		}
	}
	if len(instances) == 0 {
		return nil, usage("experiment %q has no instance: its exclude leaves nothing of its matrix", b.Name)
	}
	return instances, nil
}

// excludes tells whether exclude names a point: all the values of one of its entries.
func (b *ExperimentBlock) excludes(point map[string]string) bool {
	return slices.ContainsFunc(b.Exclude, func(entry map[string]string) bool {
		for name, value := range entry {
			if point[name] != value {
				return false
			}
		}
		return len(entry) > 0
	})
}

// included adds the points of include. What the command line sets holds for them too, unless they say otherwise.
func (b *ExperimentBlock) included(points []map[string]string, sets []ExperimentSet) ([]map[string]string, error) {
	for _, entry := range b.Include {
		axes := map[string][]string{}
		for _, set := range sets {
			axes[set.Name] = set.Values
		}
		for name, value := range entry {
			axes[name] = []string{value}
		}
		more, err := combinations(b.Name, axes)
		if err != nil {
			return nil, err
		}
		points = append(points, more...)
	}
	return points, nil
}

// combinations makes every combination of the values; the last name varies fastest.
func combinations(experiment string, axes map[string][]string) ([]map[string]string, error) {
	points := []map[string]string{{}}
	for _, name := range sortedKeys(axes) {
		if len(points)*len(axes[name]) > maxInstances {
			return nil, usage("experiment %q has more than %d instances; take fewer values", experiment, maxInstances)
		}
		var next []map[string]string
		for _, point := range points {
			for _, value := range axes[name] {
				one := maps.Clone(point)
				one[name] = value
				next = append(next, one)
			}
		}
		points = next
	}
	return points, nil
}

// instanceLabel names a point: "lr=0.0001,rank=8". Values that a folder's name cannot hold are written with dashes, and
// told apart by a hash.
func instanceLabel(point map[string]string) string {
	if len(point) == 0 {
		return "default"
	}
	var parts []string
	for _, name := range sortedKeys(point) {
		parts = append(parts, name+"="+valueLabel(point[name]))
	}
	label := strings.Join(parts, ",")
	if len(label) > maxInstanceName {
		label = strings.ToValidUTF8(label[:maxInstanceName-9], "") + "-" + shortHash(label)
	}
	return label
}

func valueLabel(value string) string {
	text := ValueText(value)
	var b strings.Builder
	for _, c := range text {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("_.+-", c) {
			b.WriteRune(c)
		} else {
			b.WriteByte('-')
		}
	}
	label := b.String()
	if len(label) > 60 {
		label = label[:60]
	}
	if label != text {
		label += "-" + shortHash(value)
	}
	return label
}

func shortHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

// ValueText is a variable's value as people read it: a string without its quotes, the rest as JSON.
func ValueText(value string) string {
	var text string
	if json.Unmarshal([]byte(value), &text) == nil && value != "null" {
		return text
	}
	return value
}

// CheckExperimentName refuses what cannot be an experiment's name.
func CheckExperimentName(name string) error {
	if !blockName().MatchString(name) {
		return usage("%q is no name for an experiment: letters, digits, _ and -, not a digit first", name)
	}
	return nil
}
