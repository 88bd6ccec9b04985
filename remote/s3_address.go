package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/httpbinding"
)

// Address is where HTTP clients of their own find an object, and Sign signs their requests.
func (b *S3) Address(name string) string {
	key := httpbinding.EscapePath(*b.key(name), false)
	switch {
	case b.o.Endpoint != "":
		return strings.TrimRight(b.o.Endpoint, "/") + "/" + b.o.Bucket + "/" + key
	case strings.Contains(b.o.Bucket, "."): // no certificate fits such a host
		return "https://" + b.host() + "/" + b.o.Bucket + "/" + key
	}
	return "https://" + b.o.Bucket + "." + b.host() + "/" + key
}

// Sign signs a request to the bucket's own host with Signature Version 4 (docs.aws.amazon.com/AmazonS3/latest/API,
// "Authenticating Requests: Using the Authorization Header"). Without credentials it leaves the request as it is: public
// buckets want none. Requests to other hosts are left alone.
func (b *S3) Sign(r *http.Request) error {
	own, err := url.Parse(b.Address(""))
	if err != nil || r.URL.Host != own.Host || r.URL.Scheme != own.Scheme || b.o.Config.Credentials == nil || b.anonymous.Load() {
		return nil
	}
	found, err := b.o.Config.Credentials.Retrieve(r.Context())
	if err != nil {
		if r.Context().Err() != nil {
			return context.Cause(r.Context())
		}
		b.anonymous.Store(true) // asking the chain again may take seconds; Explain asks it if the server wants some
		return nil
	}
	b.provider.Store(&found.Source)
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	return signer.SignHTTP(r.Context(), found, r, "UNSIGNED-PAYLOAD", "s3", b.o.Region, time.Now())
}

// Explain is the error of an HTTP client of its own that the bucket refused an object, by the status of the answer.
func (b *S3) Explain(ctx context.Context, name string, status int, err error) error {
	e := &Error{Kind: Other, Op: "get", Name: name, Where: b.where(), Err: err}
	switch status {
	case http.StatusNotFound:
		e.Remedy = "look at the spelling of bucket and key, and at region and endpoint"
	case http.StatusMovedPermanently, http.StatusBadRequest:
		e.Kind, e.Remedy = BadBucket, fmt.Sprintf("the bucket may be in another region than %s: set AWS_REGION", or(b.o.Region, "none"))
	case http.StatusForbidden, http.StatusUnauthorized:
		if b.noCredentials(ctx, e) {
			return e
		}
		e.Kind, e.Where = Credentials, b.where()
		e.Remedy = fmt.Sprintf("these credentials may not get this from bucket %s: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the endpoint", b.o.Bucket)
	default:
		return err
	}
	return e
}
