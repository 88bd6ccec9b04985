package remote

import (
	"errors"
	"strings"
	"testing"

	"lpipe/cache"
)

// TestAnswers: what a server may answer in the middle of a push, against the real one. What passes is waited for; what does not
// ends with a message that says what to do, loses nothing, and the next push goes on.
func TestAnswers(t *testing.T) {
	faults(t, "delay=0")
	for _, c := range []struct {
		name, faults string
		kind         Kind // of the error that it ends with; "": it ends well
		says         string
	}{
		{"500 now and then", "error@0.3,seed=3", "", ""},
		{"503 SlowDown now and then", "slowdown@0.3,seed=4", "", ""},
		{"409 for a while", "conflict,limit=3,match=PUT.*results/", "", ""},
		{"412: somebody was first", "precondition,limit=1,match=PUT.*results/", "", ""},
		{"500 for ever", "error,after=4", Busy, "InternalError"},
		{"credentials that expire in mid-push", "expired,after=4", Credentials, "sign in again"},
		{"a wrong clock", "skewed", Credentials, "clock is wrong"},
		{"a wrong clock in mid-push", "skewed,after=3", Credentials, "clock is wrong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := s3Options(t, "LPIPE_TEST_S3_ENDPOINT")
			mine := newCache(t)
			content := folder(t, mine, 20, 2<<20)
			key := result(t, mine, c.name, content)
			push := func() error {
				_, err := New(NewS3(o), mine, Options{Retry: Retry{Attempts: 6, First: quick.First}, PackSize: 1 << 10}).
					Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
				return err
			}
			setFaults(t, c.faults)
			err := push()
			var e *Error
			switch {
			case c.kind == "" && err != nil:
				t.Errorf("%v", err)
			case c.kind != "" && (!errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.says)):
				t.Errorf("%v", err)
			}
			setFaults(t, "delay=0")
			noError(t, push())
			theirs := newCache(t)
			other := New(NewS3(o), theirs, Options{Retry: quick})
			if _, err := other.Result(t.Context(), key); err != nil {
				t.Errorf("%v", err)
			}
			noError(t, other.Content(t.Context(), content))
			whole(t, theirs, content)
		})
	}
}

// TestListings: one that is old, and one that names keys twice. Of an old one the worst is a push of what is there already.
func TestListings(t *testing.T) {
	faults(t, "delay=0")
	for _, list := range []string{"stale", "twice", "stale@0.5,twice@0.5,seed=5"} {
		t.Run(list, func(t *testing.T) {
			o := s3Options(t, "LPIPE_TEST_S3_ENDPOINT")
			mine, theirs := newCache(t), newCache(t)
			first, second := folder(t, mine, 5, 10), folder(t, mine, 9, 20)
			setFaults(t, list+",match=GET.*list-type=2")
			for _, content := range []cache.Content{first, second} {
				_, err := New(NewS3(o), mine, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
				noError(t, err)
			}
			setFaults(t, "delay=0")
			r := New(NewS3(o), theirs, Options{Retry: quick})
			for _, content := range []cache.Content{first, second} {
				noError(t, r.Content(t.Context(), content))
				whole(t, theirs, content)
			}
			report, err := r.Fsck(t.Context(), FsckOptions{Sample: 1})
			if err != nil || len(report.Problems) > 0 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}
