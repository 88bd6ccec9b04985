package spool

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
)

var update = flag.Bool("update", false, "write the golden file anew")

// clock gives one time after the other, the last one for ever.
func clock(times ...int64) func() time.Time {
	return func() time.Time {
		now := times[0]
		times = times[min(1, len(times)-1):]
		return time.UnixMilli(now)
	}
}

func records() []Record {
	id := cache.Sum([]byte("adapter"))
	return []Record{
		{Start: &Start{Name: "repro"}},
		{Tags: map[string]string{"mlflow.user": "ann", "lpipe.host": "box"}},
		{Params: map[string]string{"rank": "16"}},
		{Run: "lora@8", Start: &Start{Name: "lora@8", Key: "efd364a8"}},
		{Run: "lora@8", Metrics: map[string]Number{"validation/loss": 2.5}},
		{Run: "lora@8", Step: 1, Metrics: map[string]Number{"train/loss": 2.25, "train/lr": 1e-05, "odd <name>\n": 1}},
		{Run: "lora@8", Step: 2, Metrics: map[string]Number{"train/loss": Number(math.NaN()), "up": Number(math.Inf(1)), "down": Number(math.Inf(-1))}},
		{Run: "lora@8", Input: &Input{Name: "build/sets/train", Digest: "860555be5a20f46d0966764d03035625", Type: "local", Source: `{"uri":"build/sets/train"}`, As: "training"}},
		{Run: "lora@8", File: &File{Path: "adapter", At: "build/lora/adapter", Model: "peft", Content: cache.Content{ID: id, Dir: true, Size: 1234, Files: 2}}},
		{Run: "lora@8", End: "FINISHED"},
		{End: "FINISHED"},
	}
}

func newSpool(t *testing.T, times ...int64) (*Writer, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spool")
	w, err := Create(t.Context(), dir, Head{ID: "20260102-030405.000-abcdef", URI: "http://127.0.0.1:5000", Experiment: "qwen-lora", State: "b819a141e3ada93d"}, clock(times...))
	if err != nil {
		t.Fatal(err)
	}
	return w, dir
}

func read(t *testing.T, dir string) (all []Record) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, dataFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := newReader(f, 0); ; {
		record, err := r.next()
		if err != nil {
			return all
		}
		all = append(all, record)
	}
}

// The golden file is what doc/format-tracking.md describes.
func TestFormat(t *testing.T) {
	w, dir := newSpool(t, 1767323045000)
	for _, r := range records() {
		w.Append(r)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, dataFile))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "spool-1")
	if *update {
		if err := os.WriteFile(golden, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the spool is\n%s\nwant\n%s", got, want)
	}
	all := read(t, dir)
	if len(all) != len(records())+1 || all[9].File.Files != 2 || !math.IsNaN(float64(all[7].Metrics["train/loss"])) || !math.IsInf(float64(all[7].Metrics["down"]), -1) {
		t.Errorf("read back: %+v", all)
	}
}

// The fast encoder of metrics writes what encoding/json does, and the fast parser reads what it does.
func TestMetricsAreEncodedAsJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		r := Record{Run: []string{"", "lora", "a\"b"}[random.IntN(3)], Time: random.Int64(), Step: random.Int64N(3) - 1, Metrics: map[string]Number{}}
		for range random.IntN(5) {
			name := fmt.Sprintf("n%c%c", rune(random.IntN(300)), rune(random.IntN(70000)))
			r.Metrics[name] = Number(math.Float64frombits(random.Uint64()))
		}
		if len(r.Metrics) == 0 {
			continue
		}
		plain, err := json.Marshal(&r)
		if err != nil {
			t.Fatal(err)
		}
		if fast := r.appendMetrics(nil); !bytes.Equal(fast, plain) {
			t.Fatalf("fast %s\nplain %s", fast, plain)
		}
		read, good := parseMetrics(plain)
		var slow Record
		if err := json.Unmarshal(plain, &slow); err != nil {
			t.Fatal(err)
		}
		if good && fmt.Sprint(read) != fmt.Sprint(slow) || !good && isASCII(plain) && !bytes.ContainsRune(plain, '\\') {
			t.Fatalf("%s is read fast as %v (%v), plainly as %v", plain, read, good, slow)
		}
		good = true
		for end := range plain {
			_, cut := parseMetrics(plain[:end])
			good = good && !cut
		}
		if _, more := parseMetrics(append(plain, '}')); !good || more {
			t.Fatalf("a part of %s is read as a whole", plain)
		}
	}
}

func isASCII(text []byte) bool {
	return !bytes.ContainsFunc(text, func(r rune) bool { return r > '~' })
}

func TestClockThatGoesBackwardsStandsStill(t *testing.T) {
	w, dir := newSpool(t, 1000, 2000, 500, 400, 2500)
	for range 4 {
		w.Append(Record{Tags: map[string]string{"a": "b"}})
	}
	w.Append(Record{Time: 100, Tags: map[string]string{"a": "b"}})
	w.Close()
	w, err := Reopen(t.Context(), dir, clock(3))
	if err != nil {
		t.Fatal(err)
	}
	w.Append(Record{Tags: map[string]string{"a": "b"}})
	w.Close()
	var times []int64
	for _, r := range read(t, dir) {
		times = append(times, r.Time)
	}
	if fmt.Sprint(times) != "[1000 2000 2000 2000 2500 2500 2500]" {
		t.Errorf("times %v", times)
	}
}

