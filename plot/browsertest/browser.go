// Package browsertest opens pages in a Chromium of this machine, for tests of what a browser makes of them.
package browsertest

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Browser opens pages of a folder, from file://, and finds no host.
type Browser struct {
	t       testing.TB
	program string
	dir     string
}

// Open finds a Chromium; without one the test is skipped. tools/test.sh installs it where it can.
func Open(t testing.TB, dir string) *Browser {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return &Browser{t, path, dir}
		}
	}
	t.Skip("there is no Chromium on this machine (Debian: apt-get install chromium); the page's text is checked without")
	return nil
}

// Run opens a page, which may have a #fragment behind its name, with further arguments, and returns what the browser prints.
func (b *Browser) Run(page string, args ...string) []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	args = append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
		"--user-data-dir=" + filepath.Join(b.dir, "profile"), "--host-resolver-rules=MAP * ~NOTFOUND"}, args...)
	cmd := exec.CommandContext(ctx, b.program, append(args, "file://"+filepath.Join(b.dir, page))...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", filepath.Base(b.program), err, log.String())
	}
	return out
}

// DOM is a page as it stands after its scripts ran.
func (b *Browser) DOM(page string) string {
	b.t.Helper()
	return string(b.Run(page, "--dump-dom"))
}
