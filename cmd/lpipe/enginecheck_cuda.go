//go:build cuda

package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

// engineCheckCommand keeps its place among the commands: Gorgonia, its witness, takes the build tag cuda for its own CUDA code
// and cannot be part of this program.
func (p *program) engineCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "hand-written gradients against automatic ones: in the lpipe without CUDA only",
		Action: func(*cli.Context) error {
			return errors.New("the witness of engine check is not part of an lpipe built with CUDA: run bin/lpipe engine check; " +
				"the GPU itself is checked by the tests of make gpu-bundle")
		},
	}
}
