package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"lpipe/cache"
)

const (
	// uploadPart is the size of parts: as much is lost with a connection. Things of partsFrom parts and more go up in parts.
	uploadPart = 8 << 20
	partsFrom  = 4
	// uploadJobs is how many parts are in memory, and on their way, of all uploads together.
	uploadJobs = 8
	maxParts   = 10000 // S3's limit
)

// upload is one thing on its way in parts. Parts that an earlier attempt sent, and that the server tells of with the size
// and the checksum that ours have, need not go again: names carry the hash of what they name, and the rest is abandoned
// by a gc.
type upload struct {
	b    *S3
	name string
	size int64
	each int64 // bytes of a part, but for the last
	id   *string
	sent map[int32]types.Part // by number
}

// errUploadGone says that somebody else completed or abandoned the upload.
var errUploadGone = errors.New("the upload is gone")

// multipart reads in order, so that a reader can verify, and sends parts side by side. What fails stays for the next try,
// unless it is the reader that failed: then nobody wants it.
func (b *S3) multipart(ctx context.Context, name string, r io.ReadSeeker, size int64) error {
	u := upload{b: b, name: name, size: size, each: max(b.o.PartSize, (size+maxParts-1)/maxParts)}
	for try := 0; ; try++ {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		err := u.run(ctx, r)
		switch {
		case errors.Is(err, errUploadGone):
			if done, err := u.isThere(ctx); done || err != nil {
				return err
			}
			if try < 2 {
				continue
			}
			return b.fail(ctx, "put", name, err)
		case errors.As(err, &readError{}):
			u.abort(ctx)
		}
		return err
	}
}

func (u *upload) run(ctx context.Context, r io.Reader) error {
	if err := u.begin(ctx); err != nil {
		return err
	}
	parts, err := u.send(ctx, r)
	if err != nil {
		return err
	}
	return u.complete(ctx, parts)
}

// begin finds an upload to go on with, or makes one.
func (u *upload) begin(ctx context.Context) error {
	u.id, u.sent = nil, nil
	return u.b.o.Retry.do(ctx, func() error {
		err := u.find(ctx)
		if err == nil && u.id == nil {
			err = u.create(ctx)
		}
		if err != nil {
			return u.b.fail(ctx, "put", u.name, err)
		}
		return nil
	})
}

// find looks for an upload of this thing with parts of our size. A server that cannot list uploads has none to go on with.
func (u *upload) find(ctx context.Context) error {
	if u.b.noChecksum.Load() {
		return nil // nothing would tell whether a part is ours
	}
	u.b.extra.Add(1)
	key := u.b.key(u.name)
	page, err := u.b.client.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &u.b.o.Bucket, Prefix: key})
	if s := status(err); s == http.StatusNotImplemented || s == http.StatusForbidden {
		return nil
	}
	if err != nil {
		return err
	}
	for _, one := range page.Uploads {
		if aws.ToString(one.Key) != *key {
			continue
		}
		sent, err := u.list(ctx, one.UploadId)
		if code(err) == "NoSuchUpload" {
			continue
		}
		if err != nil {
			return err
		}
		if sent != nil && (u.id == nil || len(sent) > len(u.sent)) {
			u.id, u.sent = one.UploadId, sent
		}
	}
	return nil
}

// list gives an upload's parts, nil if one of them has another size than ours will have.
func (u *upload) list(ctx context.Context, id *string) (map[int32]types.Part, error) {
	sent := map[int32]types.Part{}
	pages := s3.NewListPartsPaginator(u.b.client, &s3.ListPartsInput{Bucket: &u.b.o.Bucket, Key: u.b.key(u.name), UploadId: id})
	for pages.HasMorePages() {
		u.b.extra.Add(1)
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.Parts {
			n := aws.ToInt32(p.PartNumber)
			if aws.ToInt64(p.Size) != min(u.each, u.size-int64(n-1)*u.each) || p.ChecksumCRC32C == nil {
				return nil, nil
			}
			sent[n] = p
		}
	}
	return sent, nil
}

func (u *upload) create(ctx context.Context) error {
	in := &s3.CreateMultipartUploadInput{Bucket: &u.b.o.Bucket, Key: u.b.key(u.name)}
	if !u.b.noChecksum.Load() {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmCrc32c
	}
	u.b.extra.Add(1)
	out, err := u.b.client.CreateMultipartUpload(ctx, in)
	if status(err) == http.StatusNotImplemented && in.ChecksumAlgorithm != "" {
		u.b.noChecksum.Store(true)
		u.b.extra.Add(1)
		in.ChecksumAlgorithm = ""
		out, err = u.b.client.CreateMultipartUpload(ctx, in)
	}
	if err == nil {
		u.id = out.UploadId
	}
	return err
}

