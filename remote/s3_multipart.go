package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
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
	// multipartFrom is the size above which a thing goes up in parts, so that one lost connection does not cost all.
	multipartFrom = 64 << 20
	uploadPart    = 16 << 20
	uploadJobs    = 4     // parts at once
	maxParts      = 10000 // S3's limit
)

// multipart reads in order, so that a reader can verify, and sends parts side by side. What fails is taken back.
func (b *S3) multipart(ctx context.Context, name string, r io.Reader, size int64) error {
	var id *string
	err := b.o.Retry.do(ctx, func() error {
		b.extra.Add(1)
		out, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.o.Bucket, Key: b.key(name)})
		if err != nil {
			return b.fail(ctx, "put", name, err)
		}
		id = out.UploadId
		return nil
	})
	if err != nil {
		return err
	}
	parts, err := b.parts(ctx, name, id, r, size)
	if err == nil {
		err = b.complete(ctx, name, id, parts)
	}
	if err != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		b.client.AbortMultipartUpload(last, &s3.AbortMultipartUploadInput{Bucket: &b.o.Bucket, Key: b.key(name), UploadId: id})
	}
	return err
}

func (b *S3) parts(ctx context.Context, name string, id *string, r io.Reader, size int64) ([]types.CompletedPart, error) {
	each := max(uploadPart, (size+maxParts-1)/maxParts)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(uploadJobs)
	var mu sync.Mutex
	var done []types.CompletedPart
	for n, left := int32(1), size; left > 0 && gctx.Err() == nil; n++ {
		data := make([]byte, min(each, left))
		left -= int64(len(data))
		if _, err := io.ReadFull(r, data); err != nil {
			g.Go(func() error { return err })
			break
		}
		g.Go(func() error {
			return b.o.Retry.do(gctx, func() error {
				b.extra.Add(1)
				out, err := b.client.UploadPart(gctx, &s3.UploadPartInput{
					Bucket: &b.o.Bucket, Key: b.key(name), UploadId: id, PartNumber: aws.Int32(n), Body: bytes.NewReader(data),
				}, unsigned)
				if err != nil {
					return b.fail(gctx, "put", name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				done = append(done, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(n)})
				return nil
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(done, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return done, ctx.Err()
}

// complete joins the parts. When the answer is lost and the upload is gone at the next try, the first one worked.
func (b *S3) complete(ctx context.Context, name string, id *string, parts []types.CompletedPart) error {
	tried := false
	return b.o.Retry.do(ctx, func() error {
		_, err := b.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &b.o.Bucket, Key: b.key(name), UploadId: id,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		})
		var gone *types.NoSuchUpload
		if tried && (errors.As(err, &gone) || code(err) == "NoSuchUpload") {
			b.extra.Add(1)
			_, err = b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.o.Bucket, Key: b.key(name)})
		}
		tried = true
		if err != nil {
			return b.fail(ctx, "put", name, err)
		}
		return nil
	})
}

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

// isOurs tells an error of the reader from one of the network: the SDK wraps both.
func isOurs(err error) bool { return errors.Is(err, cache.ErrDamaged) }
