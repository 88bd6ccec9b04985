package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"

	"lpipe/cache"
)

// TestFaults sends and brings through a proxy that harms the traffic: it takes longer, and ends well.
func TestFaults(t *testing.T) {
	for _, list := range []string{
		"slowdown@0.3,seed=1",
		"drop-request=100@0.2,match=PUT,seed=2",
		"lose@0.2,seed=3",
		"drop-get=1000@0.3,seed=4",
		"truncate=7@0.3,seed=5",
		"corrupt@0.3,seed=6",
		"slowdown@0.1,lose@0.1,drop-get=10@0.1,truncate=1@0.1,corrupt@0.1,drop-request=0@0.1,seed=7",
		"delay=20@0.5,seed=8",
	} {
		t.Run(list, func(t *testing.T) {
			b := NewS3(s3Options(t, "LPIPE_TEST_S3_ENDPOINT"))
			faults(t, list)
			mine, theirs := newCache(t), newCache(t)
			content := folder(t, mine, 200, 20<<20)
			key := result(t, mine, "a", content)
			_, err := New(b, mine, Options{Retry: quick, PackSize: 4 << 10}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
			noError(t, err)
			other := New(b, theirs, Options{Retry: quick})
			got, err := other.Result(t.Context(), key)
			noError(t, err)
			if got.Outputs["out"] != content {
				t.Errorf("result %+v", got)
			}
			noError(t, other.Content(t.Context(), content))
			whole(t, theirs, content)
			report, err := other.Fsck(t.Context(), FsckOptions{})
			if err != nil || len(report.Problems) > 0 {
				t.Errorf("%+v, %v", report, err)
			}
			t.Log(strings.TrimSpace(harmed(t)))
		})
	}
}

func TestFaultsInMultipart(t *testing.T) {
	if testing.Short() {
		t.Skip("large")
	}
	b := NewS3(s3Options(t, "LPIPE_TEST_S3_ENDPOINT"))
	faults(t, "lose@0.2,slowdown@0.2,seed=9,match=uploads|uploadId")
	mine, theirs := newCache(t), newCache(t)
	content := folder(t, mine, 1, partsFrom*uploadPart+3<<20)
	_, err := New(b, mine, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
	noError(t, err)
	noError(t, New(b, theirs, Options{Retry: quick}).Content(t.Context(), content))
	whole(t, theirs, content)
	t.Log(strings.TrimSpace(harmed(t)))
}

// TestGivesUp: what never works ends with an error that says what it was, and the cache stays as it was.
func TestGivesUp(t *testing.T) {
	for list, want := range map[string]Kind{
		"slowdown":                            Busy,
		"lose":                                Network,
		"drop-request=0":                      Network,
		"corrupt,match=GET.*(packs|objects)/": Damaged,
		"truncate=1,match=GET.*packs/":        Network,
	} {
		t.Run(list, func(t *testing.T) {
			o := s3Options(t, "LPIPE_TEST_S3_ENDPOINT")
			c := newCache(t)
			content := folder(t, c, 3, 2<<20)
			_, err := New(NewS3(o), c, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
			noError(t, err)
			faults(t, list)
			to := newCache(t)
			err = New(NewS3(o), to, Options{Retry: Retry{Attempts: 3, First: time.Millisecond}}).Content(t.Context(), content)
			var e *Error
			if want == Damaged && errors.Is(err, cache.ErrDamaged) {
				// a large object's is found by the cache
			} else if !errors.As(err, &e) || e.Kind != want {
				t.Errorf("%v", err)
			}
			t.Log(err)
			report, err := to.Fsck(t.Context(), cache.FsckOptions{Full: true})
			if err != nil || len(report.Problems) > 0 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// TestMistakes: each names bucket, provider, profile, region and endpoint, and says what helps.
func TestMistakes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	closed := "http://" + l.Addr().String()
	l.Close()
	good := s3Options(t, "LPIPE_TEST_S3_DIRECT")
	cases := []struct {
		name   string
		change func(o *S3Options)
		kind   Kind
		text   []string
	}{
		{"wrong bucket", func(o *S3Options) { o.Bucket = "lpipe-no-such-bucket" }, BadBucket, []string{"lpipe-no-such-bucket"}},
		{"wrong key", func(o *S3Options) {
			o.Config.Credentials = credentials.NewStaticCredentialsProvider("nobody", "x", "")
		}, Credentials, []string{"AWS_ACCESS_KEY_ID"}},
		{"wrong secret", func(o *S3Options) {
			found, _ := o.Config.Credentials.Retrieve(context.Background())
			o.Config.Credentials = credentials.NewStaticCredentialsProvider(found.AccessKeyID, "x", "")
		}, Credentials, []string{"AWS_SECRET_ACCESS_KEY"}},
		{"no credentials", func(o *S3Options) {
			o.Config.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{}, errors.New("nothing found")
			})
		}, Credentials, []string{"nothing found", "AWS_PROFILE"}},
		{"nobody listens", func(o *S3Options) { o.Endpoint = closed }, Network, []string{closed}},
		{"no such host", func(o *S3Options) { o.Endpoint = "http://s3.lpipe.invalid" }, Network, []string{"s3.lpipe.invalid"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := good
			o.Profile = "team"
			c.change(&o)
			mine := newCache(t)
			r := New(NewS3(o), mine, Options{Retry: quick})
			content := folder(t, mine, 1, 10)
			_, err := r.Push(t.Context(), []cache.Content{content}, nil, nil)
			_, missed := r.Result(t.Context(), cache.SumKey("x"))
			for what, err := range map[string]error{"push": err, "result": missed} {
				var e *Error
				if !errors.As(err, &e) || e.Kind != c.kind {
					t.Fatalf("%s: %v", what, err)
				}
				for _, want := range append(c.text, "s3://", "profile team", "region us-east-1", "endpoint http", "credentials") {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%s: no %q in %v", what, want, err)
					}
				}
			}
			t.Log(err)
		})
	}
}

// TestCutUpload: an upload that breaks off must not leave its beginning, least of all in place of what stood there.
func TestCutUpload(t *testing.T) {
	b := NewS3(s3Options(t, "LPIPE_TEST_S3_DIRECT"))
	for name, before := range map[string]string{"new": "", "taken": "what stood there"} {
		if before != "" {
			noError(t, b.Put(t.Context(), "x/"+name, strings.NewReader(before)))
		}
		cut := &failing{Reader: bytes.NewReader(make([]byte, 1<<20)), after: 1<<20 + 1<<19} // in the second pass
		if err := b.Put(t.Context(), "x/"+name, cut); err == nil || cut.after >= 0 {
			t.Errorf("%s: %v", name, err)
		}
		r, err := b.Get(t.Context(), "x/"+name, 0, -1)
		if before == "" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: something is there: %v", name, err)
			}
			continue
		}
		noError(t, err)
		if got, err := io.ReadAll(r); err != nil || string(got) != before {
			t.Errorf("%s: %d bytes are there, %v", name, len(got), err)
		}
	}
}

func TestAbandonedUploads(t *testing.T) {
	b := NewS3(s3Options(t, "LPIPE_TEST_S3_DIRECT"))
	_, err := b.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.o.Bucket, Key: b.key("objects/ab/cd")})
	noError(t, err)
	r := New(b, newCache(t), Options{Retry: quick})
	if n, err := b.AbandonUploads(t.Context(), time.Now().Add(-time.Hour)); err != nil || n != 0 {
		t.Errorf("young: %d, %v", n, err)
	}
	_, err = r.GC(t.Context(), cache.GCRoots{}, GCOptions{Delete: true, Grace: -1, Now: time.Now().Add(time.Minute)})
	noError(t, err)
	if n, err := b.AbandonUploads(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 0 {
		t.Errorf("still there after gc: %d, %v", n, err)
	}
}

