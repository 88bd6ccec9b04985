package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// percent is GOGC as it stands.
func percent() int {
	now := debug.SetGCPercent(-1)
	debug.SetGCPercent(now)
	return now
}

// collected collects until the condition holds: finalizers run some time after a collection.
func collected(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 200 {
		runtime.GC()
		if holds() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%s: GOGC is %d", what, percent())
}

// A heap of which little lives is collected seldom, one of which much lives often, and afterwards all is as it was.
func TestRoomyHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	c := &collector{percent: 100}
	c.began.Store(true)
	end := c.roomy()
	collected(t, "little lives", func() bool { return percent() > 100 })
	much := make([]byte, 3*room)
	collected(t, "much lives", func() bool { return percent() < 100 })
	runtime.KeepAlive(much)
	collected(t, "little lives again", func() bool { return percent() > 100 })
	end()
	for range 3 {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if now := percent(); now != 100 {
		t.Errorf("afterwards GOGC is %d", now)
	}
	debug.SetGCPercent(50)
	end = (&collector{percent: 50}).roomy()
	defer end()
	runtime.GC()
	time.Sleep(time.Millisecond)
	if now := percent(); now != 50 {
		t.Errorf("GOGC=50 became %d", now)
	}
}

// A thrifty heap stays one when the first collection comes, which was put off.
func TestThriftyHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	c := collectLater()
	end := c.thrifty()
	collected(t, "thrifty", func() bool { return c.began.Load() && percent() == thriftyPercent })
	end()
	if now := percent(); now != 100 {
		t.Errorf("afterwards GOGC is %d", now)
	}
}

// Preparing the heap is not the collection that was put off.
func TestLargePagesCollectNothingYet(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(-1))
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	c := collectLater()
	c.largePages()
	for range 20 {
		time.Sleep(time.Millisecond)
		if now := percent(); now != -1 || c.began.Load() {
			t.Fatalf("GOGC is %d", now)
		}
	}
	collected(t, "after the first collection", func() bool { return percent() == 100 })
	c.largePages() // too late: nothing
}
