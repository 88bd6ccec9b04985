package engine

import (
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// MachineMemory is how much memory this process could ever use, in bytes, and how much more it could take now: the machine's,
// or what is left of its control group (cgroup v1 or v2, https://docs.kernel.org/admin-guide/cgroup-v2.html). Both are 0
// where the system does not tell.
func MachineMemory() (total, available int64) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	total, available = field(text, "MemTotal:")<<10, field(text, "MemAvailable:")<<10
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return total, available
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		root, limitFile, usageFile, cacheField := "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
		if parts[1] == "memory" {
			root, limitFile, usageFile, cacheField = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
		} else if parts[0] != "0" {
			continue
		}
		for group := path.Clean("/" + parts[2]); ; group = path.Dir(group) { // a limit of a parent counts too
			dir := path.Join(root, group)
			if limit := number(path.Join(dir, limitFile)); limit > 0 {
				stat, _ := os.ReadFile(path.Join(dir, "memory.stat"))
				used := number(path.Join(dir, usageFile)) - field(stat, cacheField) // what is cached of files gives way
				total, available = min(total, limit), min(available, max(0, limit-used))
			}
			if group == "/" {
				break
			}
		}
	}
	return total, available
}

// number is the number that a file holds, 0 if it holds none ("max").
func number(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// field is the first number of the line that begins with name, 0 without one.
func field(text []byte, name string) int64 {
	for line := range strings.Lines(string(text)) {
		if parts := strings.Fields(line); len(parts) > 1 && parts[0] == name {
			n, _ := strconv.ParseInt(parts[1], 10, 64)
			return n
		}
	}
	return 0
}

// PeakRSS is the most memory that the process ever held, in bytes; 0 where the system does not say.
func PeakRSS() float64 { return float64(status("VmHWM:")) }

// presentRSS is the memory that the process holds.
func presentRSS() int64 { return status("VmRSS:") }

func status(name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	return min(field(text, name), math.MaxInt64>>10) << 10
}
