package stages

import "syscall"

// ownGroup starts a command in a process group of its own, and has the kernel kill it if lpipe dies.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
