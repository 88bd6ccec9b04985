package runner

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// adopt makes processes whose parents die ours, so that a stage's descendants can be found whatever they did to their
// group and session.
func adopt() {
	const setChildSubreaper = 36                                   // PR_SET_CHILD_SUBREAPER, prctl(2)
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0) // without it (Linux before 3.4) only groups are killed
}

// endGroup waits until nothing of a killed group is left, then kills the stage's processes that had left the group:
// by now they are ours, and their environment names the stage's scratch folder.
func endGroup(group int, scratch string) {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if syscall.Kill(-group, 0) == syscall.ESRCH {
			break
		}
		if id, err := syscall.Wait4(-group, nil, syscall.WNOHANG, nil); id <= 0 || err != nil {
			time.Sleep(100 * time.Microsecond) // dying
		}
	}
	for range 1000 {
		strays := strayChildren(scratch)
		if len(strays) == 0 {
			return
		}
		for _, id := range strays {
			syscall.Kill(id, syscall.SIGKILL)
			syscall.Wait4(id, nil, 0, nil)
		}
	}
}

// strayChildren lists the children of this process that belong to a stage by their environment.
func strayChildren(scratch string) []int {
	self := os.Getpid()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", self, self))
	if err != nil {
		return nil
	}
	mark := []byte("LPIPE_SCRATCH=" + scratch + "\x00")
	var strays []int
	for _, field := range bytes.Fields(list) {
		id, err := strconv.Atoi(string(field))
		if err == nil && bytes.Contains(append([]byte{0}, environOf(id)...), append([]byte{0}, mark...)) {
			strays = append(strays, id)
		}
	}
	return strays
}

// environOf reads a process's environment. One that is in the middle of exec has none for a moment.
func environOf(id int) []byte {
	for range 20 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", id))
		if err != nil || len(data) > 0 {
			return data
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id)); err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}
