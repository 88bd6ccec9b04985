package tracking

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// Large files of a server that passes them on to a cloud's storage go there in parts, by addresses that the server signs: through
// the server itself a whole file takes one of its workers, and runs into its time limits.

// Files from multipartFrom on go up in parts of partSize. S3 takes at most 10,000 parts, and none below 5 MiB but the last.
const (
	multipartFrom = 64 << 20
	partSize      = 16 << 20
	mostParts     = 10000
)

const multipart = "/api/2.0/mlflow-artifacts/mpu/"

// part is a piece of a file with the address that takes it.
type part struct {
	URL     string            `json:"url"`
	Number  int               `json:"part_number"`
	Headers map[string]string `json:"headers"`
}

// sentPart is a part that its address took.
type sentPart struct {
	Number int    `json:"part_number"`
	ETag   string `json:"etag"`
	URL    string `json:"url"`
}

// uploadParts sends a file in parts. An error that is Unsupported says that the server knows no such thing: nothing was sent.
func (c *Client) uploadParts(ctx context.Context, at place, r io.ReadSeeker, size int64) (err error) {
	length := max(int64(partSize), (size+mostParts-1)/mostParts)
	count := int((size + length - 1) / length)
	folder, name := path.Split(at.path)
	folder = strings.TrimSuffix(folder, "/")
	plain, err := url.PathUnescape(name)
	if err != nil {
		return err
	}
	var plan struct {
		Upload string `json:"upload_id"`
		Parts  []part `json:"credentials"`
	}
	if err := at.client.call(ctx, http.MethodPost, multipart+"create/"+folder, jsonOf(map[string]any{"path": plain, "num_parts": count}), &plan); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			stop := context.WithoutCancel(ctx)
			_ = at.client.call(context.WithValue(stop, once{}, true), http.MethodPost, multipart+"abort/"+folder, jsonOf(map[string]any{"path": plain, "upload_id": plan.Upload}), nil)
		}
	}()
	if len(plan.Parts) != count {
		return &Error{Kind: Unusable, Op: "send " + plain + " in parts", Where: at.client.String(), Message: fmt.Sprintf("the server signs %d parts instead of %d", len(plan.Parts), count)}
	}
	var sent []sentPart
	for i, p := range plan.Parts {
		etag, err := at.client.sendPart(ctx, p, r, int64(i)*length, min(length, size-int64(i)*length))
		if err != nil {
			return err
		}
		sent = append(sent, sentPart{p.Number, etag, p.URL})
	}
	return at.client.call(ctx, http.MethodPost, multipart+"complete/"+folder, jsonOf(map[string]any{"path": plain, "upload_id": plan.Upload, "parts": sent}), nil)
}

// sendPart puts one part at its address, which is another host's: no credentials of ours go there.
func (c *Client) sendPart(ctx context.Context, p part, r io.ReadSeeker, from, length int64) (etag string, err error) {
	err = c.retry(ctx, func() error {
		if _, err := r.Seek(from, io.SeekStart); err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, p.URL, io.NopCloser(io.LimitReader(r, length)))
		if err != nil {
			return &Error{Kind: Unusable, Op: "send a part", Err: errors.New("the server signs an address that is none")}
		}
		request.ContentLength = length
		for name, value := range p.Headers {
			request.Header.Set(name, value)
		}
		answer, err := c.http.Do(request)
		if err != nil {
			return c.broken(ctx, http.MethodPut, "a part", err)
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		if answer.StatusCode < 200 || answer.StatusCode > 299 {
			return c.refused(http.MethodPut, "a part", answer, text)
		}
		etag = answer.Header.Get("ETag")
		return nil
	})
	return etag, err
}

func jsonOf(v any) []byte {
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(v) // maps of texts and numbers
	return b.Bytes()
}