func (u *upload) send(ctx context.Context, r io.Reader) ([]types.CompletedPart, error) {
	g, gctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	var done []types.CompletedPart
	for n, left := int32(1), u.size; left > 0 && gctx.Err() == nil; n++ {
		buffer, err := u.b.buffers.take(gctx, u.each)
		if err != nil {
			break // what ended it is in the group
		}
		data := buffer[:min(u.each, left)]
		left -= int64(len(data))
		if _, err := io.ReadFull(r, data); err != nil {
			u.b.buffers.give(buffer)
			g.Go(func() error { return readError{err} })
			break
		}
		g.Go(func() error {
			defer u.b.buffers.give(buffer)
			part, err := u.part(gctx, n, data)
			mu.Lock()
			defer mu.Unlock()
			done = append(done, part)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(done, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return done, ctx.Err()
}

// part sends one part, unless it is there.
func (u *upload) part(ctx context.Context, n int32, data []byte) (types.CompletedPart, error) {
	part := types.CompletedPart{PartNumber: aws.Int32(n)}
	in := &s3.UploadPartInput{Bucket: &u.b.o.Bucket, Key: u.b.key(u.name), UploadId: u.id, PartNumber: part.PartNumber}
	if !u.b.noChecksum.Load() {
		in.ChecksumCRC32C = sumCRC32C(data)
		part.ChecksumCRC32C = in.ChecksumCRC32C
		if there, ok := u.sent[n]; ok && *there.ChecksumCRC32C == *in.ChecksumCRC32C {
			part.ETag = there.ETag
			return part, nil
		}
	}
	err := u.b.o.Retry.do(ctx, func() error {
		u.b.extra.Add(1)
		in.Body = bytes.NewReader(data)
		out, err := u.b.client.UploadPart(ctx, in, unsigned)
		if code(err) == "NoSuchUpload" {
			return errUploadGone
		}
		if err != nil {
			return u.b.fail(ctx, "put", u.name, err)
		}
		part.ETag = out.ETag
		return nil
	})
	return part, err
}

// complete joins the parts. An upload that is gone may have been completed by a request whose answer was lost.
func (u *upload) complete(ctx context.Context, parts []types.CompletedPart) error {
	return u.b.o.Retry.do(ctx, func() error {
		u.b.extra.Add(1)
		_, err := u.b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &u.b.o.Bucket, Key: u.b.key(u.name), UploadId: u.id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		if code(err) == "NoSuchUpload" {
			return errUploadGone
		}
		if err != nil {
			return u.b.fail(ctx, "put", u.name, err)
		}
		return nil
	})
}

// isThere tells whether the thing stands under its name with its size.
func (u *upload) isThere(ctx context.Context) (there bool, err error) {
	err = u.b.o.Retry.do(ctx, func() error {
		u.b.extra.Add(1)
		out, err := u.b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &u.b.o.Bucket, Key: u.b.key(u.name)})
		if status(err) == http.StatusNotFound {
			return nil
		}
		if err != nil {
			return u.b.fail(ctx, "put", u.name, err)
		}
		there = aws.ToInt64(out.ContentLength) == u.size
		return nil
	})
	return there, err
}

func (u *upload) abort(ctx context.Context) {
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	// A part whose sending was just given up may still be arriving, and stays then: S3 says to abort again.
	for range 3 {
		u.b.client.AbortMultipartUpload(last, &s3.AbortMultipartUploadInput{Bucket: &u.b.o.Bucket, Key: u.b.key(u.name), UploadId: u.id})
		time.Sleep(100 * time.Millisecond)
	}
}

// buffers are the memory of all uploads in parts together: uploadJobs of them, made when they are needed first.
type buffers chan []byte

func newBuffers() buffers {
	b := make(buffers, uploadJobs)
	for range uploadJobs {
		b <- nil
	}
	return b
}

func (b buffers) take(ctx context.Context, size int64) ([]byte, error) {
	select {
	case one := <-b:
		if int64(cap(one)) < size {
			one = make([]byte, size)
		}
		return one[:size], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (b buffers) give(one []byte) { b <- one }

// AbandonUploads takes back uploads that were begun before a time and never completed: their parts cost storage
// and are in no listing.
func (b *S3) AbandonUploads(ctx context.Context, before time.Time) (int, error) {
	pages := s3.NewListMultipartUploadsPaginator(b.client, &s3.ListMultipartUploadsInput{Bucket: &b.o.Bucket, Prefix: b.key("")})
	n := 0
	for pages.HasMorePages() {
		b.extra.Add(1)
		page, err := pages.NextPage(ctx)
		if err != nil {
			return n, b.fail(ctx, "list", "uploads", err)
		}
		for _, u := range page.Uploads {
			if !aws.ToTime(u.Initiated).Before(before) {
				continue
			}
			b.extra.Add(1)
			_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.o.Bucket, Key: u.Key, UploadId: u.UploadId})
			if err != nil && code(err) != "NoSuchUpload" {
				return n, b.fail(ctx, "delete", aws.ToString(u.Key), err)
			}
			n++
		}
	}
	return n, nil
}

// readError is the error of what was to be sent.
type readError struct{ error }

// Unwrap gives the cause.
func (e readError) Unwrap() error { return e.error }

// isOurs tells an error of the reader from one of the network: the SDK wraps both.
func isOurs(err error) bool { return errors.Is(err, cache.ErrDamaged) }
