package remote

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// S3Options say where a bucket is.
type S3Options struct {
	Config   aws.Config // region, credentials: as the standard chain found them
	Bucket   string
	Prefix   string // of all names, without a slash at its end
	Region   string // "": the config's, or us-east-1 with an endpoint
	Endpoint string // of servers other than AWS; path style is then used
	Profile  string // for messages: the one the config was loaded with
	// ConnectTimeout is how long a connection may take to come about; 0: 5 s.
	ConnectTimeout time.Duration
	Retry          Retry // of the parts of large uploads
	PartSize       int64 // bytes of such a part; 0: 8 MiB, S3 takes no less than 5 MiB
}

// S3 is a bucket of Amazon S3, or of another server that speaks its protocol.
type S3 struct {
	o        S3Options
	client   *s3.Client
	provider atomic.Pointer[string] // of credentials, once known
	extra    atomic.Int64           // requests beyond one a call

	buffers    buffers
	noChecksum atomic.Bool // the server knows none
	anonymous  atomic.Bool // Sign found no credentials
}

var _ Bucket = (*S3)(nil)

// idle is how long an unused connection is kept: S3 drops it after about 100 s.
const idle = 90 * time.Second

// NewS3 makes no request.
func NewS3(o S3Options) *S3 {
	if o.Region == "" {
		o.Region = o.Config.Region
	}
	if o.Region == "" && o.Endpoint != "" {
		o.Region = "us-east-1" // part of the signature; other servers do not care which
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.PartSize == 0 {
		o.PartSize = uploadPart
	}
	b := &S3{o: o, buffers: newBuffers()}
	b.client = s3.NewFromConfig(o.Config, func(c *s3.Options) {
		c.Region = o.Region
		if o.Endpoint != "" {
			c.BaseEndpoint = aws.String(o.Endpoint)
			c.UsePathStyle = true
		}
		c.HTTPClient = httpClient(o.Config.HTTPClient, o.ConnectTimeout)
		// Some servers refuse the trailing checksums that the SDK adds by default; see send.
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		c.Retryer = aws.NopRetryer{} // Retry does it, with one policy for all buckets
	})
	return b
}

// httpClient adds our limits to the config's client, which may know a CA bundle; one of another kind is left alone.
func httpClient(given aws.HTTPClient, connect time.Duration) aws.HTTPClient {
	client, ok := given.(*awshttp.BuildableClient)
	switch {
	case given == nil:
		client = awshttp.NewBuildableClient()
	case !ok:
		return given
	}
	return client.
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connect }).
		WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost, t.IdleConnTimeout = 128, 128, idle
			t.ResponseHeaderTimeout = 2 * time.Minute
		})
}

// unsigned leaves the body out of the signature: it would be read twice, the first time to be hashed with SHA-256.
func unsigned(o *s3.Options) {
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}

func (b *S3) key(name string) *string {
	if b.o.Prefix != "" {
		name = b.o.Prefix + "/" + name
	}
	return aws.String(name)
}

// String is the bucket's URL.
func (b *S3) String() string {
	u := "s3://" + b.o.Bucket
	if b.o.Prefix != "" {
		u += "/" + b.o.Prefix
	}
	if b.o.Endpoint != "" {
		u += " at " + b.o.Endpoint
	}
	return u
}

// ExtraRequests counts pages of listings and parts of uploads.
func (b *S3) ExtraRequests() int { return int(b.extra.Load()) }

// Get implements Bucket.
func (b *S3) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	in := &s3.GetObjectInput{Bucket: &b.o.Bucket, Key: b.key(name)}
	switch {
	case length == 0:
		return io.NopCloser(strings.NewReader("")), nil
	case length > 0:
		in.Range = aws.String("bytes=" + strconv.FormatInt(offset, 10) + "-" + strconv.FormatInt(offset+length-1, 10))
	case offset > 0:
		in.Range = aws.String("bytes=" + strconv.FormatInt(offset, 10) + "-")
	}
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		return nil, b.fail(ctx, "get", name, err)
	}
	return out.Body, nil
}

// Put implements Bucket: large things go up in parts.
func (b *S3) Put(ctx context.Context, name string, r io.ReadSeeker) error {
	size, err := length(r)
	if err != nil {
		return err
	}
	if size > partsFrom*b.o.PartSize {
		return b.multipart(ctx, name, r, size)
	}
	in := &s3.PutObjectInput{Bucket: &b.o.Bucket, Key: b.key(name), Body: r, ContentLength: &size}
	if err := b.send(ctx, in, r); err != nil {
		return b.fail(ctx, "put", name, err)
	}
	return nil
}

// send puts with a checksum, without one where the server has no such thing. It keeps a server from storing what came
// of an upload that was cut: versitygw does, in place of what stood there, when neither signature nor checksum
// covers the body.
func (b *S3) send(ctx context.Context, in *s3.PutObjectInput, r io.ReadSeeker) error {
	if !b.noChecksum.Load() {
		sum, err := crc32c(r)
		if err != nil {
			return err
		}
		in.ChecksumCRC32C = &sum
	}
	_, err := b.client.PutObject(ctx, in, unsigned)
	if status(err) == http.StatusNotImplemented && in.ChecksumCRC32C != nil && in.IfNoneMatch == nil && in.IfMatch == nil {
		b.noChecksum.Store(true)
		b.extra.Add(1)
		in.ChecksumCRC32C = nil
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return err
		}
		_, err = b.client.PutObject(ctx, in, unsigned)
	}
	return err
}

