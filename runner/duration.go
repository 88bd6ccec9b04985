package runner

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseDuration is time.ParseDuration with days (d, 24 hours) and weeks (w) before the smaller units: "2d", "1w3d", "1d12h".
func ParseDuration(text string) (time.Duration, error) {
	rest, days := text, 0.0
	for _, unit := range []struct {
		name string
		days float64
	}{{"w", 7}, {"d", 1}} {
		number, after, ok := strings.Cut(rest, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || strings.Trim(number, "0123456789.") != "" {
			return 0, fmt.Errorf("%q is no duration", text)
		}
		rest, days = after, days+n*unit.days
	}
	const longest = 1 << 63 / float64(24*time.Hour)
	if days >= longest {
		return 0, fmt.Errorf("%q is too long", text)
	}
	whole := time.Duration(days * float64(24*time.Hour))
	if rest == "" && rest != text {
		return whole, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 && rest != text || whole+d < whole && d > 0 {
		return 0, fmt.Errorf("%q is no duration", text)
	}
	return whole + d, nil
}
