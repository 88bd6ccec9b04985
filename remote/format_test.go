package remote

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"testing"

	"lpipe/cache"
)

var update = flag.Bool("update", false, "write testdata/formats.json again")

// TestFormats compares with the vectors that doc/format.md promises to other programs.
func TestFormats(t *testing.T) {
	b, c := newMemory(), newCache(t)
	path := t.TempDir() + "/d"
	noError(t, os.Mkdir(path, 0o755))
	noError(t, os.WriteFile(path+"/a.txt", []byte("hello\n"), 0o644))
	noError(t, os.WriteFile(path+"/big", []byte("0123456789"), 0o644))
	content, err := c.Add(t.Context(), nil, path, cache.AddOptions{})
	noError(t, err)
	key := cache.SumKey("kind preprocess 1\n")
	noError(t, c.PutResult(key, &cache.Result{Outputs: map[string]cache.Content{"data": content}}))
	_, err = New(b, c, Options{Small: 10, PackSize: 1 << 10}).Push(t.Context(), []cache.Content{content}, []cache.Key{key}, nil)
	// The tree is larger than Small here, so it goes by itself, as does big; a.txt is the pack.
	noError(t, err)
	got := map[string]string{}
	for name, data := range b.names {
		got[name] = hex.EncodeToString(data)
	}
	if *update {
		b, err := json.MarshalIndent(got, "", " ")
		noError(t, err)
		noError(t, os.WriteFile("testdata/formats.json", append(b, '\n'), 0o644))
	}
	text, err := os.ReadFile("testdata/formats.json")
	noError(t, err)
	var want map[string]string
	noError(t, json.Unmarshal(text, &want))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the bucket holds\n%v\nnot\n%v", got, want)
	}
}

// FuzzDecodeIndex: what decodes encodes to something that decodes to the same; nothing panics.
// TestIndexOfNonsense: whoever may write to a bucket can say anything in an index: what would take all memory is refused.
func TestIndexOfNonsense(t *testing.T) {
	id := cache.Sum(nil)
	for name, c := range map[string]contents{
		"an object beyond its pack": {packs: []pack{{id, 300, []cache.Object{{ID: id, Size: 200}, {ID: id, Size: 93}}}}},
		"a pack beyond all packs":   {packs: []pack{{id, 1 << 50, []cache.Object{{ID: id, Size: 1 << 49}}}}},
		"an object beyond all":      {objects: []cache.Object{{ID: id, Size: 1 << 60}}},
	} {
		if _, err := decodeIndex(c.encode()); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := decodeIndex((&contents{packs: []pack{{id, 300, []cache.Object{{ID: id, Size: 200}, {ID: id, Size: 92}}}}}).encode()); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add((&contents{
		packs:   []pack{{cache.Sum(nil), 300, []cache.Object{{ID: cache.Sum(nil), Tree: true, Size: 5}}}},
		objects: []cache.Object{{ID: cache.Sum(nil), Size: 1 << 40}},
		results: []cache.Key{cache.SumKey("x")},
	}).encode())
	f.Add([]byte(indexMagic + "\x00\x00\x00"))
	f.Add([]byte(indexMagic + "\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeIndex(data)
		if err != nil {
			return
		}
		again, err := decodeIndex(c.encode())
		if err != nil || !reflect.DeepEqual(c, again) {
			t.Errorf("%x: %+v, %+v, %v", data, c, again, err)
		}
		x := newIndex()
		x.add(cache.Sum(data), c)
		for _, p := range c.packs {
			for _, part := range split(p.id, p.located()) {
				if part.from < 0 || part.to < part.from || part.to > p.size {
					t.Errorf("bytes %d to %d of a pack of %d", part.from, part.to, p.size)
				}
			}
		}
	})
}
