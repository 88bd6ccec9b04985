package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// BenchmarkManyFiles says how long each thing takes that is done with 70,000 small files, beside the least that it could
// (a bare loop over stat, hash, link) and beside git. With -short it takes 7,000.
func BenchmarkManyFiles(b *testing.B) {
	files := 70_000
	if testing.Short() {
		files /= 10
	}
	p := newProject(b)
	p.smallFiles("data", files, 700, 1000, 20_000)
	b.Logf("%d files of 1 to 20 KB in 700 folders, %d processors", files, runtime.GOMAXPROCS(0))
	limit := bareLoops(p)
	var c Content
	timed(b, "add", limit.add, func() { c = p.add("data", true); noError(b, p.state.Save()) })
	timed(b, "status, nothing changed", limit.stat, p.status)
	p.write("data/0/new", "one more")
	timed(b, "status, one changed", limit.stat, p.status)
	noError(b, os.Remove(p.path("data/0/new")))
	p.status()
	timed(b, "add again", limit.stat, func() { p.add("data", true) })
	timed(b, "place, nothing to do", limit.stat, func() { p.place(c, "data") })
	timed(b, "place elsewhere", limit.link, func() { p.place(c, "copy") })
	timed(b, "status after that", limit.stat, func() { p.scan("copy") })
	timed(b, "fsck", 0, func() { fsck(b, p.cache, FsckOptions{}) })
	timed(b, "fsck full", limit.hash, func() { fsck(b, p.cache, FsckOptions{Full: true}) })
	timed(b, "gc preview", 0, func() {
		_, err := p.cache.GC(b.Context(), GCRoots{Contents: []Content{c}}, GCOptions{Grace: -1})
		noError(b, err)
	})
	besideGit(p)
}

// BenchmarkMillionFiles is a status of 1,000,000 files in 10,000 folders where nothing changed.
func BenchmarkMillionFiles(b *testing.B) {
	if testing.Short() {
		b.Log("takes minutes to write; left out with -short")
		return
	}
	p := newProject(b)
	p.smallFiles("data", 1_000_000, 10_000, 10, 11)
	limit := bareStat(p)
	timed(b, "status, nothing known", 0, p.status)
	for range 3 {
		timed(b, "status, nothing changed", limit, p.status)
	}
}

// BenchmarkLargeFiles adds 4 files of 1 GiB and 1 of 4 GiB, beside a bare loop that reads and hashes one on each
// processor. With -short they are smaller.
func BenchmarkLargeFiles(b *testing.B) {
	size := int64(1 << 30)
	if testing.Short() {
		size = 64 << 20
	}
	p := newProject(b)
	for i := range 4 {
		p.randomFile(fmt.Sprintf("four/%d", i), size)
	}
	p.randomFile("one/0", 4*size)
	unix.Sync()
	limit := timed(b, "limit: read, hash", 0, func() {
		sideBySide(4, func(i int) { hashBare(b, p.path(fmt.Sprintf("four/%d", i))) })
	})
	timed(b, "add 4", limit, func() { p.add("four", true) })
	timed(b, "add 1, four times as large", limit, func() { p.add("one", true) })
}

// timed logs wall and processor time of f and, unless limit is 0, how many times it that is.
func timed(t testing.TB, what string, limit time.Duration, f func()) time.Duration {
	var before, after unix.Rusage
	noError(t, unix.Getrusage(unix.RUSAGE_SELF, &before))
	start := time.Now()
	f()
	took := time.Since(start)
	noError(t, unix.Getrusage(unix.RUSAGE_SELF, &after))
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	ratio := ""
	if limit > 0 {
		ratio = fmt.Sprintf("%.2f x limit", took.Seconds()/limit.Seconds())
	}
	t.Logf("%-28s %7.3f s, processor %7.3f s, peak %4d MB  %s", what, took.Seconds(), cpu.Seconds(), after.Maxrss>>10, ratio)
	return took
}

// status is what the command does: the state is read, the folder looked at, the state written.
func (p *project) status() {
	p.Helper()
	var err error
	p.state, err = OpenState(p.path(".lpipe/state"))
	noError(p, err)
	p.scan("data")
	noError(p, p.state.Save())
}

