package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rights of Landlock (https://docs.kernel.org/userspace-api/landlock.html), by what rules grant.
const (
	reading = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	listing = unix.LANDLOCK_ACCESS_FS_READ_DIR
	making  = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_REFER |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	everything = 1<<16 - 1 // up to IOCTL_DEV
	// ofFiles are the rights that a rule about a file that is no folder may name.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// Supported is nil where this kernel can confine, else an ErrUnsupported.
func Supported() error {
	if _, err := known(); err != nil {
		return err
	}
	return nil
}

// known are the rights that this kernel knows: what it does not know stays allowed.
func known() (uint64, error) {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno != 0:
		return 0, fmt.Errorf("%w: %w", ErrUnsupported, errno)
	case version < 2:
		return unix.LANDLOCK_ACCESS_FS_REFER - 1, nil
	case version < 3:
		return unix.LANDLOCK_ACCESS_FS_TRUNCATE - 1, nil
	case version < 5:
		return unix.LANDLOCK_ACCESS_FS_IOCTL_DEV - 1, nil
	}
	return everything, nil
}

// become confines this process and executes the command in its place.
func become(rules Rules, path string, args, environ []string) error {
	// The kernel confines the thread that asks; exec makes it the whole process.
	runtime.LockOSThread()
	if err := rules.apply(); err != nil {
		return fmt.Errorf("confine: %w", err)
	}
	return fmt.Errorf("execute %s: %w", path, unix.Exec(path, args, environ))
}

func (r Rules) apply() error {
	handled, err := known()
	if err != nil {
		return err
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	// Only the first field: kernels before 6.7 know no other.
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("create a ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	for _, grant := range []struct {
		paths  []string
		rights uint64
	}{{r.Read, reading}, {r.List, listing}, {r.Write, everything}, {r.Make, making}} {
		for _, path := range grant.paths {
			if err := allow(int(fd), path, grant.rights&handled); err != nil {
				return fmt.Errorf("allow %s: %w", path, err)
			}
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // nobody can read what is not there
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= ofFiles
	}
	if rights == 0 {
		return nil
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// anonymous is a file without a name.
func anonymous(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("lpipe-sandbox", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "rules")
	if _, err = f.Write(content); err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
