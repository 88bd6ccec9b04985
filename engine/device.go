package engine

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"lpipe/engine/cpu"
	"lpipe/engine/cuda"
	"lpipe/engine/ops"
)

// OpenDevice makes the device of that name: "" or "cpu", "cuda" or "cuda:1". threads is how many the processor may use, 0: all.
// The caller closes it.
func OpenDevice(name string, threads int) (ops.Device, error) {
	if name == "" || name == "cpu" {
		return cpu.New(cpu.Options{Threads: min(threads, runtime.NumCPU())}), nil
	}
	kind, number, numbered := strings.Cut(name, ":")
	if kind != "cuda" {
		return nil, fmt.Errorf("device %q is not known; there are cpu and cuda", name)
	}
	n, err := strconv.Atoi(number)
	if numbered && (err != nil || n < 0) {
		return nil, fmt.Errorf("device %q: after the colon stands the number of a GPU, counted from 0", name)
	}
	dev, err := openCUDA(n)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w; use cpu", name, err)
	}
	return dev, nil
}

// OutlineGPU makes a device for Plan: a GPU with that much memory, which need not be there.
func OutlineGPU(memory int64) ops.Device {
	return cuda.NewOutline(cuda.Description{Name: "cuda", Detail: "a GPU that need not be here", Memory: memory}, cuda.Options{})
}
