package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What doctor asks the system.

// writable makes and removes a file in a folder: the only answer that counts, whatever the permissions say.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".lpipe-tmp-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("lpipe")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func writeRemedy(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "get the right to write there"
	case errors.Is(err, syscall.EROFS):
		return "mount it for writing"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "free some space"
	case errors.Is(err, fs.ErrNotExist):
		return "make the folder"
	}
	return "look at the folder"
}

// existing is the nearest folder above path, or path itself, that exists.
func existing(path string) string {
	for {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
		parent := filepath.Dir(path)
		if parent == path {
			return path
		}
		path = parent
	}
}

// cause is an error without the paths that os adds.
func cause(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}

func diskSpace(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(existing(dir), &s); err != nil {
		return 0, 0, fmt.Errorf("ask for the space at %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}

// diskFull tells whether hardly anything can be written in a folder any more.
func diskFull(dir string) bool {
	free, _, err := diskSpace(dir)
	return err == nil && free < 64<<10
}

// fileSystemType is the type of the mount that holds a folder, as /proc/self/mountinfo names it (proc(5)).
func fileSystemType(dir string) string {
	if real, err := filepath.EvalSymlinks(existing(dir)); err == nil {
		dir = real
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "unknown type"
	}
	defer f.Close()
	best, longest := "unknown type", -1
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// 36 35 98:0 /root /mount/point options [tags] - ext4 /dev/vda rw
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		at := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(fields[4])
		if len(at) >= longest && (dir == at || strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/")) {
			best, longest = kind[0], len(at) // of mounts at one place the last is on top
		}
	}
	return best
}

// folderSize counts files and their bytes; what cannot be read does not count.
func folderSize(dir string) (files int, bytes int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return nil
	})
	return files, bytes
}

// findCUDA names what there is of NVIDIA's driver on this machine.
func findCUDA() []string {
	var found []string
	if devices, err := filepath.Glob("/dev/nvidia[0-9]*"); err == nil && len(devices) > 0 {
		found = append(found, countText(len(devices), "NVIDIA GPU"))
	}
	for _, dir := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/lib/wsl/lib", "/usr/local/cuda/compat"} {
		path := filepath.Join(dir, "libcuda.so.1")
		if _, err := os.Stat(path); err == nil {
			return append(found, path)
		}
	}
	return found
}
