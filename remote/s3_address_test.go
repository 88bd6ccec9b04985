package remote

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

func TestAddressesOfObjects(t *testing.T) {
	for _, c := range []struct {
		o          S3Options
		name, want string
	}{
		{S3Options{Bucket: "team", Region: "eu-west-1"}, "a/b.jsonl", "https://team.s3.eu-west-1.amazonaws.com/a/b.jsonl"},
		{S3Options{Bucket: "team.data", Region: "eu-west-1", Prefix: "/p/"}, "x", "https://s3.eu-west-1.amazonaws.com/team.data/p/x"},
		{S3Options{Bucket: "team", Endpoint: "http://127.0.0.1:7070/"}, "a b+c/ü?.csv", "http://127.0.0.1:7070/team/a%20b%2Bc/%C3%BC%3F.csv"},
	} {
		if got := NewS3(c.o).Address(c.name); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A signature, and a session's token, go to the bucket's own host alone.
func TestOnlyTheBucketsHostSeesASignature(t *testing.T) {
	b := NewS3(S3Options{Bucket: "team", Endpoint: "http://127.0.0.1:7070", Config: aws.Config{Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "session")}})
	for address, signed := range map[string]bool{b.Address("a b"): true, "https://127.0.0.1:7070/team/a": false, "http://127.0.0.2:7070/team/a": false} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		if err == nil {
			err = b.Sign(r)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(r.Header.Get("Authorization"), "Signature=") && r.Header.Get("X-Amz-Security-Token") == "session"; got != signed || !signed && len(r.Header) > 0 {
			t.Errorf("%s: signed %v, want %v: %v", address, got, signed, r.Header)
		}
	}
}
