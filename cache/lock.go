package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked says that the time to wait for a lock ran out.
var ErrLocked = errors.New("locked by another process")

// Lock is a held lock on a file. The system releases it when the process ends, however it ends.
type Lock struct {
	f         *os.File
	exclusive bool
}

// holder stands in the lock file for those who wait. It proves nothing: the lock itself is flock's.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// LockFile takes the lock at path, shared or exclusive, making the file where it is missing. While another
// process holds it, wait (if not nil) is called once with who that is, and again when it becomes someone else.
// It gives up when ctx ends, with an error that is both ErrLocked and ctx's.
func LockFile(ctx context.Context, path string, exclusive bool, wait func(holder string)) (*Lock, error) {
	f, err := openLock(path, exclusive)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	told := ""
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		err := flock(f, how|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		who := readHolder(path)
		if wait != nil && who != told {
			wait(who)
			told = who
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("lock %s, held by %s: %w: %w", path, who, ErrLocked, ctx.Err())
		case <-time.After(pause):
		}
	}
	if exclusive {
		writeHolder(f)
	}
	return &Lock{f, exclusive}, nil
}

// Release gives the lock back. The file stays: removing it would let two processes hold locks on two files.
func (l *Lock) Release() error {
	if l == nil || l.f == nil {
		return nil
	}
	if l.exclusive {
		l.f.Truncate(0) // or those who wait for the shared ones to come would read about us
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// openLock falls back to reading for a shared lock on what we may not write, another user's cache say.
func openLock(path string, exclusive bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return nil, err
		}
		return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	}
	if err != nil && !exclusive {
		if f, err := os.Open(path); err == nil {
			return f, nil
		}
	}
	return f, err
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}

func writeHolder(f *os.File) {
	host, _ := os.Hostname()
	b, _ := json.Marshal(holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second)})
	if f.Truncate(0) == nil {
		f.WriteAt(append(b, '\n'), 0) // for people only: an error changes nothing
	}
}

func readHolder(path string) string {
	var h holder
	b, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(b, &h) != nil || h.PID == 0 {
		return "another process"
	}
	if host, _ := os.Hostname(); host == h.Host && unix.Kill(h.PID, 0) == unix.ESRCH {
		return "another process" // the one named was killed
	}
	return fmt.Sprintf("process %d on %s since %s", h.PID, h.Host, h.Since.Local().Format("2006-01-02 15:04:05"))
}