// crc32c reads all and goes back to the start.
func crc32c(r io.ReadSeeker) (string, error) {
	h := crc32.New(castagnoli())
	if _, err := io.Copy(h, struct{ io.Reader }{r}); err != nil {
		return "", err
	}
	_, err := r.Seek(0, io.SeekStart)
	return base64.StdEncoding.EncodeToString(h.Sum(nil)), err
}

// sumCRC32C is the checksum as S3 writes it: big endian, in base64.
func sumCRC32C(data []byte) *string {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(data, castagnoli()))
	return aws.String(base64.StdEncoding.EncodeToString(sum))
}

// castagnoli's table is made once by the standard library.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// PutNew implements Bucket with If-None-Match, and by looking first where the server does not know that.
func (b *S3) PutNew(ctx context.Context, name string, r io.ReadSeeker) (bool, error) {
	size, err := length(r)
	if err != nil {
		return false, err
	}
	in := &s3.PutObjectInput{
		Bucket: &b.o.Bucket, Key: b.key(name), Body: r, ContentLength: &size, IfNoneMatch: aws.String("*"),
	}
	err = b.send(ctx, in, r)
	switch status(err) {
	case http.StatusPreconditionFailed:
		return false, nil
	case http.StatusNotImplemented, http.StatusBadRequest:
		b.extra.Add(2)
		_, err = b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.o.Bucket, Key: in.Key})
		if err == nil {
			return false, nil
		}
		if status(err) == http.StatusNotFound {
			err = b.Put(ctx, name, r)
			return err == nil, err
		}
	}
	if err != nil {
		return false, b.fail(ctx, "put", name, err)
	}
	return true, nil
}

// Replace implements Bucket with If-Match of the ETag that the old bytes came with, and without it where the server does not know that.
func (b *S3) Replace(ctx context.Context, name string, old []byte, r io.ReadSeeker) (bool, error) {
	b.extra.Add(1)
	there, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.o.Bucket, Key: b.key(name)})
	if err != nil {
		err = b.fail(ctx, "get", name, err)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	same, err := isText(there.Body, old)
	if err != nil {
		return false, b.fail(ctx, "get", name, err)
	}
	size, err := length(r)
	if !same || err != nil {
		return false, err
	}
	in := &s3.PutObjectInput{Bucket: &b.o.Bucket, Key: b.key(name), Body: r, ContentLength: &size, IfMatch: there.ETag}
	err = b.send(ctx, in, r)
	switch status(err) {
	case http.StatusPreconditionFailed, http.StatusNotFound:
		return false, nil
	case http.StatusNotImplemented, http.StatusBadRequest:
		b.extra.Add(1)
		err = b.Put(ctx, name, r)
		return err == nil, err
	}
	if err != nil {
		return false, b.fail(ctx, "put", name, err)
	}
	return true, nil
}

// isText reads body to its end, or to where it differs from text, and closes it.
func isText(body io.ReadCloser, text []byte) (bool, error) {
	defer body.Close()
	got, err := io.ReadAll(io.LimitReader(body, int64(len(text))+1))
	return bytes.Equal(got, text), err
}

// length finds how much there is to read and goes back to the start.
func length(r io.ReadSeeker) (int64, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = r.Seek(0, io.SeekStart)
	return size, err
}

// List implements Bucket, 1000 names a request.
func (b *S3) List(ctx context.Context, prefix string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		cut := len(*b.key(""))
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.o.Bucket, Prefix: b.key(prefix)})
		for n := 0; pages.HasMorePages(); n++ {
			if n > 0 {
				b.extra.Add(1)
			}
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Item{}, b.fail(ctx, "list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key := aws.ToString(o.Key)
				if len(key) < cut {
					continue
				}
				if !yield(Item{key[cut:], aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Delete implements Bucket: one by one, since servers differ in what they sign of a list.
func (b *S3) Delete(ctx context.Context, names ...string) error {
	for i, name := range names {
		if i > 0 {
			b.extra.Add(1)
		}
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.o.Bucket, Key: b.key(name)})
		if err != nil && status(err) != http.StatusNotFound {
			return b.fail(ctx, "delete", name, err)
		}
	}
	return nil
}

// status is the HTTP status that an answer had; 0 without one.
func status(err error) int {
	var r *awshttp.ResponseError
	if errors.As(err, &r) && r.Response != nil && r.Response.Response != nil {
		return r.HTTPStatusCode()
	}
	return 0
}

// isMissing tells a name that is not there from a bucket that is not there.
func isMissing(err error) bool {
	var key *types.NoSuchKey
	var found *types.NotFound
	return errors.As(err, &key) || errors.As(err, &found)
}

// host is the part of the endpoint that a name server must know.
func (b *S3) host() string {
	if u, err := url.Parse(b.o.Endpoint); err == nil && u.Host != "" {
		return u.Host
	}
	return "s3." + b.o.Region + ".amazonaws.com"
}
