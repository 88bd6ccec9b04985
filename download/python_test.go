package download_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/download"
)

// The Python tools find what we downloaded, and we find what they did. LPIPE_TEST_PYTHON names an interpreter that has
// huggingface_hub.
func TestPythonSharesTheCache(t *testing.T) {
	python := os.Getenv("LPIPE_TEST_PYTHON")
	if python == "" {
		t.Skip("LPIPE_TEST_PYTHON names no Python with huggingface_hub")
	}
	b := newBench(t, model(), nil)
	snapshot := func(cache, more string) string {
		t.Helper()
		command := exec.Command(python, "-c", "import huggingface_hub as h\nprint(h.snapshot_download('org/model', "+more+"))")
		command.Env = append(os.Environ(), "HF_ENDPOINT="+b.hub.URL, "HF_HUB_CACHE="+cache, "HF_HUB_DISABLE_XET=1", "HF_HUB_DISABLE_PROGRESS_BARS=1", "HF_TOKEN=")
		out, err := command.Output()
		if failed, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v\n%s", err, failed.Stderr)
		} else if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	b.placed(download.SnapshotOptions{Revision: "main"})
	b.hub.Requests()
	same(t, tree(t, snapshot(b.client.Cache, "local_files_only=True")), model())
	if asked := b.hub.Requests(); len(asked) > 0 {
		t.Errorf("Python asked the hub: %v", asked)
	}

	theirs := filepath.Join(t.TempDir(), "hub")
	snapshot(theirs, "revision='main'")
	o := b.client.Options
	o.Cache = theirs
	b.client = download.New(o)
	b.hub.Requests()
	same(t, b.placed(download.SnapshotOptions{}), model())
	if asked := b.hub.Requests(); slices.ContainsFunc(asked, func(r string) bool { return strings.Contains(r, "resolve") || strings.Contains(r, "storage") }) {
		t.Errorf("downloaded again: %v", asked)
	}
	o.Offline = true
	b.client = download.New(o)
	same(t, b.placed(download.SnapshotOptions{Unlisted: true}), model())
}
