//go:build !cuda

package engine

import (
	"errors"

	"lpipe/engine/ops"
)

// HasCUDA says whether this program was built with CUDA, and what keeps it from being used here.
func HasCUDA() (built bool, missing error) { return false, errNoCUDA }

func openCUDA(int) (ops.Device, error) { return nil, errNoCUDA }

var errNoCUDA = errors.New("this lpipe was built without CUDA (make cuda builds one with it)")
