package cache

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/formats.json again")

// TestFormats compares with the vectors that doc/format.md promises to other programs.
func TestFormats(t *testing.T) {
	file := Sum([]byte("hello\n"))
	sub := &Tree{Entries: []Entry{{Name: "run.sh", Type: Exec, ID: Sum([]byte("#!/bin/sh\n")), Size: 10}}}
	tree := &Tree{Entries: []Entry{
		{Name: "a.txt", Type: File, ID: file, Size: 6},
		{Name: "link", Type: Link, Link: "a.txt"},
		{Name: "sub", Type: Dir, ID: Sum(sub.Encode()), Size: 10, Files: 1},
		{Name: "ü", Type: File, ID: Sum(nil), Size: 0},
	}}
	id := Sum(tree.Encode())
	key := SumKey("kind preprocess 1\n")
	result, err := (&Result{
		Outputs:     map[string]Content{"data": {ID: file, Size: 6, Files: 1}, "folder": tree.Content(id)},
		Description: "kind preprocess 1\n",
		Record:      Record{Stage: "clean", Kind: "preprocess", Started: time.Unix(1700000000, 0).UTC(), Seconds: 1.5},
	}).Encode(key)
	noError(t, err)
	rec := record{ino: 77, size: 6, mtime: 1700000000123456789, ctime: 1700000001000000000, nlink: 2, settled: true, used: 28333333}
	facts := folderFacts{stat: fileStat{ino: 78, mtime: 1700000000123456789, ctime: 1700000001000000000}, whole: true, sum: tree.Content(id), list: []known{
		{typ: knownFile, entry: entry{name: "a.txt", fileStat: fileStat{ino: 77, size: 6, mtime: 1700000000123456789, ctime: 1700000001000000000, mode: 0o100644, nlink: 2}, id: file, settled: true, linked: true}},
		{typ: knownLink, entry: entry{name: "link"}, text: "a.txt"},
		{typ: knownOther, entry: entry{name: "scratch"}},
		{typ: knownDir, entry: entry{name: "sub"}, sum: sub.Content(Sum(sub.Encode()))},
	}}
	folder := &folderState{used: 19675}
	folder.set(facts.encode("data"))
	got := map[string]string{
		"state":            hex.EncodeToString(folder.append([]byte(stateMagic))),
		"id of hello\\n":   file.String(),
		"id of nothing":    Sum(nil).String(),
		"empty tree":       hex.EncodeToString((&Tree{}).Encode()),
		"id of empty tree": Sum((&Tree{}).Encode()).String(),
		"tree":             hex.EncodeToString(tree.Encode()),
		"id of tree":       id.String(),
		"key":              key.String(),
		"result":           string(result),
		"stat record":      hex.EncodeToString(rec.append(nil, file)),
	}
	if *update {
		b, err := json.MarshalIndent(got, "", " ")
		noError(t, err)
		noError(t, os.WriteFile("testdata/formats.json", append(b, '\n'), 0o644))
	}
	b, err := os.ReadFile("testdata/formats.json")
	noError(t, err)
	var want map[string]string
	noError(t, json.Unmarshal(b, &want))
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s:\n%s\nnot\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d vectors, not %d", len(got), len(want))
	}
	if back, err := DecodeTree(tree.Encode()); err != nil || !slices.Equal(back.Entries, tree.Entries) {
		t.Errorf("decoded %+v, %v", back, err)
	}
	if gotID, k, ok := decodeRecord(rec.append(nil, file)); !ok || gotID != file || k != rec {
		t.Errorf("decoded %+v", k)
	}
}

func TestTreesThatAreRefused(t *testing.T) {
	entry := func(name string) Entry { return Entry{Name: name, Type: File, ID: Sum(nil)} }
	for name, tree := range map[string]*Tree{
		"parent":      {Entries: []Entry{entry("..")}},
		"itself":      {Entries: []Entry{entry(".")}},
		"no name":     {Entries: []Entry{entry("")}},
		"a path":      {Entries: []Entry{entry("a/b")}},
		"a NUL":       {Entries: []Entry{entry("a\x00")}},
		"twice":       {Entries: []Entry{entry("a"), entry("a")}},
		"not sorted":  {Entries: []Entry{entry("b"), entry("a")}},
		"empty link":  {Entries: []Entry{{Name: "l", Type: Link}}},
		"other type":  {Entries: []Entry{{Name: "l", Type: 9}}},
		"negative":    {Entries: []Entry{{Name: "l", Type: File, Size: -1}}},
		"huge folder": {Entries: []Entry{{Name: "l", Type: Dir, Files: -1 << 62}}},
	} {
		if _, err := DecodeTree(tree.Encode()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := (&Tree{Entries: []Entry{entry("a"), {Name: "l", Type: Link, Link: "a"}}}).Encode()
	for n := range good {
		if _, err := DecodeTree(good[:n]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := DecodeTree(append(good, 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("with a byte more: %v", err)
	}
	long := bytes.Replace(good, []byte(treeMagic+"\x02"), []byte(treeMagic+"\x82\x00"), 1)
	if _, err := DecodeTree(long); !errors.Is(err, ErrDamaged) {
		t.Errorf("a number in a longer form: %v", err)
	}
}

// FuzzDecodeTree: what decodes encodes to the same bytes.
func FuzzDecodeTree(f *testing.F) {
	f.Add((&Tree{Entries: []Entry{{Name: "a", Type: Dir, Size: 300, Files: 2}, {Name: "b", Type: Link, Link: "a"}}}).Encode())
	f.Add([]byte(treeMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := DecodeTree(data)
		if err != nil {
			return
		}
		if !bytes.Equal(tree.Encode(), data) {
			t.Errorf("%x decodes to %+v, which encodes differently", data, tree)
		}
	})
}

func TestParseID(t *testing.T) {
	good := Sum(nil).String()
	if id, err := ParseID(good); err != nil || id != Sum(nil) {
		t.Errorf("%v, %v", id, err)
	}
	for _, bad := range []string{"", good[:63], good + "0", strings.ToUpper(good), strings.Replace(good, good[:1], "g", 1)} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	var c Content
	if err := json.Unmarshal([]byte(`{"id":"xyz"}`), &c); err == nil {
		t.Error("a content with a wrong hash was read")
	}
}
