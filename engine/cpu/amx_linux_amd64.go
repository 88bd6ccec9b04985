package cpu

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// grantTiles asks Linux for tile registers, which make what it saves of a thread, in a signal's frame too, 8 KiB larger
// (arch/x86/xstate.rst of its documentation). It says no where it does not know the registers, and where the stack that a thread has for
// signals is too small; those of Go's threads have 32 KiB. Threads and children that exist or follow may use them as well.
func grantTiles() error {
	const (
		requestPermission = 0x1023 // ARCH_REQ_XCOMP_PERM
		tileData          = 18     // XFEATURE_XTILEDATA
	)
	if _, _, err := unix.Syscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0); err != 0 {
		return fmt.Errorf("this process may not use AMX (Linux 5.16 or newer lets it): %w", err)
	}
	return nil
}

func thisProcessor() processor {
	return processor{share: shareProcessor, switches: func() int64 {
		var u unix.Rusage
		if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
			return 0
		}
		return u.Nivcsw
	}}
}

// shareProcessor keeps this goroutine on its thread, and that on the first processor that it may use, until undo.
func shareProcessor() (undo func(), err error) {
	runtime.LockOSThread()
	var may, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("which processors a thread may use: %w", err)
	}
	for i := range len(may) * 64 {
		if may.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("keep a thread on one processor: %w", err)
	}
	return func() {
		if unix.SchedSetaffinity(0, &may) == nil {
			runtime.UnlockOSThread() // else the thread ends with its goroutine
		}
	}, nil
}
