package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"regexp"
	"slices"
	"sort"
	"strings"

	"lpipe/engine/ops"
)

// AllLinear as the only target adapts every linear of every layer, not the output head.
const AllLinear = "all-linear"

// LoRA says which linears get a low-rank adapter, and of what kind (Hu et al. 2021, arXiv 2106.09685):
//
//	y = W x + b + scale · B (A dropout(x))
//
// The names are PEFT's LoraConfig.
type LoRA struct {
	Rank    int
	Alpha   float64
	Dropout float64
	// Targets are AllLinear, or names or regular expressions that match the end of a module's name, whole
	// parts of it: "q_proj", "mlp.down_proj", "layers.[0-3].self_attn.v_proj".
	Targets []string
	// RSLoRA scales by Alpha/√rank instead of Alpha/rank (Kalajdzievski 2023, arXiv 2312.03732).
	RSLoRA bool
	// DoRA trains the length of each output row by itself (Liu et al. 2024, arXiv 2402.09353), without dropout:
	//
	//	y = m/‖W + scale·B A‖ ⊙ (W x + scale · B (A x)) + b
	//
	// m begins as the length of W's rows. As in PEFT, the norm is a constant in the backward pass.
	DoRA bool
	// RankPattern and AlphaPattern replace Rank and Alpha for the modules that they match, as Targets do. The
	// first match counts.
	RankPattern, AlphaPattern Patterns
	// Init draws A: "kaiming" (the default) uniformly from ±1/√in, "gaussian" normally with deviation
	// 1/rank. B is zero, so that training begins at the base model. "pissa": see pissa.go.
	Init string
}

// Pattern gives the modules that Match names, as in LoRA.Targets, a number of their own.
type Pattern struct {
	Match string
	Value float64
}

// Patterns are tried in order. In JSON they are an object, whose order is kept, since PEFT follows it.
type Patterns []Pattern

// NewPatterns orders patterns from longest to shortest, so that a more specific one comes first.
func NewPatterns(m map[string]float64) Patterns {
	var p Patterns
	for k, v := range m {
		p = append(p, Pattern{k, v})
	}
	sort.Slice(p, func(i, j int) bool {
		if len(p[i].Match) != len(p[j].Match) {
			return len(p[i].Match) > len(p[j].Match)
		}
		return p[i].Match < p[j].Match
	})
	return p
}

// MarshalJSON writes an object in the patterns' order.
func (p Patterns) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, one := range p {
		key, err := json.Marshal(one.Match)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(one.Value)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, key...), ':'), value...)
	}
	return append(b, '}'), nil
}

// UnmarshalJSON reads an object or null.
func (p *Patterns) UnmarshalJSON(text []byte) error {
	*p = nil
	dec := json.NewDecoder(bytes.NewReader(text))
	t, err := dec.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('{') {
		return errors.New("patterns are an object of name and number")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		one := Pattern{Match: t.(string)} // inside an object the decoder returns only strings as keys
		if err := dec.Decode(&one.Value); err != nil {
			return fmt.Errorf("pattern %q: %w", one.Match, err)
		}
		*p = append(*p, one)
	}
	return nil
}

// matches says whether pattern matches the end of name, from a dot or the beginning on, as PEFT does.
func matches(pattern, name string) (bool, error) {
	if name == pattern || strings.HasSuffix(name, "."+pattern) {
		return true, nil
	}
	re, err := regexp.Compile(`^(.*\.)?(` + pattern + `)$`)
	if err != nil {
		return false, fmt.Errorf("%q is not a module name, nor a regular expression: %w", pattern, err)
	}
	return re.MatchString(name), nil
}

// first is the value of the first pattern that matches name, or otherwise.
func (p Patterns) first(name string, otherwise float64) float64 {
	for _, one := range p {
		if ok, _ := matches(one.Match, name); ok { // check has compiled all of them
			return one.Value
		}
	}
	return otherwise
}

// rank and scale of the adapter on the module of that name.
func (l LoRA) rank(name string) int { return int(l.RankPattern.first(name, float64(l.Rank))) }

func (l LoRA) scale(name string, rank int) float64 {
	alpha := l.AlphaPattern.first(name, l.Alpha)
	if l.RSLoRA {
		return alpha / math.Sqrt(float64(rank))
	}
	return alpha / float64(rank)
}