// TestRequests counts what thousands of small files cost: as much as ten.
func TestRequests(t *testing.T) {
	b := NewS3(s3Options(t, "LPIPE_TEST_S3_DIRECT"))
	mine, theirs := newCache(t), newCache(t)
	content := folder(t, mine, 3_000, 1)
	key := result(t, mine, "a", content)
	start := time.Now()
	push, err := New(b, mine, Options{}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
	noError(t, err)
	pushed := time.Now()
	nothing, err := New(b, mine, Options{Indexes: t.TempDir()}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
	noError(t, err)
	idle := time.Now()
	fetch, err := New(b, theirs, Options{}).Fetch(t.Context(), []cache.Content{content}, nil)
	noError(t, err)
	if push.Requests > 12 || nothing.Requests > 3 || fetch.Requests > 8 {
		t.Errorf("push %+v, with nothing to do %+v, fetch %+v", push, nothing, fetch)
	}
	t.Logf("push %v %+v, nothing to do %v %+v, fetch %v %+v", pushed.Sub(start), push, idle.Sub(pushed), nothing, time.Since(idle), fetch)
}

// TestNoRegion needs no server: nothing is sent.
func TestNoRegion(t *testing.T) {
	b := NewS3(S3Options{Bucket: "team", Config: aws.Config{Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}})
	_, err := New(b, newCache(t), Options{Retry: quick}).Result(t.Context(), cache.SumKey("x"))
	var e *Error
	if !errors.As(err, &e) || e.Kind != BadBucket || !strings.Contains(e.Remedy, "AWS_REGION") {
		t.Errorf("%v", err)
	}
}

// BenchmarkThroughput says how fast one large file goes there and back.
func BenchmarkThroughput(b *testing.B) {
	bucket := NewS3(s3Options(b, "LPIPE_TEST_S3_DIRECT"))
	mine := newCache(b)
	const size = 512 << 20
	content := folder(b, mine, 1, size)
	var push, fetch time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := New(bucket, mine, Options{}).Push(b.Context(), []cache.Content{content}, nil, nil)
		noError(b, err)
		pushed := time.Now()
		_, err = New(bucket, newCache(b), Options{}).Fetch(b.Context(), []cache.Content{content}, nil)
		noError(b, err)
		push, fetch = pushed.Sub(start), time.Since(pushed)
	}
	b.ReportMetric(size/1e6/push.Seconds(), "push-MB/s")
	b.ReportMetric(size/1e6/fetch.Seconds(), "fetch-MB/s")
}

// TestConnectTimeout: a host that never answers ends the wait, also with the client that the SDK's chain loads.
func TestConnectTimeout(t *testing.T) {
	silent := silentAddress(t)
	for name, given := range map[string]aws.HTTPClient{"none": nil, "the SDK's": awshttp.NewBuildableClient()} {
		b := NewS3(S3Options{
			Bucket: "team", Endpoint: "http://" + silent, ConnectTimeout: 50 * time.Millisecond,
			Config: aws.Config{HTTPClient: given, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")},
		})
		start := time.Now()
		_, err := New(b, newCache(t), Options{Retry: quick}).Result(t.Context(), cache.SumKey("x"))
		var e *Error
		if !errors.As(err, &e) || e.Kind != Network || time.Since(start) > 25*time.Second { // the SDK's own client waits 30 s
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
	}
}

// silentAddress is one of this machine where a connection is neither made nor refused: a listener that accepts nothing,
// with its queue full.
func silentAddress(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	noError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	noError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	noError(t, unix.Listen(fd, 0))
	bound, err := unix.Getsockname(fd)
	noError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	for range 16 {
		c, err := net.DialTimeout("tcp", address, time.Second) // less may pass on a busy machine though the queue has room
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("a queue of length 0 took 16 connections")
	return ""
}

func TestDirMistakes(t *testing.T) {
	c := newCache(t)
	content := folder(t, c, 1, 10)
	for name, path := range map[string]string{"not mounted": "/nowhere/at/all", "a file": c.Dir() + "/format"} {
		d, err := NewDir(path)
		noError(t, err)
		_, err = New(d, c, Options{Retry: quick}).Push(t.Context(), []cache.Content{content}, nil, nil)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		t.Log(err)
	}
}