// A training run that goes back to its checkpoint tells steps again: they stand once.
func TestStepsAreToldOnce(t *testing.T) {
	w, dir := newSpool(t, 1)
	tell := func(step int64, names ...string) {
		metrics := map[string]Number{}
		for _, name := range names {
			metrics[name] = Number(step)
		}
		w.Append(Record{Run: "lora", Step: step, Metrics: metrics})
	}
	tell(1, "a")
	tell(2, "a", "b")
	tell(3, "a")
	w.Close()
	w, err := Reopen(t.Context(), dir, clock(1))
	if err != nil {
		t.Fatal(err)
	}
	tell(2, "a", "b")
	tell(3, "a", "b") // of b it is new
	tell(4, "a")
	w.Append(Record{Run: "other", Step: 1, Metrics: map[string]Number{"a": 1}})
	w.Close()
	seen := map[string]int{}
	for _, r := range read(t, dir) {
		for name := range r.Metrics {
			seen[fmt.Sprintf("%s %s %d", r.Run, name, r.Step)]++
		}
	}
	if fmt.Sprint(seen) != "map[lora a 1:1 lora a 2:1 lora a 3:1 lora a 4:1 lora b 2:1 lora b 3:1 other a 1:1]" {
		t.Errorf("%v", seen)
	}
}

// Wherever a kill cuts the file, what stood before the cut is read, and writing goes on.
func TestCutAnywhere(t *testing.T) {
	w, dir := newSpool(t, 1)
	for _, r := range records() {
		w.Append(r)
	}
	w.Close()
	whole, err := os.ReadFile(filepath.Join(dir, dataFile))
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(whole[len(fileHead):], '\n') + len(fileHead) + 1
	for cut := first; cut < len(whole); cut += 7 {
		if err := os.WriteFile(filepath.Join(dir, dataFile), whole[:cut], 0o666); err != nil {
			t.Fatal(err)
		}
		lines := bytes.Count(whole[:cut], []byte("\n")) - 1
		w, err := Reopen(t.Context(), dir, clock(1))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		w.Append(Record{Run: "x", Tags: map[string]string{"behind": "the cut"}})
		w.Close()
		all := read(t, dir)
		if len(all) != lines+1 || all[lines].Tags["behind"] == "" {
			t.Fatalf("cut at %d: %d records, want %d and one more", cut, len(all), lines)
		}
	}
}

// A record that is damaged costs itself, not those behind it.
func TestDamagedRecordIsPassedOver(t *testing.T) {
	w, dir := newSpool(t, 1)
	for _, r := range records() {
		w.Append(r)
	}
	w.Close()
	path := filepath.Join(dir, dataFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := len(fileHead); at < len(whole); at += 11 {
		if whole[at] == '\n' || whole[at]^1 == '\n' {
			continue
		}
		harmed := bytes.Clone(whole)
		harmed[at] ^= 1
		if err := os.WriteFile(path, harmed, 0o666); err != nil {
			t.Fatal(err)
		}
		f, _ := os.Open(path)
		good, bad := 0, 0
		for r := newReader(f, 0); ; {
			_, err := r.next()
			if errors.Is(err, cache.ErrDamaged) {
				bad++
				continue
			}
			if err != nil {
				break
			}
			good++
		}
		f.Close()
		if bad != 1 || good != len(records()) {
			t.Fatalf("byte %d: %d good records and %d damaged ones", at, good, bad)
		}
	}
}

func TestReadSaysWhatIsNoSpool(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, dataFile), []byte("lpipe spool 2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(dir); !errors.Is(err, cache.ErrDamaged) || !strings.Contains(err.Error(), "lpipe spool 1") {
		t.Errorf("a spool of another version: %v", err)
	}
}

// BenchmarkStep is what training pays for a step of 100 metrics.
func BenchmarkStep(b *testing.B) {
	w, err := Create(b.Context(), filepath.Join(b.TempDir(), "s"), Head{ID: "x", Experiment: "x"}, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	step := int64(0)
	for b.Loop() {
		step++
		metrics := make(map[string]Number, 100)
		for i := range 100 {
			metrics[names[i]] = Number(float64(step) / float64(i+1))
		}
		w.Append(Record{Run: "lora", Step: step, Metrics: metrics})
	}
}

var names = func() (all [100]string) {
	for i := range all {
		all[i] = fmt.Sprintf("train/metric_%d", i)
	}
	return all
}()

// What is not sent yet is content that gc must keep; how the run ended is told by the last record alone.
func TestUnsentAndHowItEnded(t *testing.T) {
	w, dir := newSpool(t, 1)
	all := records()
	for _, r := range all[:len(all)-1] {
		w.Append(r)
	}
	info, err := Read(dir)
	if err != nil || info.End != "" {
		t.Errorf("while it goes on: %q %v", info.End, err)
	}
	w.Append(all[len(all)-1])
	w.Close()
	if info, err = Read(dir); err != nil || info.End != "FINISHED" {
		t.Errorf("at its end: %q %v", info.End, err)
	}
	unsent, err := Unsent(filepath.Dir(dir))
	if err != nil || len(unsent) != 1 || unsent[0].Files != 2 {
		t.Errorf("not sent: %v %v", unsent, err)
	}
	sent := ReadSent(dir)
	sent.At = info.Size
	if err := sent.write(dir); err != nil {
		t.Fatal(err)
	}
	if unsent, err = Unsent(filepath.Dir(dir)); err != nil || len(unsent) != 0 {
		t.Errorf("all is sent: %v %v", unsent, err)
	}
}
