//go:build cuda

package driver

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lpipe/engine/cuda"
)

// open is a machine on the driver that computes on the processor (tools/cuda/fake), and what reads the calls since the last time.
// A real driver keeps no list of calls.
func open(t *testing.T) (m *Machine, calls func() []string) {
	if err := Found(); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "calls")
	t.Setenv("FAKE_CUDA_LOG", path)
	m, err := Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if !strings.Contains(m.Describe().Detail, "kernels on the processor") {
		t.Skip("this is a GPU, whose driver keeps no list of calls")
	}
	return m, func() []string {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		os.Remove(path)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
}

func words(n int, v uint32) []byte {
	var b []byte
	for range n {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// A fetch copies what stood when it began, though what comes later is queued before anybody waits; and what comes after AfterFetch
// cannot change it. Streams of the fake driver keep no step but by events.
func TestFetchIsBesideTheQueue(t *testing.T) {
	m, calls := open(t)
	const n = 1000
	p, err := m.Alloc(4 * n)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for round := range uint32(3) {
		check(m.Upload(p, words(n, 10+round)))
		calls()
		arrived, err := m.Fetch([]cuda.Part{{From: p, Bytes: 40}, {From: p + 80, Bytes: 80}})
		check(err)
		want := []string{"record main 0", "after_event side 0", "download side 40", "download side 80", "record side 0"}
		if round > 0 {
			want = slices.Insert(want, 0, "wait_event side 0") // the memory is used again
		}
		if got := calls(); !slices.Equal(got, want) {
			t.Errorf("a fetch is %q, want %q", got, want)
		}
		check(m.AfterFetch())
		check(m.Upload(p, words(n, 99))) // the next step
		if got, want := calls(), []string{"after_event main 0", "upload main 4000"}; !slices.Equal(got, want) {
			t.Errorf("what changes the values is %q, want %q", got, want)
		}
		check(m.Sync()) // the machine goes on; the fetch is read later
		done := make(chan []byte)
		go func() {
			b, err := arrived()
			if err != nil {
				t.Error(err)
			}
			done <- b
		}()
		if got := <-done; !slices.Equal(got, words(30, 10+round)) {
			t.Errorf("round %d: fetched % x", round, got[:8])
		}
	}
}

// Where the system gives no more pinned memory, a fetch takes other memory.
func TestFetchWithoutPinnedMemory(t *testing.T) {
	m, _ := open(t)
	t.Setenv("FAKE_CUDA_PINNED", "4000")
	const n = 2000
	p, err := m.Alloc(4 * n)
	if err != nil {
		t.Fatal(err)
	}
	for _, count := range []int{n / 4, n, n / 2} {
		if err := m.Upload(p, words(count, uint32(count))); err != nil {
			t.Fatal(err)
		}
		arrived, err := m.Fetch([]cuda.Part{{From: p, Bytes: 4 * count}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := arrived(); err != nil || !slices.Equal(got, words(count, uint32(count))) {
			t.Errorf("%d values: %v, or others", count, err)
		}
	}
}

// Pinned memory is written again only behind its event: many small transfers share a slot, and nobody waits until the ring has come
// round.
func TestStagingWaitsForItsEvents(t *testing.T) {
	m, calls := open(t)
	const size, count = 1 << 20, 40 // more than the ring holds
	p, err := m.Alloc(size * count)
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if err := m.Upload(p+cuda.Pointer(i*size), words(size/4, uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	uploads, recorded, waited := 0, 0, 0
	for _, c := range calls() {
		switch {
		case strings.HasPrefix(c, "upload main"):
			if uploads++; uploads > 32 && waited < (uploads-32+7)/8 {
				t.Errorf("transfer %d uses a slot again that was not waited for", uploads)
			}
		case c == "record main 0":
			recorded++
		case c == "wait_event main 0":
			if waited++; uploads < 32 || waited > recorded-3 {
				t.Errorf("after %d transfers and %d events it waits the %d. time", uploads, recorded, waited)
			}
		default:
			t.Errorf("an upload calls %q", c)
		}
	}
	if uploads != count || waited != 1 {
		t.Errorf("%d transfers, waited %d times", uploads, waited)
	}
	got := make([]byte, size*count)
	if err := m.Download(got, p); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		if !slices.Equal(got[i*size:][:size], words(size/4, uint32(i))) {
			t.Errorf("transfer %d arrived changed", i)
		}
	}
}

// An old driver is named, with what to install: it would refuse the kernels with a number.
func TestOldDriverIsNamed(t *testing.T) {
	if err := Found(); err != nil {
		t.Skip(err)
	}
	t.Setenv("FAKE_CUDA_VERSION", "12080")
	m, err := Open(0)
	if err == nil {
		m.Close()
		t.Skip("this is a GPU, whose driver has its own version")
	}
	if !strings.Contains(err.Error(), "up to 12.8") || !strings.Contains(err.Error(), "driver 580") {
		t.Error(err)
	}
}
