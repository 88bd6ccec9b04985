package remote

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lpipe/cache"
)

// FuzzModelEntry: an entry that can be read says the same when it is written again; no signature line makes it trusted.
func FuzzModelEntry(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	noError(f, err)
	text := []byte(`{"seq":1,"before":"` + strings.Repeat("0", 64) + `","version":1,"time":"2026-01-02T03:04:05Z","user":"ann"}`)
	f.Add([]byte(modelHead + string(text) + "\n"))
	f.Add(fmt.Appendf(nil, "%s%s\n%s %s\nx y z\n", modelHead, text, FormatKey(public), base64.StdEncoding.EncodeToString(ed25519.Sign(private, text))))
	f.Add([]byte(modelHead))
	r := &Remote{o: Options{Trust: []ed25519.PublicKey{public}}}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, text, err := parseModelEntry(data)
		if err != nil {
			return
		}
		if len(e.Signers) > 0 && r.trustedModel(&e, "m", text) == nil {
			t.Error("nobody signed it as an entry of this model")
		}
		e.Signers = nil
		written, err := json.Marshal(e)
		if err != nil {
			return // a time beyond the year 9999
		}
		again, _, err := parseModelEntry(append(append([]byte(modelHead), written...), '\n'))
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(twice, written) {
			t.Errorf("%s\nnot\n%s", twice, written)
		}
	})
}

// FuzzSigned: what can be read says the same when it is written again. Its checksum is set right, as else nothing behind it would be reached.
func FuzzSigned(f *testing.F) {
	f.Add([]byte("keys\n" + strings.Repeat("0", 64) + " 1 2\n"))
	f.Add([]byte("keys\n\n  \n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		known := parseSigned(append([]byte(signedMagic+cache.Sum(body).String()+"\n"), body...), "keys")
		if again := parseSigned(formatSigned(known, "keys"), "keys"); !maps.Equal(again, known) {
			t.Errorf("%v instead of %v", again, known)
		}
	})
}

// FuzzCheckpoint: whatever stands beside a checkpoint in the bucket, only bytes that it promises come, and only to their place.
func FuzzCheckpoint(f *testing.F) {
	key := cache.SumKey("stage")
	from := filepath.Join(f.TempDir(), "step-1")
	noError(f, os.WriteFile(from, []byte("one"), 0o644))
	bucket := newMemory()
	c, err := cache.Open(f.Context(), cache.Options{Dir: filepath.Join(f.TempDir(), "cache")})
	noError(f, err)
	defer c.Close()
	r := New(bucket, c, Options{Retry: Retry{Attempts: 1}})
	noError(f, r.SendCheckpoint(f.Context(), key, from))
	record := string(bucket.names[checkpointFolder(key)+"step-1.json"])
	f.Add("step-1", []byte(record), []byte("one"), false)
	f.Add("step-1", []byte(record), []byte("two"), true)
	f.Add("../step-1", []byte(strings.Replace(record, "step-1", "../step-1", 1)), []byte("one"), true)
	f.Add("a/step-1", []byte(`{"version":1,"name":"a/step-1","size":-1}`), []byte{}, false)
	f.Fuzz(func(t *testing.T, name string, record, data []byte, fits bool) {
		if fits { // a record that promises these bytes
			record, _ = json.Marshal(checkpointRecord{Version: 1, Name: name, Size: int64(len(data)), Hash: cache.Sum(data).String()})
		}
		bucket.names = map[string][]byte{checkpointFolder(key) + name: data, checkpointFolder(key) + name + recordEnding: record}
		bucket.did = nil
		parent := t.TempDir()
		dir := filepath.Join(parent, "scratch")
		noError(t, os.Mkdir(dir, 0o777))
		got, err := r.BringCheckpoint(t.Context(), key, dir, "")
		files, _ := os.ReadDir(dir)
		above, _ := os.ReadDir(parent)
		if len(above) != 1 || len(files) > 1 || (len(files) == 1) != (got != "") {
			t.Fatalf("%q came (%v): %v in the folder, %v beside it", got, err, files, above)
		}
		if got != "" && !bytes.Equal(data, readFile(t, filepath.Join(dir, got))) {
			t.Error("other bytes than those sent")
		}
	})
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	noError(t, err)
	return data
}
