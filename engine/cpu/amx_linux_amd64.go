package cpu

import (
	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"
)

// mayUseTiles says whether the processor multiplies bfloat16 pairs in tile registers and Linux lets this process use them: it must be
// asked, since the registers make what it saves of a thread, in a signal's frame too, 8 KiB larger (arch/x86/xstate.rst of its
// documentation). It says no where it does not know the registers, and where the stack that a thread has for signals is too small;
// those of Go's threads have 32 KiB. Threads and children that exist or follow may use them as well.
func mayUseTiles() bool {
	const (
		requestPermission = 0x1023 // ARCH_REQ_XCOMP_PERM
		tileData          = 18     // XFEATURE_XTILEDATA
	)
	if !cpu.X86.HasAMXTile || !cpu.X86.HasAMXBF16 {
		return false
	}
	_, _, err := unix.Syscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return err == 0
}
