//go:build !linux

package cpu

// mayUseTiles is no: how another system saves tile registers has not been looked into.
func mayUseTiles() bool { return false }
