package cache

import (
	"time"
)

// Result is what a key led to.
type Result struct {
	Outputs     map[string]Content `json:"outputs"`     // by the output's name
	Description string             `json:"description"` // the text whose hash is the key
	Record      Record             `json:"record"`
}

// Record tells who made a result, when, where and how. It proves nothing and counts in no hash.
type Record struct {
	Stage   string             `json:"stage"`
	Kind    string             `json:"kind"`
	User    string             `json:"user,omitempty"`
	Host    string             `json:"host,omitempty"`
	Device  string             `json:"device,omitempty"`
	Version string             `json:"version,omitempty"` // of lpipe
	Run     string             `json:"run,omitempty"`
	Started time.Time          `json:"started"`
	Seconds float64            `json:"seconds"`
	Log     *Content           `json:"log,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
}
