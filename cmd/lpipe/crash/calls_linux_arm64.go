package crash

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// legacyForms are calls that newer architectures do not have.
func legacyForms() map[int]form { return nil }
