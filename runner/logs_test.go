package runner

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// An empty log that was given back is renamed for the next stage, one with text stays, and so does what an earlier attempt wrote.
func TestSpareLogs(t *testing.T) {
	dir := t.TempDir()
	var s spareLogs
	at := func(name string) string { return filepath.Join(dir, name+".log") }
	write := func(name, text string) {
		t.Helper()
		f, err := s.open(at(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("loud", "first\n")
	write("silent", "")
	if s.reuse(at("loud")) || !s.reuse(at("silent")) || s.reuse(at("none")) {
		t.Error("only the empty log is to be taken back")
	}
	write("loud", "second\n") // the spare one is not put over it
	write("next", "next\n")
	if data, err := os.ReadFile(at("loud")); err != nil || string(data) != "first\nsecond\n" {
		t.Errorf("loud: %q, %v", data, err)
	}
	write("a", "")
	s.reuse(at("a"))
	write("b", "of b\n")
	if standsAt(at("a")) || !standsAt(at("b")) {
		t.Error("a spare log was not renamed for the next stage")
	}
	write("c", "")
	s.reuse(at("c"))
	os.Remove(at("c")) // somebody tidied up
	write("d", "of d\n")
	if data, err := os.ReadFile(at("d")); err != nil || string(data) != "of d\n" {
		t.Errorf("d: %q, %v", data, err)
	}
	write("e", "")
	s.reuse(at("e"))
	s.close()
	if standsAt(at("e")) {
		t.Error("a log that was left over stays")
	}
}

// Who follows a log does not read on in that of another stage.
func TestFollowedLogThatIsRenamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, err := openNamed(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	read := func(want string) {
		t.Helper()
		if text, err := io.ReadAll(log); err != nil || string(text) != want {
			t.Fatalf("%q, %v; want %q", text, err, want)
		}
	}
	read("")
	f.WriteString("of a\n")
	read("of a\n")
	if err := os.Rename(path, filepath.Join(dir, "b.log")); err != nil {
		t.Fatal(err)
	}
	f.WriteString("of b\n")
	read("")
}
