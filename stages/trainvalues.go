package stages

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lpipe/runner"
)

// The values of a train stage's settings that are more than a number or a text.

// Targets is "all-linear", or a list of module names.
type Targets []string

// UnmarshalJSON reads a string or a list of strings.
func (t *Targets) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = Targets{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf(`must be "all-linear" or a list of module names`)
	}
	*t = list
	return nil
}

// MarshalJSON writes what UnmarshalJSON reads.
func (t Targets) MarshalJSON() ([]byte, error) {
	if len(t) == 1 && t[0] == "all-linear" {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// Optimizer is "adamw" or "lion", or an object that changes its numbers.
type Optimizer struct {
	Name  string  `json:"name"`
	Beta1 float64 `json:"beta1"`
	Beta2 float64 `json:"beta2"`
	Eps   float64 `json:"eps"`
}

// UnmarshalJSON reads a name or an object. Left-out numbers are those that are usual for the optimiser.
func (o *Optimizer) UnmarshalJSON(b []byte) error {
	*o = newTrain().Optimizer
	wrong := func(err error) error {
		return fmt.Errorf(`must be "adamw", "lion" or an object with name, beta1, beta2, eps: %v`, err)
	}
	named := struct{ Name string }{o.Name}
	object := json.Unmarshal(b, &named.Name) != nil
	if object {
		if err := json.Unmarshal(b, &named); err != nil {
			return wrong(err)
		}
	}
	if o.Name = strings.ToLower(named.Name); o.Name == "lion" {
		o.Beta2 = 0.99 // Chen et al. 2023, section 4.1
	}
	if !object {
		return nil
	}
	type plain Optimizer
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode((*plain)(o)); err != nil {
		return wrong(err)
	}
	o.Name = strings.ToLower(o.Name)
	return nil
}

func (o Optimizer) check() error {
	switch {
	case o.Name != "adamw" && o.Name != "lion":
		return fmt.Errorf("optimizer: %q is neither adamw nor lion", o.Name)
	case !(o.Beta1 >= 0 && o.Beta1 < 1) || !(o.Beta2 >= 0 && o.Beta2 < 1):
		return fmt.Errorf("optimizer: beta1 and beta2 must be from 0 to below 1")
	case !(o.Eps > 0):
		return fmt.Errorf("optimizer: eps must be above 0")
	}
	return nil
}

// Interval is a duration ("15m"), or a number of steps.
type Interval struct {
	Time  time.Duration
	Steps int
}

// UnmarshalJSON reads a duration or a number.
func (i *Interval) UnmarshalJSON(b []byte) error {
	var steps int
	if json.Unmarshal(b, &steps) == nil && steps > 0 {
		*i = Interval{Steps: steps}
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) == nil {
		if d, err := runner.ParseDuration(text); err == nil && d > 0 {
			*i = Interval{Time: d}
			return nil
		}
	}
	return fmt.Errorf(`must be a duration like "15m" or a number of steps`)
}

// MarshalJSON writes what UnmarshalJSON reads.
func (i Interval) MarshalJSON() ([]byte, error) {
	if i.Steps > 0 {
		return json.Marshal(i.Steps)
	}
	return json.Marshal(i.Time.String())
}
