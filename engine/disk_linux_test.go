package engine

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk: on a disk that holds one checkpoint and not two, the first stays, each later one is warned of, and the run
// ends as on a large disk.
func TestFullDisk(t *testing.T) {
	o := small(t)
	want := snapshot(t, o, train(t, o, 1))
	o.CheckpointSteps = 3
	var c bytes.Buffer
	if err := checkpointOf(t, o).encode(&c); err != nil {
		t.Fatal(err)
	}
	o.Scratch, o.Out = t.TempDir(), filepath.Join(t.TempDir(), "out")
	if err := syscall.Mount("tmpfs", o.Scratch, "tmpfs", 0, fmt.Sprintf("size=%d", c.Len()*3/2)); err != nil {
		t.Skipf("a full disk needs a mount of its own, which takes root: %v", err)
	}
	defer syscall.Unmount(o.Scratch, 0)
	var messages bytes.Buffer
	o.Log = &messages
	if got := snapshot(t, o, train(t, o, 1)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s := messages.String(); strings.Count(s, "no space left") != 2 || strings.Count(s, "training goes on") != 2 {
		t.Errorf("messages: %s", s)
	}
	if names, _ := checkpointFiles(o.Scratch); len(names) != 1 || names[0] != checkpointName(3) {
		t.Errorf("kept %v", names)
	}
}

// checkpointOf is a checkpoint of the run that o describes.
func checkpointOf(t *testing.T, o TrainOptions) *checkpoint {
	t.Helper()
	o.Scratch, o.Out = t.TempDir(), ""
	train(t, o, 1)
	last, err := latestCheckpoint(o.Scratch, func(s string) { t.Error(s) })
	if err != nil || last == nil {
		t.Fatal(err)
	}
	return last
}
