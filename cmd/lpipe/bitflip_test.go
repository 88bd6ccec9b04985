package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/cache"
)

// flipPipeline has a bit of everything: an added file and folder, files, a folder and an executable as outputs, an
// experiment, a remote. The last stage keeps the journal as it stood then.
const flipPipeline = `
lpipe { link = ["copy"] }
variable "word" { default = "one" }
source "data" { path = "data.txt" }
source "docs" { path = "docs" }
stage "shell" "upper" {
  in      = { data = source.data.path }
  out     = { text = "build/upper.txt" }
  command = "tr a-z A-Z < data.txt > build/upper.txt"
}
stage "shell" "tree" {
  in      = { docs = source.docs.path }
  out     = { all = "build/tree/" }
  command = "mkdir -p build/tree/sub && cp docs/* build/tree/sub && cp data.txt build/tree/run && chmod +x build/tree/run"
}
stage "shell" "large" {
  in      = { text = stage.upper.text }
  out     = { data = "build/large.bin" }
  command = "yes 0123456789 | head -c 1100000 > build/large.bin"
}
stage "shell" "last" {
  in      = { all = stage.tree.all, data = stage.large.data }
  out     = { text = "build/last.txt", numbers = { path = "build/numbers.json", cache = true } }
  metrics = ["numbers"]
  command = "cat build/tree/sub/* > build/last.txt; echo '{\"n\": 3}' > build/numbers.json; cp .lpipe/journal $KEEP || true"
  pass_env = ["KEEP"]
}
stage "shell" "tried" {
  out     = { metrics = "build/tried.json" }
  metrics = ["metrics"]
  command = "echo '{\"length\": ${length(var.word)}}' > build/tried.json"
}
experiment "words" {
  targets = ["tried"]
  matrix  = { word = ["a", "bb"] }
  metric  = "tried.length"
}
remote "dir" "nas" { path = "../bucket" }
`

// flips is a folder with a project, "a", and its remote, "bucket".
type flips struct {
	t    *testing.T
	root string
	want map[string]string // outputs and sources by path
}

func newFlips(t *testing.T) *flips {
	f := &flips{t: t, root: t.TempDir()}
	write(t, f.at("a/pipeline.hcl"), flipPipeline)
	write(t, f.at("a/data.txt"), "some text of the project\n")
	write(t, f.at("a/docs/x.txt"), "x\n")
	write(t, f.at("a/docs/y.txt"), strings.Repeat("y", 300)+"\n")
	f.must("a", "add")
	f.must("a", "repro")
	write(t, f.at("a/build/last.txt"), "edited by hand\n")
	f.must("a", "repro")
	f.must("a", "exp", "run", "words")
	f.must("a", "push")
	write(t, f.at("z/pipeline.hcl"), `lpipe { cache = "../a/.lpipe/cache" }`) // another project with the same cache
	f.must("z", "status")
	f.want = f.outputs("a")
	return f
}

func (f *flips) at(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// run runs a command in a folder, in process, and returns its exit code and all that it printed.
func (f *flips) run(dir string, args ...string) (int, string) {
	var out bytes.Buffer
	p := &program{stdin: strings.NewReader(""), stdout: &out, stderr: &out,
		lookupEnv: func(string) (string, bool) { return "", false },
		environ: func() []string {
			return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.root, "KEEP=" + f.at("journal")}
		}}
	code := p.run(f.t.Context(), append([]string{"lpipe", "-C", f.at(dir)}, args...))
	return code, out.String()
}

func (f *flips) must(dir string, args ...string) {
	f.t.Helper()
	if code, out := f.run(dir, args...); code != 0 {
		f.t.Fatalf("lpipe %v: exit %d\n%s", args, code, out)
	}
}

// outputs are the files of a project that a stage made or a source names.
func (f *flips) outputs(dir string) map[string]string {
	found := map[string]string{}
	for _, top := range []string{"build", "docs", "data.txt"} {
		filepath.WalkDir(f.at(dir+"/"+top), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				data, _ := os.ReadFile(path)
				rel, _ := filepath.Rel(f.at(dir), path)
				found[rel] = string(data)
			}
			return nil
		})
	}
	return found
}

