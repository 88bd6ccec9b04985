//go:build !linux

package stages

import "syscall"

// ownGroup starts a command in a process group of its own, which the runner's guard kills if lpipe dies.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
