package crash

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What a call does to the disk; an error is injected where a disk could answer it.
type effect uint8

const (
	opens    effect = 1 << iota // gives a descriptor
	grows                       // takes space
	names                       // joins two names, which may lie on two file systems
	writes                      // anything that a read-only disk refuses
	syncs                       // makes a file or a folder durable
	syncsAll                    // makes everything durable
)

// form says where a system call's arguments name what it changes.
type form struct {
	name   string
	effect effect
	at     []int // pairs of arguments: folder's descriptor (-1: none), path
	fd     int   // the argument that is a descriptor of the file itself; -1: none
	flags  int   // the argument with open's flags; -1: none
}

func byPath(name string, e effect, at ...int) form { return form{name, e | writes, at, -1, -1} }
func byFile(name string, e effect, fd int) form    { return form{name, e | writes, nil, fd, -1} }

// forms are the calls that change files, by number. Those that only older programs make are in legacyForms.
func forms() map[int]form {
	known := map[int]form{
		unix.SYS_OPENAT:          {"openat", opens, []int{0, 1}, -1, 2},
		unix.SYS_OPENAT2:         byPath("openat2", opens|grows, 0, 1),
		unix.SYS_WRITE:           byFile("write", grows, 0),
		unix.SYS_PWRITE64:        byFile("pwrite64", grows, 0),
		unix.SYS_WRITEV:          byFile("writev", grows, 0),
		unix.SYS_PWRITEV:         byFile("pwritev", grows, 0),
		unix.SYS_PWRITEV2:        byFile("pwritev2", grows, 0),
		unix.SYS_SENDFILE:        byFile("sendfile", grows, 0),
		unix.SYS_SPLICE:          byFile("splice", grows, 2),
		unix.SYS_COPY_FILE_RANGE: byFile("copy_file_range", grows|names, 2),
		unix.SYS_IOCTL:           byFile("ioctl FICLONE", grows|names, 0),
		unix.SYS_FALLOCATE:       byFile("fallocate", grows, 0),
		unix.SYS_FTRUNCATE:       byFile("ftruncate", 0, 0),
		unix.SYS_TRUNCATE:        byPath("truncate", 0, -1, 0),
		unix.SYS_MKDIRAT:         byPath("mkdirat", grows, 0, 1),
		unix.SYS_MKNODAT:         byPath("mknodat", grows, 0, 1),
		unix.SYS_SYMLINKAT:       byPath("symlinkat", grows, 1, 2),
		unix.SYS_LINKAT:          byPath("linkat", grows|names, 0, 1, 2, 3),
		unix.SYS_RENAMEAT:        byPath("renameat", grows|names, 0, 1, 2, 3),
		unix.SYS_RENAMEAT2:       byPath("renameat2", grows|names, 0, 1, 2, 3),
		unix.SYS_UNLINKAT:        byPath("unlinkat", 0, 0, 1),
		unix.SYS_FCHMOD:          byFile("fchmod", 0, 0),
		unix.SYS_FCHMODAT:        byPath("fchmodat", 0, 0, 1),
		unix.SYS_UTIMENSAT:       byPath("utimensat", 0, 0, 1),
		unix.SYS_FSYNC:           {"fsync", syncs | grows, nil, 0, -1},
		unix.SYS_FDATASYNC:       {"fdatasync", syncs | grows, nil, 0, -1},
		unix.SYS_SYNCFS:          {"syncfs", syncsAll | grows, nil, 0, -1},
	}
	maps.Copy(known, legacyForms())
	return known
}

// Call is a system call that is about to change a file.
type Call struct {
	Name  string
	Paths []string // what it changes
	Main  bool     // made by the program itself, not by a child of it
	effect
}

func (c *Call) String() string { return c.Name + " " + strings.Join(c.Paths, " -> ") }

// writing tells whether open's flags change anything.
func writing(flags uint64) bool {
	return flags&(unix.O_ACCMODE|unix.O_CREAT|unix.O_TRUNC) != unix.O_RDONLY
}

// read makes a Call of what the kernel tells: a thread, the number of a call and its arguments.
func (f form) read(pid int, args [6]uint64) (*Call, error) {
	c := &Call{Name: f.name, effect: f.effect}
	if f.flags >= 0 && writing(args[f.flags]) {
		c.effect |= writes
		if args[f.flags]&unix.O_CREAT != 0 {
			c.effect |= grows
		}
	}
	if f.fd >= 0 {
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(args[f.fd])))
		c.Paths = []string{path}
		return c, err
	}
	for i := 0; i < len(f.at); i += 2 {
		folder := int32(unix.AT_FDCWD)
		if f.at[i] >= 0 {
			folder = int32(args[f.at[i]])
		}
		path, err := pathAt(pid, folder, args[f.at[i+1]])
		if err != nil {
			return c, err
		}
		c.Paths = append(c.Paths, path)
	}
	return c, nil
}

// pathAt is the absolute path that a thread means.
func pathAt(pid int, folder int32, address uint64) (string, error) {
	path := ""
	if address != 0 {
		var err error
		if path, err = textAt(pid, address); err != nil {
			return "", err
		}
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), nil
	}
	link := fmt.Sprintf("/proc/%d/cwd", pid)
	if folder != unix.AT_FDCWD {
		link = fmt.Sprintf("/proc/%d/fd/%d", pid, folder)
	}
	base, err := os.Readlink(link)
	return filepath.Join(base, path), err
}

// textAt reads a C string from another process, page by page: the next page need not be there.
func textAt(pid int, address uint64) (string, error) {
	const page = 4096
	var text []byte
	for len(text) < unix.PathMax {
		chunk := make([]byte, page-address%page)
		local := []unix.Iovec{{Base: &chunk[0], Len: uint64(len(chunk))}}
		remote := []unix.RemoteIovec{{Base: uintptr(address), Len: len(chunk)}}
		n, err := unix.ProcessVMReadv(pid, local, remote, 0)
		if err != nil {
			return "", fmt.Errorf("read a path of process %d: %w", pid, err)
		}
		if end := bytes.IndexByte(chunk[:n], 0); end >= 0 {
			return string(append(text, chunk[:end]...)), nil
		}
		text = append(text, chunk[:n]...)
		address += uint64(n)
	}
	return "", fmt.Errorf("read a path of process %d: longer than %d bytes", pid, unix.PathMax)
}