// right compares what stands in a project with what must: nothing may be wrong, and with all nothing may be missing.
func (f *flips) right(what, dir string, all bool) {
	f.t.Helper()
	got := f.outputs(dir)
	for name, text := range got {
		if text != f.want[name] {
			f.t.Fatalf("%s: %s is not what it was", what, name)
		}
	}
	if all && len(got) != len(f.want) {
		f.t.Fatalf("%s: %d files, not %d", what, len(got), len(f.want))
	}
}

// copyOf copies project and remote, so that a flip's consequences end with it.
func (f *flips) copyOf() *flips {
	g := &flips{t: f.t, root: f.t.TempDir(), want: f.want}
	if out, err := exec.Command("cp", "-a", f.root+"/.", g.root).CombinedOutput(); err != nil {
		f.t.Fatalf("%v\n%s", err, out)
	}
	return g
}

func (f *flips) read(name string) []byte {
	f.t.Helper()
	data, err := os.ReadFile(f.at(name))
	if err != nil {
		f.t.Fatal(err)
	}
	return data
}

// flip changes bit i of a file and returns what puts it back.
func (f *flips) flip(name string, i int) (back func()) {
	f.t.Helper()
	path := f.at(name)
	info, err := os.Stat(path)
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	put := func(data []byte) {
		os.Chmod(path, 0o644)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			f.t.Fatal(err)
		}
		os.Chmod(path, info.Mode())
		os.Chtimes(path, info.ModTime(), info.ModTime())
	}
	bad := slices.Clone(data)
	bad[i/8] ^= 1 << (i % 8)
	put(bad)
	return func() { put(data) }
}

// files lists the files below a folder with their sizes, without empty ones and those that nothing reads as truth: logs
// and events for people, what may be deleted, locks.
func (f *flips) files(top string) map[string]int {
	found := map[string]int{}
	filepath.WalkDir(f.at(top), func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(f.root, path)
		if err != nil {
			f.t.Fatal(err)
		}
		if d.IsDir() {
			if name := d.Name(); name == "runs" || name == "build" || name == "docs" || name == "remotes" || name == "scratch" {
				return fs.SkipDir
			}
			return nil
		}
		info, _ := d.Info()
		if name := d.Name(); info.Size() > 0 && d.Type().IsRegular() && name != "stages.json" && name != "stat" && name != "pipeline.hcl" &&
			name != "data.txt" && name != ".gitignore" && name != "exp.state" && name != "guard" && !strings.HasPrefix(rel, "bucket/locks") {
			found[rel] = int(info.Size())
		}
		return nil
	})
	return found
}

// positions are the bits that are tried of a file: one in each byte of a small one, some of a large one.
func positions(size int) (bits []int) {
	step := max(1, size/24)
	if size <= 160 {
		step = 1
	}
	for i := 0; i < size; i += step {
		bits = append(bits, 8*i+i%8)
	}
	return append(bits, 8*size-1)
}

// One bit flipped anywhere in what lpipe keeps: fsck names the file.
func TestFsckFindsEveryBit(t *testing.T) {
	t.Parallel()
	f := newFlips(t)
	f.must("a", "fsck", "--full")
	f.must("a", "fsck", "--remote", "nas", "--full")
	tried := 0
	check := func(name string, size int, args ...string) {
		for _, bit := range positions(size) {
			back := f.flip(name, bit)
			code, out := f.run("a", args...)
			if base := filepath.Base(name); code == 0 || !strings.Contains(out, base) {
				t.Errorf("%s, bit %d: lpipe %v: exit %d\n%s", name, bit, args, code, out)
			}
			back()
			tried++
		}
	}
	files := f.files("a")
	own := cache.Sum([]byte(f.at("a"))).String()[:32]
	delete(files, "a/.lpipe/cache/projects/"+own) // is put right by each command of the project
	delete(files, "a/.lpipe/state")               // costs at worst that files are hashed again
	delete(files, "a/.lpipe/decoded")             // these two are compared with their checksums at each use, and made again
	delete(files, "a/.lpipe/fresh")
	for _, must := range []string{"a/pipeline.lock", "a/.lpipe/pins", "a/.lpipe/cache/format", "a/.lpipe/exp/words/experiment.json"} {
		if files[must] == 0 {
			t.Errorf("there is no %s", must)
		}
	}
	for name, size := range files {
		check(name, size, "fsck", "--full")
	}
	for name, size := range f.files("bucket") {
		check(name, size, "fsck", "--remote", "nas", "--full")
	}
	journal, err := os.ReadFile(f.at("journal"))
	if err != nil || len(journal) == 0 {
		t.Fatal("no journal was kept", err)
	}
	write(t, f.at("a/.lpipe/journal"), string(journal))
	check("a/.lpipe/journal", len(journal), "fsck")
	t.Logf("%d bits flipped", tried)
}

