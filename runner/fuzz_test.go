package runner

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"lpipe/cache"
)

// seedOf reads a file of testdata as the first input of a fuzz target.
func seedOf(f *testing.F, path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	return data
}

// summed gives lines of a text their checksums, without which nothing behind these would be reached.
func summed(text []byte) (all []byte) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		all = append(append(append(all, lineSum(line)+" "...), line...), '\n')
	}
	return all
}

// unsummed is lines without their checksums.
func unsummed(lines []byte) (text []byte) {
	for line := range bytes.Lines(lines) {
		text = append(text, line[min(17, len(line)):]...)
	}
	return text
}

// FuzzJournal: whatever a journal holds, its good part reads the same once more, and appending goes on behind it.
func FuzzJournal(f *testing.F) {
	golden := seedOf(f, "testdata/formats/journal")
	f.Add(golden, false)
	f.Add([]byte(journalHead), false)
	f.Add([]byte(journalHead+"0123456789abcdef {}\n"), false)
	f.Add(unsummed(golden[len(journalHead):]), true)
	path := filepath.Join(f.TempDir(), "journal")
	f.Fuzz(func(t *testing.T, data []byte, sums bool) {
		if sums {
			data = append([]byte(journalHead), summed(data)...)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		entries, good, total, err := readJournal(path)
		if err != nil || good > total || total != int64(len(data)) {
			t.Fatal(good, total, err)
		}
		lock := newLock()
		lock.apply(entries, "")
		if _, err := parseLock("pipeline.lock", lock.encode()); err != nil {
			t.Fatalf("a lock that cannot be read: %v", err)
		}
		j, err := openJournal(path, good)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.append(entry{Begin: "x", Run: "r"}); err != nil {
			t.Fatal(err)
		}
		j.f.Close()
		again, good, total, err := readJournal(path)
		if err != nil || len(again) != len(entries)+1 || good != total {
			t.Fatal(len(entries), len(again), good, total, err)
		}
	})
}

// FuzzPins: damage is an error, never a pin; after mending there is none.
func FuzzPins(f *testing.F) {
	text := compact(Pin{Content: fileOf("x"), Path: "build/x"})
	line := lineSum(text) + " " + string(text) + "\n"
	f.Add([]byte(line+line), false)
	f.Add([]byte(line[:40]+"\n"+line), false)
	f.Add([]byte(string(text)+"\n"), true)
	path := filepath.Join(f.TempDir(), "pins")
	f.Fuzz(func(t *testing.T, data []byte, sums bool) {
		if len(data) > 500 {
			return
		}
		if sums {
			data = summed(data)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		pins, _ := readPins(path)
		again, _ := mendLines(data)
		if err := os.WriteFile(path, again, 0o644); err != nil {
			t.Fatal(err)
		}
		mended, err := readPins(path)
		if err != nil || len(mended) < len(pins) {
			t.Fatalf("%d pins, %d after mending: %v", len(pins), len(mended), err)
		}
	})
}

// FuzzExperiment: records of experiments are read whole, or not.
func FuzzExperiment(f *testing.F) {
	f.Add([]byte(`{"schema":1,"name":"e","instances":{"default":{}}}`))
	dir := f.TempDir()
	if err := writeJSON(filepath.Join(dir, "seed"), &ExperimentRecord{Schema: experimentSchema, State: ExperimentDone}); err != nil {
		f.Fatal(err)
	}
	f.Add(seedOf(f, filepath.Join(dir, "seed")))
	path := filepath.Join(dir, "record.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		var r ExperimentRecord
		if readVersioned(path, &r, func() int { return r.Schema }) != nil {
			return
		}
		if err := writeJSON(path, &r); err != nil {
			return // a value that JSON cannot hold
		}
		var again ExperimentRecord
		if err := readVersioned(path, &again, func() int { return again.Schema }); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDescription: two texts are compared without a fall, and a text does not differ from itself.
func FuzzDescription(f *testing.F) {
	shell, builtin := seedOf(f, "testdata/formats/key-shell.txt"), seedOf(f, "testdata/formats/key-builtin.txt")
	f.Add(shell, builtin)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		compareDescriptions(string(a), string(b), nil)
		if reasons := compareDescriptions(string(a), string(bytes.Clone(a)), nil); len(reasons) > 0 {
			t.Error(reasons)
		}
	})
}

// FuzzYAML: a YAML text becomes a value or an error.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: [1, 2.5, x, null, true]\nb: {c: &x 1, d: *x}\n1: y\n", "- 2026-01-01\n- .nan\n- 0x10", "a: &a [*a]", "{", "? [a]\n: b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		value, err := decodeYAML(text)
		if err == nil && !value.IsWhollyKnown() {
			t.Errorf("%#v", value)
		}
	})
}

// FuzzSalvage: what is saved from a damaged lock is what a lock may hold.
func FuzzSalvage(f *testing.F) {
	f.Add(seedOf(f, "testdata/formats/pipeline.lock"))
	f.Fuzz(func(t *testing.T, data []byte) {
		lock, err := parseLock("pipeline.lock", salvage(data).encode())
		if err != nil {
			t.Fatal(err)
		}
		for path, source := range lock.Sources {
			if source.ID == (cache.ID{}) {
				t.Errorf("%s has no content", path)
			}
		}
	})
}
