package runner

import (
	"path/filepath"
	"testing"
	"time"
)

// What a loss of power cuts from an append-only file was told to nobody; any other wrong byte is damage and stays to be found.
func TestWithoutTorn(t *testing.T) {
	line := func(text string) string { return lineSum([]byte(text)) + " " + text + "\n" }
	one, two := line(`{"a":1}`), line(`{"b":2}`)
	for name, c := range map[string]struct{ text, want string }{
		"whole":           {one + two, one + two},
		"cut":             {one + two[:9], one},
		"cut in a first":  {one[:3], ""},
		"never written":   {one + two[:9] + "\x00\x00\x00", one},
		"all of it zeros": {"\x00\x00", ""},
		"only the end":    {one + two[:len(two)-1] + "\x00", one},
		"an end flipped":  {one + two[:len(two)-1] + "\v", one + two[:len(two)-1] + "\v"},
		"a wrong line":    {one[:20] + "!" + one[21:] + two, one[:20] + "!" + one[21:] + two},
	} {
		if got := string(withoutTorn([]byte(c.text), goodLine)); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// That a stage began is made durable while it runs, unless it ends at once.
func TestBeginOfALongStageIsDurable(t *testing.T) {
	j, err := openJournal(filepath.Join(t.TempDir(), "journal"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	synced := func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return j.named
	}
	if j.syncAfter(time.Hour)(); synced() {
		t.Error("it is synced for a stage that ended")
	}
	stop := j.syncAfter(time.Millisecond)
	for end := time.Now().Add(time.Minute); !synced() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if stop(); !synced() {
		t.Error("it is not synced for a stage that runs on")
	}
}
