package dvc

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// project writes a DVC project: names and texts in turn.
func project(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		at := filepath.Join(dir, filepath.FromSlash(files[i]))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(files[i+1]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// converted is the pipeline of a project, which must be HCL.
func converted(t *testing.T, files ...string) *Conversion {
	t.Helper()
	made, err := Convert(project(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	if _, diags := hclsyntax.ParseConfig([]byte(made.HCL), "pipeline.hcl", hcl.InitialPos); diags.HasErrors() {
		t.Fatalf("%v\n%s", diags, made.HCL)
	}
	return made
}

func wants(t *testing.T, made *Conversion, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(made.HCL, part) {
			t.Errorf("no %q in\n%s", part, made.HCL)
		}
	}
}

func TestAbsolutePathsStayAbsolute(t *testing.T) {
	made := converted(t,
		"sub/dvc.yaml", "stages:\n  a:\n    wdir: /srv\n    cmd: run\n    deps: [/data/rows.csv, in.csv]\n    outs: [/data/out.csv, own.csv]\n  b:\n    cmd: use\n    deps: [/data/out.csv]\n    outs: [b.csv]\n",
		"sub/dvc.lock", "stages:\n  a:\n    outs: [{path: /data/out.csv, md5: d41d8cd98f00b204e9800998ecf8427e}]\n",
		"big.dvc", "outs: [{path: /data/big.csv, md5: d41d8cd98f00b204e9800998ecf8427e}]\n")
	wants(t, made, `= "/data/rows.csv"`, `= "/srv/in.csv"`, `dir = "/srv"`, `= "/data/out.csv" }`, `source "big" { path = "/data/big.csv" }`)
	if strings.Contains(made.HCL, `"data/`) || strings.Contains(made.HCL, `"sub/data`) || strings.Contains(made.HCL, "sub/srv") {
		t.Errorf("an absolute path lost its beginning:\n%s", made.HCL)
	}
	if len(made.Tracks) > 0 {
		t.Errorf("what lies outside of the project is no checkout's: %v", made.Tracks)
	}
	if notes := fmt.Sprint(made.Notes); !strings.Contains(notes, "/data/out.csv") || !strings.Contains(notes, "/srv/own.csv") {
		t.Errorf("outputs outside of the project need a word: %s", notes)
	}
}

func TestTextThatHoldsTheHeredocsEnd(t *testing.T) {
	made := converted(t, "dvc.yaml", "stages:\n  a:\n    cmd: |\n      cat > x <<EOT\n      one\n      EOT\n      cat > y <<EOT2\n      two\n        EOT2\n    outs: [x, y]\n")
	file, _ := hclsyntax.ParseConfig([]byte(made.HCL), "pipeline.hcl", hcl.InitialPos)
	command, diags := file.Body.(*hclsyntax.Body).Blocks[0].Body.Attributes["command"].Expr.Value(nil)
	if want := "cat > x <<EOT\none\nEOT\ncat > y <<EOT2\ntwo\n  EOT2\n"; diags.HasErrors() || command.AsString() != want {
		t.Errorf("%v %q, want %q", diags, command.AsString(), want)
	}
}

func TestRemotesKeepTheirNamesApart(t *testing.T) {
	made := converted(t, "a.dvc", "outs: [{path: a}]\n",
		".dvc/config", "[core]\n    remote = my remote\n['remote \"my remote\"']\n    url = s3://one\n['remote \"my_remote\"']\n    url = s3://two\n['remote \"my/remote\"']\n    url = /mnt/three\n")
	wants(t, made, `remote "s3" "my_remote"`, `remote "dir" "my_remote_2"`, `remote "s3" "my_remote_3"`)
	file, _ := hclsyntax.ParseConfig([]byte(made.HCL), "pipeline.hcl", hcl.InitialPos)
	name, bucket := "", map[string]string{}
	for _, block := range file.Body.(*hclsyntax.Body).Blocks {
		text := func(attribute string) string {
			if a := block.Body.Attributes[attribute]; a != nil {
				value, _ := a.Expr.Value(nil)
				return value.AsString()
			}
			return ""
		}
		switch block.Type {
		case "lpipe":
			name = text("remote")
		case "remote":
			bucket[block.Labels[1]] = text("bucket")
		}
	}
	if bucket[name] != "one" {
		t.Errorf("the default remote is %q of %v", name, bucket)
	}
}

func TestCheckoutChecksWhatItCopies(t *testing.T) {
	object := func(root, text string) (hash, at string) {
		sum := md5.Sum([]byte(text))
		hash = hex.EncodeToString(sum[:])
		return hash, ".dvc/cache/" + root + hash[:2] + "/" + hash[2:]
	}
	good, goodAt := object("files/md5/", "good")
	bad, badAt := object("files/md5/", "as it was")
	old, oldAt := object("", "one\ntwo\n") // DVC 2 hashed texts without carriage returns
	list := fmt.Sprintf(`[{"md5": %q, "relpath": "a/good"}, {"md5": %q, "relpath": "b"}]`, good, bad)
	folder, folderAt := object("files/md5/", list)
	dir := project(t, goodAt, "good", badAt, "as it is not", oldAt, "one\r\ntwo\r\n", folderAt+".dir", list)

	files, absent, err := Checkout(dir, []Tracked{{"good", good}, {"old.txt", old}, {"gone", strings.Repeat("0", 32)}})
	if err != nil || files != 2 || len(absent) != 1 {
		t.Fatalf("%d files, absent %v: %v", files, absent, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "old.txt")); err != nil || string(text) != "one\r\ntwo\r\n" {
		t.Errorf("%q %v", text, err)
	}
	for _, one := range []Tracked{{"bad", bad}, {"folder", folder + ".dir"}} {
		_, _, err := Checkout(dir, []Tracked{one})
		if err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), filepath.FromSlash(badAt)) {
			t.Errorf("%s: %v", one.Path, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, one.Path, "b")); !errors.Is(err, fs.ErrNotExist) && one.Path == "folder" {
			t.Error("a damaged file stands in the folder")
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".[^d]*"))
	if _, err := os.Lstat(filepath.Join(dir, "bad")); !errors.Is(err, fs.ErrNotExist) || len(hidden) > 0 {
		t.Errorf("it left %v %v", left, hidden)
	}
}
