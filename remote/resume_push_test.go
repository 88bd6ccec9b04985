package remote

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lpipe/cache"
)

// TestInterruptedPushIsGoneOnWith: what a push sent before it was interrupted, or up to a minute before it was killed, need not be
// sent again, and until all is there nobody sees the folder.
func TestInterruptedPushIsGoneOnWith(t *testing.T) {
	for how, killed := range map[string]bool{"interrupted": false, "killed": true} {
		t.Run(how, func(t *testing.T) {
			b, mine := newMemory(), newCache(t)
			content := folder(t, mine, 400, 100<<10)
			now := time.Now()
			small := Options{Retry: quick, Jobs: 1, PackSize: 4 << 10, Small: 64 << 10, Now: func() time.Time {
				now = now.Add(40 * time.Second) // at each look
				return now
			}}
			packs := 0
			b.fault = func(op, name string) error {
				if op == "put" && strings.HasPrefix(name, "packs/") {
					packs++
				}
				if packs <= 6 || !killed && !strings.HasPrefix(name, "packs/") {
					return nil
				}
				return &Error{Kind: Network, Op: op, Name: name, Where: "memory", Err: errors.New("the cable")}
			}
			if _, err := New(b, mine, small).Push(t.Context(), []cache.Content{content}, nil, nil); err == nil {
				t.Fatal("it was not interrupted")
			}
			b.fault, b.did = nil, nil
			if lacks, err := New(b, mine, small).Lacks(t.Context(), []cache.Content{content}); err != nil || len(lacks) != 1 {
				t.Fatalf("the folder can be seen: %v, %v", lacks, err)
			}
			before := map[string]bool{}
			for name := range b.names {
				before[name] = true
			}
			_, err := New(b, mine, small).Push(t.Context(), []cache.Content{content}, nil, nil)
			noError(t, err)
			twice := 0
			for _, did := range b.did {
				if name, put := strings.CutPrefix(did, "put "); put && before[name] {
					twice++
				}
			}
			// Two packs of trees are sent again, since an index that names a tree promises what that names, and a minute is two packs.
			if most := map[bool]int{false: 2, true: 4}[killed]; twice > most {
				t.Errorf("%d of what was there was sent again: %v", twice, b.did)
			}
			theirs := newCache(t)
			_, err = New(b, theirs, small).Fetch(t.Context(), []cache.Content{content}, nil)
			noError(t, err)
			whole(t, theirs, content)
		})
	}
}

// TestFailingPushEndsSoon: when a server has failed in all tries of a request, what was sent is put on record in one more, not in as many.
func TestFailingPushEndsSoon(t *testing.T) {
	b, mine := newMemory(), newCache(t)
	content := folder(t, mine, 400, 100)
	packs := 0
	b.fault = func(op, name string) error {
		if op == "put" && strings.HasPrefix(name, "packs/") {
			packs++
		}
		if packs <= 3 || op == "delete" {
			return nil
		}
		return &Error{Kind: Busy, Op: op, Name: name, Where: "memory", Err: errors.New("503"), Retry: true}
	}
	if _, err := New(b, mine, Options{Retry: quick, Jobs: 1, PackSize: 4 << 10}).Push(t.Context(), []cache.Content{content}, nil, nil); err == nil {
		t.Fatal("it did not fail")
	}
	tries := 0
	for _, did := range b.did {
		if strings.HasPrefix(did, "put index/") {
			tries++
		}
	}
	if tries != 1 {
		t.Errorf("the index was tried %d times", tries)
	}
}