func (p *project) smallFiles(rel string, files, folders, least, most int) {
	p.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	random := rand.NewChaCha8([32]byte{1})
	b := make([]byte, most)
	for i := range folders {
		noError(p, os.MkdirAll(p.path(fmt.Sprintf("%s/%d", rel, i)), 0o755))
	}
	for i := range files {
		n := least + r.IntN(most-least)
		random.Read(b[:n])
		noError(p, os.WriteFile(p.path(fmt.Sprintf("%s/%d/%d.bin", rel, i%folders, i)), b[:n], 0o644))
	}
	unix.Sync()
}

func (p *project) randomFile(rel string, size int64) {
	p.Helper()
	noError(p, os.MkdirAll(filepath.Dir(p.path(rel)), 0o755))
	f, err := os.Create(p.path(rel))
	noError(p, err)
	random := rand.NewChaCha8([32]byte{2})
	b := make([]byte, 1<<20)
	for range size / int64(len(b)) {
		random.Read(b)
		_, err := f.Write(b)
		noError(p, err)
	}
	noError(p, f.Close())
}

// limits are what the work takes without anything of ours.
type limits struct{ stat, hash, link, add time.Duration }

func sideBySide(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				f(int(i))
			}
		})
	}
	wg.Wait()
}

// bareStat lists and stats all files below data.
func bareStat(p *project) time.Duration {
	folders, err := os.ReadDir(p.path("data"))
	noError(p, err)
	return timed(p, "limit: list, stat", 0, func() {
		sideBySide(len(folders), func(i int) {
			f, err := os.Open(p.path("data/" + folders[i].Name()))
			noError(p, err)
			defer f.Close()
			names, err := f.Readdirnames(-1)
			noError(p, err)
			var st unix.Stat_t
			for _, name := range names {
				noError(p, unix.Fstatat(int(f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW))
			}
		})
	})
}

// bareLoops takes what every add must do, each by itself: list and stat, read and hash, link into 256 folders, write
// everything out twice.
func bareLoops(p *project) limits {
	var l limits
	paths, err := filepath.Glob(p.path("data/*/*"))
	noError(p, err)
	l.stat = bareStat(p)
	ids := make([]ID, len(paths))
	l.hash = timed(p, "limit: read, hash", 0, func() { sideBySide(len(paths), func(i int) { ids[i] = hashBare(p, paths[i]) }) })
	l.link = timed(p, "limit: link", 0, func() {
		for i := range 256 {
			noError(p, os.MkdirAll(p.path(fmt.Sprintf("bare/%02x", i)), 0o755))
		}
		sideBySide(len(paths), func(i int) {
			text := ids[i].String()
			noError(p, os.Link(paths[i], p.path("bare/"+text[:2]+"/"+text[2:])))
		})
	})
	sync := timed(p, "limit: sync", 0, func() { unix.Sync() })
	l.add = l.stat + l.hash + l.link + sync
	noError(p, os.RemoveAll(p.path("bare")))
	unix.Sync()
	time.Sleep(2 * tick) // so that the files' times are settled again
	return l
}

func hashBare(t testing.TB, path string) (id ID) {
	f, err := os.Open(path)
	noError(t, err)
	defer f.Close()
	h := blake3.New()
	b := make([]byte, 64<<10)
	for {
		n, err := f.Read(b)
		if err != nil {
			break
		}
		h.Write(b[:n])
	}
	h.Sum(id[:0])
	return id
}

// besideGit does the same with git, where there is one.
func besideGit(p *project) {
	if _, err := exec.LookPath("git"); err != nil {
		p.Log("no git on this machine")
		return
	}
	git := func(args ...string) {
		c := exec.Command("git", append([]string{"-c", "user.name=b", "-c", "user.email=b@localhost"}, args...)...)
		c.Dir = p.path("git")
		if out, err := c.CombinedOutput(); err != nil {
			p.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	noError(p, os.MkdirAll(p.path("git"), 0o755))
	noError(p, os.CopyFS(p.path("git/data"), os.DirFS(p.path("data"))))
	git("init", "-q")
	unix.Sync()
	timed(p, "git add", 0, func() { git("add", "data") })
	git("commit", "-qm", "all")
	time.Sleep(1100 * time.Millisecond) // past git's racy second
	git("status", "-s")
	timed(p, "git status", 0, func() { git("status", "-s") })
	write(p, p.path("git/data/0/new"), "one more", 0o644)
	timed(p, "git status, one changed", 0, func() { git("status", "-s") })
	noError(p, os.RemoveAll(p.path("git/data")))
	timed(p, "git checkout", 0, func() { git("checkout", "-q", "--", "data") })
}
