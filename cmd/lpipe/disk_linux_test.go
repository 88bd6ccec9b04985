package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// mountTmpfs gives a file system of its own of that size; options as mount(8) has them.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a full or read-only disk needs a mount of its own, which takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

const diskPipeline = `
stage "shell" "small" {
  out     = { a = "build/small.bin" }
  command = "head -c 200000 /dev/zero > ${self.out.a}"
}
stage "shell" "large" {
  in      = { a = stage.small.a }
  out     = { a = "build/large.bin" }
  command = "head -c 3000000 /dev/zero | tr '\\0' x > ${self.out.a}"
}
`

// A full disk: said once and clearly, nothing lost; with space again, repro goes on.
func TestFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=2m")
	writeText(t, filepath.Join(dir, "pipeline.hcl"), diskPipeline)
	_, stderr, code := run(t, "-C", dir, "repro")
	if code != 1 || !strings.Contains(strings.ToLower(stderr), "no space left") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	mustRun(t, "-C", dir, "fsck", "--full")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=32m"); err != nil {
		t.Fatal(err)
	}
	// Where large filled the disk before small was on record, small was not told as done either.
	told := regexp.MustCompile(`ran +small`).MatchString(stderr)
	if got := ran(t, dir); len(got) == 0 || got[0] != "large" || len(got) > 1 && told {
		t.Errorf("with space again it ran %v, want large, and small only if it was not told as done in\n%s", got, stderr)
	}
	mustRun(t, "-C", dir, "fsck", "--full")
}

// The cache on a full disk of its own: the stage's work is not lost silently, and the message names the cache.
func TestFullCacheDisk(t *testing.T) {
	dir, disk := t.TempDir(), mountTmpfs(t, "size=1m")
	writeText(t, filepath.Join(dir, "pipeline.hcl"), "lpipe {\n  cache = \""+disk+"/cache\"\n}\n"+diskPipeline)
	_, stderr, code := run(t, "-C", dir, "repro")
	if code != 1 || !strings.Contains(strings.ToLower(stderr), "no space left") || !strings.Contains(stderr, disk) {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	mustRun(t, "-C", dir, "fsck", "--full")
}

// A workspace that cannot be written: repro says so; what only looks still works.
func TestReadOnlyWorkspace(t *testing.T) {
	dir := mountTmpfs(t, "size=32m")
	writeText(t, filepath.Join(dir, "pipeline.hcl"), diskPipeline)
	mustRun(t, "-C", dir, "repro")
	writeText(t, filepath.Join(dir, "pipeline.hcl"), strings.ReplaceAll(diskPipeline, "200000", "100000"))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := run(t, "-C", dir, "repro")
	if code != 1 || !strings.Contains(stderr, "read-only") || strings.Count(stderr, "read-only") > 2 {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if stdout := mustRun(t, "-C", dir, "status"); !strings.Contains(stdout, "small") {
		t.Errorf("status printed %q", stdout)
	}
	mustRun(t, "-C", dir, "graph")
	mustRun(t, "-C", dir, "why", "small")
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "-C", dir, "repro")
}

// A cache folder that cannot be made is named, with what would name another.
func TestUnusableCache(t *testing.T) {
	dir := t.TempDir()
	writeText(t, filepath.Join(dir, "file"), "not a folder")
	writeText(t, filepath.Join(dir, "pipeline.hcl"), "lpipe {\n  cache = \"file/cache\"\n}\n"+diskPipeline)
	_, stderr, code := run(t, "-C", dir, "repro")
	if code != 1 || !strings.Contains(stderr, "file/cache") || !strings.Contains(stderr, "LPIPE_CACHE") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