// Modules are the full names of the linears that l adapts in a model of shape c, in the model's order. The
// error lists every setting that is out of range or matches nothing; each message begins with the setting.
func (l LoRA) Modules(c Config) ([]string, error) {
	wrong := l.ranges()
	all := c.allModules()
	chosen := map[string]bool{}
	for _, target := range l.Targets {
		found := false
		for _, m := range all {
			ok, err := matches(target, m.fullName)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("targets: %w", err))
				found = true
				break
			}
			if ok || target == AllLinear {
				found, chosen[m.fullName] = true, true
			}
		}
		if !found {
			wrong = append(wrong, fmt.Errorf("targets: %q matches no linear of this model; there are %s, and %q for all of them", target, moduleNames(c), AllLinear))
		}
	}
	if len(l.Targets) == 0 {
		wrong = append(wrong, fmt.Errorf("targets: none; write %q for every linear", AllLinear))
	}
	for setting, patterns := range map[string]Patterns{"rank_pattern": l.RankPattern, "alpha_pattern": l.AlphaPattern} {
		wrong = append(wrong, patterns.check(setting, chosen)...)
	}
	var names []string
	for _, m := range all {
		if chosen[m.fullName] {
			names = append(names, m.fullName)
		}
	}
	if len(wrong) == 0 {
		wrong = l.tooLarge(names, c.C)
	}
	return names, errors.Join(wrong...)
}

// ranks are those of the linears that l adapts, by their full names.
func (l LoRA) ranks(c Config) (map[string]int, error) {
	names, err := l.Modules(c)
	if err != nil {
		return nil, err
	}
	rank := map[string]int{}
	for _, name := range names {
		rank[name] = l.rank(name)
	}
	return rank, nil
}

// tooLarge lists, once a rank, those above the model's width C. Every linear has C as one of its sides, so that none has
// a rank above C. A rank above the other side, as 256 has on narrow keys and values, is common with AllLinear: B A can
// then be any matrix.
func (l LoRA) tooLarge(names []string, C int) []error {
	var wrong []error
	said := map[int]bool{}
	for _, name := range names {
		if rank := l.rank(name); rank > C && !said[rank] {
			said[rank] = true
			wrong = append(wrong, fmt.Errorf("rank: %d (of %s) is larger than the model's hidden size, %d: no weight matrix "+
				"has a higher rank than that; lower it, or set rank_pattern", rank, name, C))
		}
	}
	return wrong
}

func (l LoRA) ranges() []error {
	var wrong []error
	if l.Rank < 1 {
		wrong = append(wrong, fmt.Errorf("rank: must be at least 1, not %d", l.Rank))
	}
	if !(l.Alpha > 0) || math.IsInf(l.Alpha, 1) {
		wrong = append(wrong, fmt.Errorf("alpha: must be above 0, not %g", l.Alpha))
	}
	if !(l.Dropout >= 0 && l.Dropout < 1) {
		wrong = append(wrong, fmt.Errorf("dropout: must be at least 0 and below 1, not %g", l.Dropout))
	}
	for _, p := range l.RankPattern {
		if p.Value < 1 || p.Value != math.Trunc(p.Value) || p.Value > math.MaxInt32 {
			wrong = append(wrong, fmt.Errorf("rank_pattern: the rank of %q must be a whole number from 1 on, not %g", p.Match, p.Value))
		}
	}
	for _, p := range l.AlphaPattern {
		if !(p.Value > 0) || math.IsInf(p.Value, 1) {
			wrong = append(wrong, fmt.Errorf("alpha_pattern: the alpha of %q must be above 0, not %g", p.Match, p.Value))
		}
	}
	switch l.Init {
	case "", "kaiming", "gaussian", "pissa":
	default:
		wrong = append(wrong, fmt.Errorf("init: %q is not known; there are kaiming, gaussian and pissa", l.Init))
	}
	return wrong
}

// whichAre names modules without their layers, each once, and counts those.
func whichAre(chosen map[string]bool) string {
	kinds, layers := map[string]bool{}, map[string]bool{}
	for name := range chosen {
		kinds[name[strings.LastIndexByte(name, '.')+1:]] = true
		layers[strings.Split(name, ".")[2]] = true // model.layers.N.…
	}
	if len(chosen) == 0 {
		return "" // targets has an error of its own
	}
	return fmt.Sprintf(", which are %s of %d layers", strings.Join(slices.Sorted(maps.Keys(kinds)), ", "), len(layers))
}

// check lists the patterns that are no expressions or match none of the chosen modules.
func (p Patterns) check(setting string, chosen map[string]bool) []error {
	var wrong []error
	for _, one := range p {
		found := false
		for name := range chosen {
			ok, err := matches(one.Match, name)
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", setting, err))
			}
			if found = ok || err != nil; found {
				break
			}
		}
		if !found {
			wrong = append(wrong, fmt.Errorf("%s: %q matches none of the adapted modules%s", setting, one.Match, whichAre(chosen)))
		}
	}
	return wrong
}

