package download

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// URLOptions say what is to be had at an address.
type URLOptions struct {
	Checksum string // "sha256:…" or "blake3:…" that the file must have; "": whatever it is
	Progress func(Progress)
}

// URL downloads one file to a path where nothing stands, by way of a partial file at path + ".part" that a later call
// goes on with. It returns the file's checksum, by SHA-256 where none was asked for, and how many bytes came.
func (c *Client) URL(ctx context.Context, address, to string, o URLOptions) (sum string, fetched int64, err error) {
	watch := newWatch(o.Progress)
	part := to + ".part"
	for range 2 {
		var came int64
		sum, err = c.fetchURL(ctx, address, part, o, watch.counter(&came))
		if err == nil {
			if err := install(part, to); err != nil {
				return "", 0, err
			}
			watch.file()
			return sum, watch.at.Bytes, nil
		}
		var failure *Error
		if !errors.Is(err, errChanged) && !(errors.As(err, &failure) && failure.Kind == Damaged) {
			return "", watch.at.Bytes, err
		}
		watch.add(-came)
		os.Remove(statePath(part))
		if err := os.Remove(part); err != nil {
			return "", 0, err
		}
	}
	var failure *Error
	if !errors.As(err, &failure) {
		err = &Error{Kind: Damaged, URL: shown(address), Message: "the download was started twice", Err: err}
	}
	return "", watch.at.Bytes, err
}

func (c *Client) fetchURL(ctx context.Context, address, part string, o URLOptions, count func(int64)) (string, error) {
	at, err := c.probe(ctx, address)
	if err != nil {
		return "", err
	}
	t := &transfer{Client: c, size: at.size, count: count, locate: func(ctx context.Context) (location, error) { return c.probe(ctx, address) }}
	t.at, t.known = at, true
	switch {
	case at.tag != "" && !at.weak:
		t.tag, t.ifTag = at.tag, true
	case o.Checksum != "":
		t.tag = o.Checksum
	}
	if err := t.run(ctx, part); err != nil {
		return "", err
	}
	like := o.Checksum
	if like == "" {
		like = "sha256:"
	}
	sum, err := checksum(part, like)
	if err == nil && o.Checksum != "" && sum != o.Checksum {
		return "", &Error{Kind: Damaged, URL: shown(address), Message: fmt.Sprintf("the file is not the one that the checksum means: it has %s instead of %s", sum, o.Checksum)}
	}
	return sum, err
}

// probe asks where an address leads, and how large the file is. Servers that answer no HEAD are asked for the whole file.
func (c *Client) probe(ctx context.Context, address string) (at location, err error) {
	err = c.retry(ctx, func() (bool, error) {
		from := address
		for range maxRedirect {
			answer, err := c.send(ctx, http.MethodHead, from, nil)
			if err != nil {
				return false, err
			}
			discard(answer)
			if to, moved := redirect(answer); moved {
				from = to.String()
				continue
			}
			switch answer.StatusCode {
			case http.StatusOK:
				at = describeAnswer(answer)
				return true, nil
			case http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
				at = location{url: address, size: -1}
				return true, nil
			}
			return false, refusal(answer)
		}
		return false, &Error{Kind: Server, Status: http.StatusLoopDetected, URL: shown(address), Message: "too many redirects"}
	})
	return at, err
}
