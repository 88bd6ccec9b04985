//go:build cuda

package engine

import (
	"time"

	"lpipe/engine/cuda"
	"lpipe/engine/cuda/driver"
	"lpipe/engine/ops"
)

// HasCUDA says whether this program was built with CUDA, and what keeps it from being used here.
func HasCUDA() (built bool, missing error) { return true, driver.Found() }

func openCUDA(number int) (ops.Device, error) {
	m, err := driver.Open(number)
	if err != nil {
		return nil, err
	}
	return cuda.New(m, cuda.Options{Now: time.Now}), nil
}