func moduleNames(c Config) string {
	var names []string
	for _, m := range c.modules(0) {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

// adapter is one module's pair of matrices.
type adapter struct {
	module
	layer  int
	rank   int
	scale  float64
	a, b   ops.Buf    // [rank, in], [out, rank]
	da, db ops.Buf    // absent when the adapter is not trained
	m, dm  ops.Buf    // [out] DoRA's magnitude, or absent
	seed   uint64     // its part of the dropout masks' names
	first  *principal // how PiSSA began it; nil with other beginnings
}

// peftName is the adapter's name in adapter_model.safetensors, of "A" or "B".
func peftName(module, matrix string) string {
	return "base_model.model." + module + ".lora_" + matrix + ".weight"
}

// peftMagnitude is the name of DoRA's magnitude there.
func peftMagnitude(module string) string {
	return "base_model.model." + module + ".lora_magnitude_vector"
}

// attach allocates adapters for modules (full names) of the given ranks, and their gradients if they will be trained:
// all matrices in one allocation, all gradients in another.
func (m *Model) attach(l LoRA, rank map[string]int, train bool) {
	m.LoRA = l
	size := m.choose(rank)
	m.adapterMemory = m.dev.Alloc(size)
	if train {
		m.gradients = m.dev.Alloc(size)
	}
	if m.dev.Err() != nil {
		return // there is nothing to cut; Load reports it
	}
	values, gradients := cutter{from: m.adapterMemory}, cutter{from: m.gradients}
	for i := range m.adapters {
		a := &m.adapters[i]
		a.a, a.da = values.cut(a.rank*a.in), gradients.cut(a.rank*a.in)
		a.b, a.db = values.cut(a.out*a.rank), gradients.cut(a.out*a.rank)
		if l.DoRA {
			a.m, a.dm = values.cut(a.out), gradients.cut(a.out)
		}
		lin := &m.layers[a.layer].linears[a.linear]
		lin.lora = append(lin.lora, ops.LoRA{
			A: a.a, B: a.b, DA: a.da, DB: a.db, M: a.m, DM: a.dm, Col: a.from, F: a.out, R: a.rank, Scale: float32(a.scale),
		})
		lin.ranks += a.rank
	}
	if l.DoRA {
		m.allocateGains()
	}
}

// choose lists the adapters, without memory, and returns how many numbers they have.
func (m *Model) choose(rank map[string]int) (size int) {
	for i := range m.layers {
		for _, mod := range m.Config.modules(i) {
			r, ok := rank[mod.fullName]
			if !ok {
				continue
			}
			size += r * (mod.in + mod.out)
			if m.LoRA.DoRA {
				size += mod.out
			}
			m.adapters = append(m.adapters, adapter{
				module: mod, layer: i, rank: r, scale: m.LoRA.scale(mod.fullName, r), seed: hash(mod.fullName),
			})
		}
	}
	return size
}

// initialise draws every A; B stays zero. Each number depends on the seed, the module's name and its place
// only.
func (m *Model) initialise(ctx context.Context, seed uint64) error {
	if m.LoRA.Init == "pissa" {
		if err := m.beginPiSSA(ctx); err != nil {
			return err
		}
	} else {
		m.draw(seed)
	}
	if m.LoRA.DoRA {
		m.measure()
	}
	return nil
}

func (m *Model) draw(seed uint64) {
	for _, a := range m.adapters {
		values := make([]float32, a.rank*a.in)
		key := mix(seed ^ mix(hash(a.fullName)))
		bound := 1 / math.Sqrt(float64(a.in))
		for i := range values {
			if m.LoRA.Init == "gaussian" {
				values[i] = float32(normal(key, i) / float64(a.rank))
			} else {
				values[i] = float32(bound * (2*unit(key, i) - 1))
			}
		}
		m.dev.Write(a.a, values)
	}
}

func hash(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// dropout sets the masks' names and the probability of all adapters for one pass.
func (m *Model) dropout(p float64, seed uint64) {
	next := [linears]int{}
	layer := -1
	for _, a := range m.adapters {
		if a.layer != layer {
			layer, next = a.layer, [linears]int{}
		}
		l := &m.layers[a.layer].linears[a.linear].lora[next[a.linear]]
		l.Drop, l.Seed = float32(p), mix(seed^a.seed)
		next[a.linear]++
	}
}
