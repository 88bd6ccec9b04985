package dataset

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriting asks the system to bring n bytes from at on to the disk, and waits for nothing. It is only a hint.
func beginWriting(f *os.File, at, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
}
