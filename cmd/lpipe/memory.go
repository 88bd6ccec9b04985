package main

import "lpipe/engine"

// physicalMemory is how much memory this process may use, in bytes: the machine's, or less in a container. 0 where
// it cannot be told.
func physicalMemory() int64 {
	total, _ := engine.MachineMemory()
	return total
}
