package runner_test

import (
	"testing"
	"time"

	"lpipe/runner"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0": 0, "-5m": -5 * time.Minute,
		"1d": day, "2w": 14 * day, "1w3d": 10 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "0d": 0,
	} {
		if got, err := runner.ParseDuration(text); got != want || err != nil {
			t.Errorf("%s is %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "5x", "1d-3h", "-1d", "3d1w", "1d1d", "1e3d", "infd", "nand", "0x1d", "200000d", "106751d30h", "1 d", "12hd"} {
		if got, err := runner.ParseDuration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}
