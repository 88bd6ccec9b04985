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

// OpenDevice makes the device of that name: "" or "cpu", "cpu:" and a kernel of package cpu, "cuda" or "cuda:1". threads is how many the
// processor may use, 0: all. The caller closes it.
func OpenDevice(name string, threads int) (ops.Device, error) {
	kind, number, numbered := strings.Cut(name, ":")
	switch {
	case kind == "" && !numbered, kind == "cpu":
		return openCPU(name, number, numbered, threads)
	case kind != "cuda":
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

func openCPU(name, kernel string, named bool, threads int) (ops.Device, error) {
	if named && kernel == "" {
		return nil, fmt.Errorf("device %q: after the colon stands a kernel; here there are %s", name, strings.Join(cpu.Kernels(), ", "))
	}
	dev := cpu.New(cpu.Options{Threads: min(threads, runtime.NumCPU()), Kernel: kernel})
	if err := dev.Err(); err != nil {
		dev.Close()
		return nil, fmt.Errorf("device %q: %w; use cpu", name, err)
	}
	return dev, nil
}

// OutlineGPU makes a device for Plan: a GPU with that much memory, which need not be there.
func OutlineGPU(memory int64) ops.Device {
	return cuda.NewOutline(cuda.Description{Name: "cuda", Detail: "a GPU that need not be here", Memory: memory}, cuda.Options{})
}
