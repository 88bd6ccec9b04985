package runner

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"lpipe/cache"
)

// unhexed is a golden file of hex.Dump.
func unhexed(f *testing.F, path string) []byte {
	var all []byte
	for line := range strings.Lines(string(seedOf(f, path))) {
		text, _, _ := strings.Cut(line[min(10, len(line)):], "|")
		b, err := hex.DecodeString(regexp.MustCompile(`\s`).ReplaceAllString(text, ""))
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// FuzzFresh: whatever stands in .lpipe/fresh behind a checksum that fits is read without a panic, or refused.
func FuzzFresh(f *testing.F) {
	golden := unhexed(f, "testdata/formats/fresh.hex")
	if _, _, err := decodeBasis(freshMagic, golden); err != nil {
		f.Fatal(err)
	}
	f.Add(golden[basisHead:])
	f.Fuzz(func(t *testing.T, data []byte) {
		whole := binary.LittleEndian.AppendUint64([]byte(freshMagic), uint64(len(data)))
		whole = append(binary.LittleEndian.AppendUint32(whole, crc32.Checksum(data, castagnoli())), data...)
		on, answer, err := decodeBasis(freshMagic, whole)
		if err != nil {
			return
		}
		on.marks.Hold("testdata")
		on.marks.Differing("testdata", 10)
		rest := reader{b: answer}
		readReport(&rest)
		decodeVouched(&rest)
		readOutline(rest, 3, 3)
	})
}

// FuzzRungs: whatever a kill or a person left of the metrics at the rungs, what counts of it is the same once it is written anew.
func FuzzRungs(f *testing.F) {
	key := cache.SumKey("a")
	head := string(compact(watchHead{experimentSchema, key, "train.loss"})) + "\n"
	f.Add([]byte(head + `{"step":1,"of":8,"told":true,"value":2.5}` + "\n" + `{"step":4}` + "\n" + `{"step":4,"told":true}` + "\n" + `{"st`))
	f.Add([]byte(head + `{"step":-1e308,"told":true}` + "\n" + `{"step":1e308,"value":null}` + "\n"))
	f.Add([]byte(`{"schema":9}`))
	path := filepath.Join(f.TempDir(), "rungs.jsonl")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		open := func() *watch {
			w := &watch{halving: &Halving{Metric: "train.loss", Goal: "min", Rungs: []float64{2, 4}, Keep: 0.5}, limit: 1, path: path}
			w.open(key)
			return w
		}
		w := open()
		if err := w.create(); err != nil {
			t.Fatal(err)
		}
		w.close()
		if again := open(); !reflect.DeepEqual(again.told, w.told) || again.at.Step != w.at.Step {
			t.Errorf("%v, at %v\nread back as %v, at %v", w.told, w.at, again.told, again.at)
		}
		(&ExperimentRecord{State: "stopped at rung 1"}).StoppedCurve(filepath.Dir(path))
	})
}

// FuzzMetrics: whatever a stage writes as its metrics is numbers with names, or an error.
func FuzzMetrics(f *testing.F) {
	f.Add([]byte(`{"a": {"b": [1, "NaN", null]}, "": 2}`), false)
	f.Add([]byte("{\"a\": 1}\n{\"a\": 2}\n\n"), true)
	f.Fuzz(func(t *testing.T, data []byte, lines bool) {
		extension := ".json"
		if lines {
			extension = ".jsonl"
		}
		metrics, err := ParseMetrics(data, extension)
		if err != nil && len(metrics) > 0 {
			t.Error(metrics, err)
		}
	})
}

// FuzzRuns: the events of a run and the durations of stages are for people: whatever stands there, there is something to show.
func FuzzRuns(f *testing.F) {
	f.Add([]byte(`{"event":"stage","how":"ran","stage":"a","time":"2026-01-02T03:04:05Z"}`+"\n"+`{"event":"done"`), []byte(`{"a":{"seconds":1}}`))
	f.Add([]byte("null\n[]\n{\"event\":1}\n"), []byte("null"))
	dir := f.TempDir()
	id := "20260102-030405-abcd"
	run, durations := filepath.Join(dir, ".lpipe", "runs", id), filepath.Join(dir, ".lpipe", "stages.json")
	if err := os.MkdirAll(run, 0o777); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, events, stages []byte) {
		for path, data := range map[string][]byte{filepath.Join(run, "events.jsonl"): events, durations: stages} {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		infos, err := Runs(dir)
		if err != nil || len(infos) != 1 || infos[0].ID != id {
			t.Fatal(infos, err)
		}
		m := readMemory(durations)
		m.set("new", stageMemory{Seconds: 1})
		if err := m.save(); err != nil {
			t.Fatal(err)
		}
		if again := readMemory(durations); fmt.Sprint(again.stages) != fmt.Sprint(m.stages) {
			t.Errorf("%v is read back as %v", m.stages, again.stages)
		}
	})
}
