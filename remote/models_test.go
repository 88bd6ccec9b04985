package remote

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"lpipe/cache"
)

// register adds a version with a file of its own as content.
func register(t *testing.T, r *Remote, c *cache.Cache, name, text string) *ModelEntry {
	t.Helper()
	path := t.TempDir() + "/adapter"
	noError(t, os.WriteFile(path, []byte(text), 0o644))
	content, err := c.Add(t.Context(), nil, path, cache.AddOptions{})
	noError(t, err)
	_, err = r.Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	e, err := r.AppendModel(t.Context(), name, func(log []ModelEntry) (*ModelEntry, error) {
		return &ModelEntry{Version: len(log) + 1, Content: &content}, nil
	})
	noError(t, err)
	return e
}

func TestModelLog(t *testing.T) {
	buckets(t, func(t *testing.T, b Bucket) {
		c := newCache(t)
		r := New(b, c, Options{})
		register(t, r, c, "qwen-sft", "one")
		second := register(t, r, c, "qwen-sft", "two")
		register(t, r, c, "other", "three")
		names, err := r.ModelNames(t.Context())
		noError(t, err)
		log, err := r.ModelLog(t.Context(), "qwen-sft")
		noError(t, err)
		if fmt.Sprint(names) != "[other qwen-sft]" || len(log) != 2 || log[1].Seq != 2 || log[1].Content.ID != second.Content.ID || log[0].Before != (cache.ID{}) || log[1].Before.IsZero() {
			t.Errorf("names %v, log %+v", names, log)
		}
		if log, err := r.ModelLog(t.Context(), "none"); err != nil || len(log) != 0 {
			t.Errorf("of a name that is not there: %v %v", log, err)
		}
	})
}

func TestManyAppendToOneModelLog(t *testing.T) {
	b, c := newMemory(), newCache(t)
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			_, err := New(b, c, Options{}).AppendModel(t.Context(), "m", func(log []ModelEntry) (*ModelEntry, error) {
				return &ModelEntry{Version: len(log) + 1, User: fmt.Sprint(i)}, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	log, err := New(b, c, Options{}).ModelLog(t.Context(), "m")
	users := map[string]bool{}
	for _, e := range log {
		users[e.User] = true
	}
	if err != nil || len(log) != 8 || len(users) != 8 {
		t.Errorf("%d entries by %d: %v", len(log), len(users), err)
	}
}

// The log is only appended to: whoever changes or removes an entry is found out.
func TestModelLogThatWasChanged(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{})
	for _, text := range []string{"one", "two", "three"} {
		register(t, r, c, "m", text)
	}
	name := modelName("m", 2)
	was := b.names[name]
	for what, now := range map[string][]byte{
		"changed": []byte(strings.Replace(string(was), `"version":2`, `"version":9`, 1)), "cut": was[:len(was)-5], "of another version": []byte(strings.Replace(string(was), "model 1", "model 2", 1)),
	} {
		b.names[name] = now
		if _, err := r.ModelLog(t.Context(), "m"); !errors.Is(err, cache.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	delete(b.names, name)
	if _, err := r.ModelLog(t.Context(), "m"); !errors.Is(err, cache.ErrDamaged) {
		t.Errorf("removed: %v", err)
	}
}

func TestModelEntriesOfStrangersDoNotCount(t *testing.T) {
	b, c := newMemory(), newCache(t)
	public, private, err := ed25519.GenerateKey(nil)
	noError(t, err)
	ours := New(b, c, Options{Trust: []ed25519.PublicKey{public}})
	ours.SignWith(private)
	register(t, ours, c, "m", "one")
	stranger := New(b, c, Options{})
	register(t, stranger, c, "m", "two")
	log, err := ours.ModelLog(t.Context(), "m")
	noError(t, err)
	if log[0].Problem != nil || !errors.Is(log[1].Problem, cache.ErrUntrusted) || log[0].Signers[0] != FormatKey(public) {
		t.Errorf("%+v", log)
	}
	// A signature holds for one name only.
	b.names[modelName("n", 1)] = b.names[modelName("m", 1)]
	if log, err := ours.ModelLog(t.Context(), "n"); err != nil || log[0].Problem == nil {
		t.Errorf("an entry of another name: %+v %v", log, err)
	}
}

func TestGCKeepsRegisteredModels(t *testing.T) {
	b, c := newMemory(), newCache(t)
	r := New(b, c, Options{})
	e := register(t, r, c, "m", strings.Repeat("weights", 1000))
	path := t.TempDir() + "/f"
	noError(t, os.WriteFile(path, []byte("nobody needs this"), 0o644))
	content, err := c.Add(t.Context(), nil, path, cache.AddOptions{})
	noError(t, err)
	_, err = r.Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	_, err = r.GC(t.Context(), cache.GCRoots{}, GCOptions{Delete: true, Grace: -1})
	noError(t, err)
	lacking, err := New(b, newCache(t), Options{}).Lacks(t.Context(), []cache.Content{*e.Content, content})
	if err != nil || len(lacking) != 1 || lacking[0] != content {
		t.Errorf("the bucket lacks %v: %v", lacking, err)
	}
}
