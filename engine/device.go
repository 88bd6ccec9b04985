package engine

import (
	"fmt"
	"runtime"
	"strings"

	"lpipe/engine/cpu"
	"lpipe/engine/ops"
)

// OpenDevice makes the device of that name: "" or "cpu". threads is how many it may use, 0: all. The caller closes it.
func OpenDevice(name string, threads int) (ops.Device, error) {
	switch {
	case name == "" || name == "cpu":
		return cpu.New(cpu.Options{Threads: min(threads, runtime.NumCPU())}), nil
	case name == "cuda" || strings.HasPrefix(name, "cuda:"):
		return nil, fmt.Errorf("device %q: this lpipe was built without CUDA; use cpu", name)
	}
	return nil, fmt.Errorf("device %q is not known; there is cpu", name)
}
