package crash

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// legacyForms are calls that newer architectures do not have.
func legacyForms() map[int]form {
	return map[int]form{
		unix.SYS_OPEN:      {"open", opens, []int{-1, 0}, -1, 1},
		unix.SYS_CREAT:     byPath("creat", opens|grows, -1, 0),
		unix.SYS_RENAME:    byPath("rename", grows|names, -1, 0, -1, 1),
		unix.SYS_LINK:      byPath("link", grows|names, -1, 0, -1, 1),
		unix.SYS_SYMLINK:   byPath("symlink", grows, -1, 1),
		unix.SYS_MKDIR:     byPath("mkdir", grows, -1, 0),
		unix.SYS_MKNOD:     byPath("mknod", grows, -1, 0),
		unix.SYS_UNLINK:    byPath("unlink", 0, -1, 0),
		unix.SYS_RMDIR:     byPath("rmdir", 0, -1, 0),
		unix.SYS_CHMOD:     byPath("chmod", 0, -1, 0),
		unix.SYS_UTIMES:    byPath("utimes", 0, -1, 0),
		unix.SYS_FUTIMESAT: byPath("futimesat", 0, 0, 1),
	}
}
