package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
)

// code is the error code of an answer, "SlowDown" say; "" without one.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// fail turns an error of the SDK into ours: what it is about, where, and what helps.
func (b *S3) fail(ctx context.Context, op, name string, err error) error {
	if isOurs(err) || ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	e := &Error{Kind: Other, Op: op, Name: name, Err: short(err)}
	c, s := code(err), status(err)
	switch {
	case isMissing(err) || c == "NoSuchKey" || s == http.StatusNotFound && c == "NotFound":
		e.Err = fmt.Errorf("%w", fs.ErrNotExist)
	case b.noCredentials(ctx, e):
	case b.o.Region == "":
		e.Kind, e.Err, e.Remedy = BadBucket, errors.New("no region is set"), "set region in the remote block, or AWS_REGION"
	case c == "NoSuchBucket":
		e.Kind, e.Remedy = BadBucket, fmt.Sprintf("check bucket = %q in the remote block, or create it", b.o.Bucket)
	case c == "PermanentRedirect" || c == "AuthorizationHeaderMalformed" || s == http.StatusMovedPermanently:
		e.Kind, e.Remedy = BadBucket, fmt.Sprintf("the bucket is in another region than %s: set region in the remote block", b.o.Region)
	case c == "ExpiredToken" || c == "TokenRefreshRequired" || c == "ExpiredTokenException":
		e.Kind, e.Remedy = Credentials, "the credentials have expired: sign in again (aws sso login, or new keys)"
	case c == "InvalidAccessKeyId" || c == "SignatureDoesNotMatch" || c == "InvalidToken" || c == "InvalidClientTokenId" || strings.HasSuffix(c, "UserNotFound"):
		e.Kind, e.Remedy = Credentials, "the server does not know these credentials: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the endpoint"
	case c == "RequestTimeTooSkewed":
		e.Kind, e.Remedy = Credentials, "this machine's clock is wrong: signatures are dated"
	case c == "AccessDenied" || c == "AllAccessDisabled" || s == http.StatusForbidden || s == http.StatusUnauthorized:
		e.Kind, e.Remedy = Credentials, fmt.Sprintf("these credentials may not %s in bucket %s", op, b.o.Bucket)
	case c == "SlowDown" || c == "Throttling" || c == "RequestLimitExceeded" || c == "RequestTimeout" || s == http.StatusTooManyRequests || s >= 500 || s == http.StatusConflict:
		e.Kind, e.Retry = Busy, true
	default:
		b.connection(e, err)
	}
	e.Where = b.where()
	return e
}

// noCredentials asks the chain itself: the SDK's own message for none names neither chain nor profile.
func (b *S3) noCredentials(ctx context.Context, e *Error) bool {
	if b.o.Config.Credentials == nil {
		e.Kind = Credentials
	} else if found, err := b.o.Config.Credentials.Retrieve(ctx); err != nil {
		e.Kind, e.Err = Credentials, fmt.Errorf("no credentials found: %w", short(err))
	} else {
		b.provider.Store(&found.Source)
		return false
	}
	e.Remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or profile in the remote block; lpipe doctor shows what was looked at"
	return true
}

// connection tells a server that cannot be reached from a connection that broke.
func (b *S3) connection(e *Error, err error) {
	var dns *net.DNSError
	var dial *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &dns):
		e.Kind, e.Retry = Network, dns.IsTemporary
		e.Remedy = fmt.Sprintf("%s has no address: check endpoint and region, or the network", b.host())
	case errors.As(err, &dial) && dial.Op == "dial":
		e.Kind, e.Remedy = Network, fmt.Sprintf("nothing answers at %s: check endpoint, network, proxy", b.host())
	case errors.As(err, &dial), errors.As(err, &timeout), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		strings.Contains(err.Error(), "connection"), strings.Contains(err.Error(), "deserialization failed"):
		e.Kind, e.Retry = Network, true
	case strings.Contains(err.Error(), "tls:"), strings.Contains(err.Error(), "x509:"):
		e.Kind, e.Remedy = Network, "check the scheme of the endpoint, and AWS_CA_BUNDLE"
	}
}

// where names all that decides which server is asked, and as whom.
func (b *S3) where() string {
	from := "none"
	if p := b.provider.Load(); p != nil && *p != "" {
		from = *p
	}
	endpoint := b.o.Endpoint
	if endpoint == "" {
		endpoint = "AWS"
	}
	u, _, _ := strings.Cut(b.String(), " at ")
	return fmt.Sprintf("%s (credentials %s, profile %s, region %s, endpoint %s)", u, from, or(b.o.Profile, "default"), or(b.o.Region, "none"), endpoint)
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// short drops the SDK's wrapping, which repeats operation, status and request id; the cause stays.
func short(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		return &answer{api}
	}
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// answer is an API error without its wrapping.
type answer struct{ smithy.APIError }

// Error is the code and the server's message.
func (a *answer) Error() string {
	if a.ErrorMessage() == "" {
		return a.ErrorCode()
	}
	return a.ErrorCode() + ": " + strings.TrimSuffix(a.ErrorMessage(), ".")
}

// Unwrap gives the SDK's error.
func (a *answer) Unwrap() error { return a.APIError }
