package remote

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lpipe/cache"
)

// counted is how many requests the proxy counted under a name.
func counted(t *testing.T, name string) int {
	t.Helper()
	var counts map[string]int
	noError(t, json.Unmarshal([]byte(harmed(t)), &counts))
	return counts[name]
}

// TestUploadGoesOn cuts an upload after every part: the next push sends the others, each part once, and the object is whole.
func TestUploadGoesOn(t *testing.T) {
	const part, parts = 5 << 20, 5
	s3Options(t, "LPIPE_TEST_S3_ENDPOINT") // skipped without a server
	mine := newCache(t)
	dir := t.TempDir()
	big := make([]byte, (parts-1)*part+1234)
	for i := range big {
		big[i] = byte(i*7 + i>>8*13 + i>>16)
	}
	noError(t, os.WriteFile(filepath.Join(dir, "big"), big, 0o644))
	content, err := mine.Add(t.Context(), nil, dir, cache.AddOptions{})
	noError(t, err)
	faults(t, "delay=0")
	for after := range parts + 1 {
		o := s3Options(t, "LPIPE_TEST_S3_ENDPOINT")
		o.PartSize, o.Prefix = part, fmt.Sprintf("%s-%d", o.Prefix, after)
		o.Retry = Retry{Attempts: 1}
		push := func() (Stats, error) {
			b := NewS3(o)
			for range uploadJobs - 1 { // one part at once, so that what is sent before the cut is known
				<-b.buffers
			}
			return New(b, mine, Options{Retry: o.Retry}).Push(t.Context(), []cache.Content{content}, nil, nil)
		}
		match := "PUT.*partNumber"
		if after == parts {
			match = "POST.*uploadId" // all parts are there, and the end is lost
		}
		setFaults(t, fmt.Sprintf("drop-request=100,after=%d,match=%s", after%parts, match))
		if _, err := push(); err == nil {
			t.Fatalf("after %d parts: it was not cut", after)
		}
		setFaults(t, "delay=0,match=PUT.*partNumber")
		stats, err := push()
		noError(t, err)
		if got := counted(t, "delay"); got != parts-after {
			t.Errorf("after %d parts: %d sent again, not %d", after, got, parts-after)
		}
		if stats.Objects != 2 {
			t.Errorf("after %d parts: %+v", after, stats)
		}
		theirs := newCache(t)
		noError(t, New(NewS3(o), theirs, Options{Retry: quick}).Content(t.Context(), content))
		whole(t, theirs, content)
		if n, err := NewS3(o).AbandonUploads(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
			t.Errorf("after %d parts: %d uploads are left, %v", after, n, err)
		}
	}
}

// TestDownloadGoesOn cuts a download after every part: the next fetch asks for the others only.
func TestDownloadGoesOn(t *testing.T) {
	b := NewS3(s3Options(t, "LPIPE_TEST_S3_ENDPOINT"))
	mine := newCache(t)
	content := folder(t, mine, 1, 3*partSize+5)
	_, err := New(b, mine, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	faults(t, "delay=0")
	for after := range 4 {
		theirs := newCache(t)
		setFaults(t, fmt.Sprintf("drop-get=2,after=%d,match=GET.*objects/", after))
		one := Retry{Attempts: 1}
		if _, err := New(b, theirs, Options{Jobs: 1, Retry: one}).Fetch(t.Context(), []cache.Content{content}, nil); err == nil {
			t.Fatalf("after %d parts: it was not cut", after)
		}
		setFaults(t, "delay=0,match=GET.*objects/")
		var last Progress
		stats, err := New(b, theirs, Options{Retry: quick}).Fetch(t.Context(), []cache.Content{content}, func(p Progress) { last = p })
		noError(t, err)
		if got := counted(t, "delay"); got != 4-after {
			t.Errorf("after %d parts: %d asked for again, not %d", after, got, 4-after)
		}
		if last.Bytes != last.TotalBytes || last.Objects != last.TotalObjects || stats.Bytes > last.TotalBytes-int64(after)*partSize {
			t.Errorf("after %d parts: %+v, %+v", after, stats, last)
		}
		whole(t, theirs, content)
	}
}

// TestReaderThatFailsLeavesNoUpload: content that was changed while it was sent is wanted by nobody.
func TestReaderThatFailsLeavesNoUpload(t *testing.T) {
	o := s3Options(t, "LPIPE_TEST_S3_DIRECT")
	o.PartSize = 5 << 20
	b := NewS3(o)
	const size = 25 << 20
	r := &failing{Reader: bytes.NewReader(make([]byte, size)), after: 17 << 20}
	if err := b.Put(t.Context(), "objects/ab/cd", r); err == nil {
		t.Errorf("%v", err)
	}
	if n, err := b.AbandonUploads(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d uploads are left, %v", n, err)
	}
}
