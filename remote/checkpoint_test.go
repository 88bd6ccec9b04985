package remote

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
)

// TestCheckpoints: the last two of a key stay; the newest good and trusted one is brought, whole, or none.
func TestCheckpoints(t *testing.T) {
	ctx, bucket := t.Context(), newMemory()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	open := func(o Options) *Remote {
		c, err := cache.Open(t.Context(), cache.Options{Dir: filepath.Join(t.TempDir(), "cache")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		o.Retry = quick
		return New(bucket, c, o)
	}
	key, other := cache.SumKey("stage"), cache.SumKey("other")
	from := t.TempDir()
	sender := open(Options{Host: "spot"})
	sender.SignWith(private)
	send := func(r *Remote, name string) {
		t.Helper()
		path := filepath.Join(from, name)
		if err := os.WriteFile(path, []byte("what stands in "+name), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := r.SendCheckpoint(ctx, key, path); err != nil {
			t.Fatal(err)
		}
	}
	to := t.TempDir()
	bring := func(r *Remote, than, want string) error {
		t.Helper()
		name, err := r.BringCheckpoint(ctx, key, to, than)
		if name != want {
			t.Errorf("behind %q there is %q, want %q (%v)", than, name, want, err)
		}
		if text, _ := os.ReadFile(filepath.Join(to, name)); name != "" && string(text) != "what stands in "+name {
			t.Errorf("%s holds %q", name, text)
		}
		return err
	}
	taker := open(Options{Trust: []ed25519.PublicKey{public}})
	bring(taker, "", "")
	for _, name := range []string{"step-1", "step-2", "step-3"} {
		send(sender, name)
	}
	var names []string
	for name := range bucket.names {
		names = append(names, strings.TrimPrefix(name, "checkpoints/"+key.String()+"/"))
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "step-2 step-2.json step-3 step-3.json" {
		t.Errorf("the bucket holds %s", got)
	}
	bring(taker, "step-2", "step-3")
	bring(taker, "step-3", "")
	if name, err := taker.BringCheckpoint(ctx, other, to, ""); name != "" || err != nil {
		t.Errorf("another key has %q, %v", name, err)
	}

	// A stranger's is passed over where only some are trusted, and taken where everybody is.
	send(open(Options{}), "step-4")
	bring(taker, "", "step-3")
	bring(open(Options{}), "", "step-4")
	if err := bring(taker, "step-3", ""); !errors.Is(err, cache.ErrUntrusted) {
		t.Errorf("the error is %v", err)
	}
	// A signature for other bytes, and bytes that are not those signed.
	folder := checkpointFolder(key)
	bucket.names[folder+"step-5"] = bucket.names[folder+"step-3"]
	bucket.names[folder+"step-5.json"] = []byte(strings.ReplaceAll(string(bucket.names[folder+"step-3.json"]), "step-3", "step-5"))
	bring(taker, "", "step-3")
	delete(bucket.names, folder+"step-5.json")
	bucket.names[folder+"step-3"][3] ^= 1
	if err := bring(taker, "", ""); !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("the error is %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(to, ".step*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestCheckpointOfNegativeSize: a record that promises fewer bytes than none is damaged, its file is not asked for, and the one
// before it is brought.
func TestCheckpointOfNegativeSize(t *testing.T) {
	ctx, key, bucket := t.Context(), cache.SumKey("stage"), newMemory()
	r := New(bucket, newCache(t), Options{Retry: quick})
	from := t.TempDir()
	for _, name := range []string{"step-1", "step-2"} {
		noError(t, os.WriteFile(filepath.Join(from, name), []byte(name), 0o666))
		noError(t, r.SendCheckpoint(ctx, key, filepath.Join(from, name)))
	}
	file := checkpointFolder(key) + "step-2"
	record := strings.Replace(string(bucket.names[file+recordEnding]), `"size":6`, `"size":-1`, 1)
	if !strings.Contains(record, "-1") {
		t.Fatalf("the record is %s", record)
	}
	bucket.names[file+recordEnding], bucket.did = []byte(record), nil
	if name, err := r.BringCheckpoint(ctx, key, t.TempDir(), "step-1"); name != "" || !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("%q was brought, %v", name, err)
	}
	if name, err := r.BringCheckpoint(ctx, key, t.TempDir(), ""); name != "step-1" || err != nil {
		t.Errorf("%q was brought, %v", name, err)
	}
	if slices.Contains(bucket.did, "get "+file) {
		t.Errorf("its file was asked for: %v", bucket.did)
	}
}

// TestCheckpointSendKilled: after any failing request of a send, what was there before can still be brought.
func TestCheckpointSendKilled(t *testing.T) {
	ctx, key := t.Context(), cache.SumKey("stage")
	path := func(name string) string {
		p := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(p, []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for n := 1; ; n++ {
		bucket := newMemory()
		c, err := cache.Open(t.Context(), cache.Options{Dir: filepath.Join(t.TempDir(), "cache")})
		if err != nil {
			t.Fatal(err)
		}
		r := New(bucket, c, Options{Retry: Retry{Attempts: 1}})
		for _, name := range []string{"step-1", "step-2"} {
			if err := r.SendCheckpoint(ctx, key, path(name)); err != nil {
				t.Fatal(err)
			}
		}
		left := n
		bucket.fault = func(string, string) error {
			if left--; left == 0 {
				return &Error{Kind: Network, Err: errors.New("cut")}
			}
			return nil
		}
		sent := r.SendCheckpoint(ctx, key, path("step-3"))
		bucket.fault = nil
		name, err := r.BringCheckpoint(ctx, key, t.TempDir(), "")
		if err != nil || name != "step-2" && name != "step-3" {
			t.Errorf("request %d failed: %q, %v", n, name, err)
		}
		c.Close()
		if sent == nil {
			if n < 4 {
				t.Errorf("there were only %d requests", n-1)
			}
			break
		}
	}
}

// TestCheckpointGC: checkpoints of stages without a result stay for a month.
func TestCheckpointGC(t *testing.T) {
	ctx, bucket := t.Context(), newMemory()
	c, err := cache.Open(t.Context(), cache.Options{Dir: filepath.Join(t.TempDir(), "cache")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := New(bucket, c, Options{Retry: quick})
	path := filepath.Join(t.TempDir(), "step-1")
	if err := os.WriteFile(path, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := r.SendCheckpoint(ctx, cache.SumKey("stage"), path); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[time.Duration]int{29: 0, 31: 1} {
		report, err := r.GC(ctx, cache.GCRoots{}, GCOptions{Now: time.Now().Add(days * 24 * time.Hour)})
		if err != nil || report.Checkpoints != want {
			t.Errorf("after %d days %d checkpoints would go, %v", days, report.Checkpoints, err)
		}
	}
}