// What is remembered of the pipeline and of a run with nothing to do is never taken where a bit of it is wrong.
func TestFlippedMemoryIsForgotten(t *testing.T) {
	t.Parallel()
	f := newFlips(t)
	f.must("a", "repro")
	_, graph := f.run("a", "graph", "--format", "json")
	for _, name := range []string{"a/.lpipe/decoded", "a/.lpipe/fresh"} {
		if _, err := os.Stat(f.at(name)); err != nil {
			continue // not written while the project's files are too young to trust their times
		}
		for _, bit := range positions(len(f.read(name))) {
			back := f.flip(name, bit)
			if code, out := f.run("a", "graph", "--format", "json"); code != 0 || out != graph {
				t.Fatalf("%s, bit %d: exit %d\n%s", name, bit, code, out)
			}
			if code, out := f.run("a", "repro", "--json"); code != 0 || !strings.Contains(out, `"ran":0`) {
				t.Fatalf("%s, bit %d: exit %d\n%s", name, bit, code, out)
			}
			back()
		}
	}
	f.right("after all", "a", true)
}

// Whatever is flipped, checkout, repro and pull never leave wrong bytes, and after fsck --repair all comes back.
func TestFlippedBitsAreNeverHandedOut(t *testing.T) {
	t.Parallel()
	origin := newFlips(t)
	tried := 0
	for name, size := range origin.files("a") {
		for _, bit := range []int{4 * size, 8*size - 2} {
			tried++
			f := origin.copyOf()
			f.flip(name, bit)
			what := fmt.Sprintf("%s, bit %d", name, bit)
			os.RemoveAll(f.at("a/build"))
			f.run("a", "checkout")
			f.right(what+", checkout", "a", false)
			if _, out := f.run("a", "fsck", "--repair", "--full"); strings.Contains(name, "cache/format") && bit == 4*size {
				continue // the version itself, if it is: another lpipe's cache
			} else if code, again := f.run("a", "fsck", "--full"); code != 0 {
				t.Errorf("%s: fsck --repair left\n%s\nof\n%s", what, again, out)
			}
			f.must("a", "repro", "--no-remote")
			f.must("a", "pull")
			f.right(what+", repaired", "a", true)
		}
	}
	t.Logf("%d flips in the project", tried)
}

// The same for what lies in the bucket.
func TestFlippedBitsOfARemoteAreNeverPulled(t *testing.T) {
	t.Parallel()
	origin := newFlips(t)
	for name, size := range origin.files("bucket") {
		for _, bit := range []int{5, 4 * size, 8*size - 2} {
			f := origin.copyOf()
			f.flip(name, bit)
			what := fmt.Sprintf("%s, bit %d", name, bit)
			clone := func(to string) {
				write(t, f.at(to+"/pipeline.hcl"), flipPipeline)
				lock, _ := os.ReadFile(f.at("a/pipeline.lock"))
				write(t, f.at(to+"/pipeline.lock"), string(lock))
			}
			clone("b")
			f.run("b", "pull")
			f.right(what+", pull", "b", false)
			if code, out := f.run("a", "fsck", "--remote", "nas", "--full", "--repair"); code != 0 {
				t.Errorf("%s: fsck --repair: exit %d\n%s", what, code, out)
			}
			f.must("a", "fsck", "--remote", "nas", "--full")
			f.must("a", "push")
			clone("c")
			f.must("c", "pull")
			f.right(what+", repaired", "c", true)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
