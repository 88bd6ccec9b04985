package main

import (
	"fmt"

	"lpipe/engine"
	"lpipe/engine/ops"
)

// openDevice makes the device that --device names; the caller closes it.
func (p *program) openDevice(threads int) (ops.Device, error) {
	dev, err := engine.OpenDevice(p.device, threads)
	if err != nil {
		return nil, usageError{err}
	}
	return dev, nil
}

// checkDevice refuses a device that there is not before any stage runs.
func checkDevice(name string) error {
	if name == "" {
		return nil
	}
	dev, err := engine.OpenDevice(name, 1)
	if err != nil {
		return usageError{err}
	}
	return dev.Close()
}

// deviceText is "cpu (avx512), threads: 2", or "cuda:0 (NVIDIA H100 …)".
func deviceText(i ops.Info) string {
	if i.Threads == 0 {
		return fmt.Sprintf("%s (%s)", i.Name, i.Detail)
	}
	return fmt.Sprintf("%s (%s), threads: %d", i.Name, i.Detail, i.Threads)
}
