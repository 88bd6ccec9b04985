package main

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe, or a device as /dev/null, is written to; a file in its place would take it from everybody.
func TestOutputThatIsNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("no named pipes here:", err)
	}
	read := make(chan string)
	go func() {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		read <- string(data)
	}()
	f, finish, err := atomicFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "through the pipe"); err != nil {
		t.Error(err)
	}
	if err := finish(nil); err != nil {
		t.Error(err)
	}
	if got := <-read; got != "through the pipe" {
		t.Errorf("read %q", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe became %v %v", info.Mode(), err)
	}
}
