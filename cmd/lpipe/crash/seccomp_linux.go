package crash

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Word as first argument makes a program that calls Main one that installs the filter and becomes another program.
const Word = "become-supervised"

// Main puts the filter over this process and becomes args[1]. args[0] says whether opening for reading counts, too. It
// returns only an error. Descriptor 3 is the socket on which the supervisor waits for the listener.
func Main(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: " + Word + " reads|writes PROGRAM [ARGUMENT...]")
	}
	runtime.LockOSThread() // the filter is the thread's, and stays with it through exec
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	code := filter(args[0] == "reads")
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return fmt.Errorf("install a seccomp filter with a listener: %w", errno)
	}
	if err := unix.Sendmsg(3, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return fmt.Errorf("hand the listener over: %w", err)
	}
	unix.CloseOnExec(int(listener))
	unix.CloseOnExec(3)
	return syscall.Exec(args[1], args[1:], os.Environ())
}

// Offsets in struct seccomp_data, seccomp(2).
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16 // 8 bytes each, little endian here
)

// filter stops the calls of forms, and of open and ioctl only those that change something; reads: every open.
func filter(reads bool) []unix.SockFilter {
	const load, equal, anyBit, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K,
		unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	allow := unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW}
	stop := unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_USER_NOTIF}
	code := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, Jt: 1, K: auditArch},
		allow,
		{Code: load, K: dataNumber},
	}
	known := forms()
	for _, number := range slices.Sorted(maps.Keys(known)) {
		f := known[number]
		var then []unix.SockFilter
		switch {
		case number == unix.SYS_IOCTL:
			then = []unix.SockFilter{
				{Code: load, K: dataArgs + 8},
				{Code: equal, Jt: 1, K: unix.FICLONE},
				{Code: equal, Jf: 1, K: unix.FICLONERANGE},
				stop, allow,
			}
		case f.flags >= 0 && !reads:
			then = []unix.SockFilter{
				{Code: load, K: dataArgs + 8*uint32(f.flags)},
				{Code: anyBit, Jf: 1, K: unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC},
				stop, allow,
			}
		default:
			then = []unix.SockFilter{stop}
		}
		code = append(code, unix.SockFilter{Code: equal, Jf: uint8(len(then)), K: uint32(number)})
		code = append(code, then...)
	}
	return append(code, allow)
}

// notification and response are struct seccomp_notif and struct seccomp_notif_resp.
type notification struct {
	id     uint64
	pid    uint32
	flags  uint32
	number int32
	arch   uint32
	ip     uint64
	args   [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// listener is where the kernel tells of stopped calls.
type listener int

// next waits for a call: false when none of the processes is left.
func (l listener) next(n *notification) (bool, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return false, fmt.Errorf("wait for a system call: %w", err)
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			return false, nil
		}
		*n = notification{}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
		switch errno {
		case 0:
			return true, nil
		case unix.EINTR, unix.ENOENT: // it was killed before we heard of its call
		default:
			return false, fmt.Errorf("receive a system call: %w", errno)
		}
	}
}

// answer lets a call go on (pass), or end with a value or an error without being run. A process that is no more
// needs no answer.
func (l listener) answer(id uint64, pass bool, errno unix.Errno) {
	r := response{id: id, errno: -int32(errno)}
	if pass {
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	unix.Syscall(unix.SYS_IOCTL, uintptr(l), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&r)))
}

// startFiltered starts a program under the filter, by way of this test's own program.
func startFiltered(cmd *exec.Cmd, reads bool) (listener, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	what := "writes"
	if reads {
		what = "reads"
	}
	cmd.Args = append([]string{cmd.Path, Word, what}, cmd.Args...)
	cmd.Path = "/proc/self/exe"
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return 0, err
	}
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err == nil && n > 0 {
		if messages, err := unix.ParseSocketControlMessage(control[:n]); err == nil && len(messages) == 1 {
			if fds, err := unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
				return listener(fds[0]), nil
			}
		}
	}
	cmd.Wait()
	return 0, errors.Join(errors.New("this system does not let a process watch another by seccomp (user notification)"), err)
}
