package runner

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// lookup finds a variable in an environment; the last one wins, as in exec.
func lookup(environ []string, name string) string {
	value := ""
	for _, pair := range environ {
		if n, v, _ := strings.Cut(pair, "="); n == name {
			value = v
		}
	}
	return value
}

// inherited tells whether shell stages see a variable of lpipe's own environment without asking for it: what a
// program needs to find itself, its user, its caches and the network, and nothing that could change what it computes
// unseen.
func inherited(name string) bool {
	switch name {
	case "PATH", "HOME", "USER", "SHELL", "LANG", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX",
		"HF_HOME", "CUDA_VISIBLE_DEVICES",
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO":
		return true
	}
	return strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "XDG_")
}

// environ is the environment of a stage's child processes, sorted by name, and the values in it that logs must not
// show.
func environ(own []string, step *Step, scratch string, gpus []int) (environ []string, masked []string) {
	open := slices.Contains(step.PassEnv, "*")
	vars := map[string]string{}
	for _, pair := range own {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			continue
		}
		passed := slices.Contains(step.PassEnv, name)
		if open || passed || inherited(name) {
			vars[name] = value
		}
		if passed {
			masked = append(masked, value)
		}
	}
	maps.Copy(vars, step.Env)
	for name, value := range step.SecretEnv {
		vars[name] = value
		masked = append(masked, value)
	}
	vars["LPIPE_SCRATCH"] = scratch
	if gpus != nil {
		vars["CUDA_VISIBLE_DEVICES"] = joinInts(gpus)
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		environ = append(environ, name+"="+vars[name])
	}
	return environ, masked
}

func joinInts(numbers []int) string {
	parts := make([]string, len(numbers))
	for i, n := range numbers {
		parts[i] = strconv.Itoa(n)
	}
	return strings.Join(parts, ",")
}

// available is the RAM of this machine, 0 where it does not say.
func availableRAM() int64 {
	data, err := os.ReadFile(filepath.Join("/proc", "meminfo"))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			return kb * 1024
		}
	}
	return 0
}
