package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// path makes a path of the command line absolute with respect to -C.
func (p *program) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.dir, name)
}

// atomicFile opens a temporary file beside path. finish(nil) syncs it and renames it to path; finish(err)
// removes it and returns nil. What is no file, as /dev/null or a pipe, is written to: as root a rename would take its place.
func atomicFile(path string) (f *os.File, finish func(error) error, err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, nil, fmt.Errorf("write %s: %w", path, err)
		}
		return f, func(error) error { return f.Close() }, nil
	}
	f, err = os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, nil, fmt.Errorf("write %s: %w", path, err)
	}
	return f, func(failed error) error {
		if failed != nil {
			f.Close()
			os.Remove(f.Name())
			return nil
		}
		err := f.Chmod(0o644)
		if err == nil {
			err = f.Sync()
		}
		if closed := f.Close(); err == nil {
			err = closed
		}
		if err == nil {
			err = os.Rename(f.Name(), path)
		}
		if err != nil {
			os.Remove(f.Name())
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}, nil
}

// processCPU returns the processor seconds that this process has used.
func processCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
