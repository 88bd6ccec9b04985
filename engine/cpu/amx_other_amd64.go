//go:build !linux

package cpu

import "errors"

// grantTiles refuses: how another system saves tile registers has not been looked into.
func grantTiles() error { return errors.New("AMX is used on Linux only") }

func thisProcessor() processor { return processor{} }
