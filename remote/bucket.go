package remote

import (
	"context"
	"io"
	"iter"
	"time"
)

// Bucket is flat storage of named bytes. Its errors are *Error, and fs.ErrNotExist (wrapped) for a name that is
// not there; of those that may pass, Error.Retry is set.
type Bucket interface {
	// Get reads length bytes from offset; a negative length reads to the end.
	Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error)
	// Put stores all of r under name, replacing what is there: all or nothing.
	Put(ctx context.Context, name string, r io.ReadSeeker) error
	// PutNew is Put unless the name is taken already; then it reports false and changes nothing.
	PutNew(ctx context.Context, name string, r io.ReadSeeker) (bool, error)
	// Replace is Put if these bytes stand under the name at that moment; else it reports false and changes nothing. They are read whole.
	Replace(ctx context.Context, name string, old []byte, r io.ReadSeeker) (bool, error)
	// List gives all names with a prefix, sorted.
	List(ctx context.Context, prefix string) iter.Seq2[Item, error]
	// Delete removes names; one that is not there is no error.
	Delete(ctx context.Context, names ...string) error
	// String says where the bucket is: "s3://team/llm", "/mnt/nas/lpipe".
	String() string
}

// Item is a name in a bucket.
type Item struct {
	Name string
	Size int64
	Time time.Time // when it was stored, by the bucket's clock
}

// Kind says what an error is about, and so what helps.
type Kind string

// The kinds of errors. All but Damaged and Other mean that the remote could not be used.
const (
	Credentials Kind = "credentials" // none, wrong, expired, or without the right
	BadBucket   Kind = "bucket"      // it is not there, or elsewhere
	Network     Kind = "network"     // no connection, or a broken one
	Busy        Kind = "busy"        // the server asks to come later, or fails
	Damaged     Kind = "damaged"     // wrong bytes; also cache.ErrDamaged
	Other       Kind = "other"
)

// Error is what went wrong with a remote.
type Error struct {
	Kind   Kind
	Op     string // "get", "put", "list", "delete"
	Name   string // in the bucket; may be empty
	Where  string // the bucket, and for S3 the provider of credentials, profile, region and endpoint
	Remedy string // what to do; may be empty
	Retry  bool   // it may work a moment later
	Err    error

	short bool // fewer bytes came than were asked for
}

// Error names what was tried, where, and the cause; the remedy comes last.
func (e *Error) Error() string {
	s := e.Op
	if e.Name != "" {
		s += " " + e.Name
	}
	s += " at " + e.Where + ": "
	switch e.Kind {
	case Credentials:
		s += "no access: "
	case BadBucket:
		s += "no such bucket there: "
	case Network:
		s += "network: "
	case Busy:
		s += "the server is busy or failing: "
	}
	s += e.Err.Error()
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
