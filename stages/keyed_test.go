package stages

import (
	"testing"

	"lpipe/runner/runnertest"
)

// A setting that does not reach the key would let a result of other settings be taken.
func TestSettingsReachTheKey(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind.Name, func(t *testing.T) { runnertest.NudgeSettings(t, kind) })
	}
}
