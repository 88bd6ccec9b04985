package dvc

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Checkout copies to the project what it lacks of tracked content and DVC's cache holds, and tells how many files it
// copied and which paths are nowhere. What the cache holds is compared with its hash.
func Checkout(dir string, tracks []Tracked) (files int, absent []string, err error) {
	for _, one := range tracks {
		to := filepath.Join(dir, filepath.FromSlash(one.Path))
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		n, err := checkoutOne(dir, to, one.MD5)
		files += n
		if errors.Is(err, fs.ErrNotExist) {
			absent = append(absent, one.Path)
		} else if err != nil {
			return files, absent, fmt.Errorf("check out %s: %w", one.Path, err)
		}
	}
	return files, absent, nil
}

// Absent lists the tracked content that the project lacks.
func Absent(dir string, tracks []Tracked) (paths []string) {
	for _, one := range tracks {
		if _, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(one.Path))); err != nil {
			paths = append(paths, one.Path)
		}
	}
	return paths
}

func checkoutOne(dir, to, hash string) (files int, err error) {
	from, err := cached(dir, hash)
	if err != nil {
		return 0, err
	}
	if !strings.HasSuffix(hash, ".dir") {
		return 1, from.copy(to)
	}
	text, err := os.ReadFile(from.path)
	if err != nil {
		return 0, err
	}
	if !from.holds(text) {
		return 0, from.damaged()
	}
	var list []struct {
		MD5     string `json:"md5"`
		Relpath string `json:"relpath"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return 0, fmt.Errorf("read DVC's list %s: %w", from.path, err)
	}
	objects := make([]object, len(list))
	for i, one := range list { // all or nothing
		if objects[i], err = cached(dir, one.MD5); err != nil {
			return 0, err
		}
		if !filepath.IsLocal(filepath.FromSlash(one.Relpath)) {
			return 0, fmt.Errorf("DVC's list %s names %q, outside of its folder", from.path, one.Relpath)
		}
	}
	for i, one := range list {
		if err := objects[i].copy(filepath.Join(to, filepath.FromSlash(one.Relpath))); err != nil {
			return files, err
		}
		files++
	}
	return files, nil
}

// object is a file of DVC's cache.
type object struct {
	path string
	hash string // MD5 in hexadecimal digits
	old  bool   // of DVC 2, which hashed texts as if their lines ended with a newline alone
}

// cached finds an object in DVC's cache, as DVC 3 or DVC 2 lays it out.
func cached(dir, hash string) (object, error) {
	if len(hash) < 32 || strings.ContainsAny(hash, "/\\") {
		return object{}, fmt.Errorf("%q is no MD5: %w", hash, fs.ErrNotExist)
	}
	for _, root := range []string{".dvc/cache/files/md5", ".dvc/cache"} {
		at := filepath.Join(dir, filepath.FromSlash(root), hash[:2], hash[2:])
		if _, err := os.Stat(at); err == nil {
			return object{at, strings.TrimSuffix(hash, ".dir"), root == ".dvc/cache"}, nil
		}
	}
	return object{}, fs.ErrNotExist
}

// holds says whether content is the object's.
func (o object) holds(content []byte) bool {
	sum := md5.Sum(content)
	if hex.EncodeToString(sum[:]) == o.hash {
		return true
	}
	if !o.old {
		return false
	}
	sum = md5.Sum(bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n")))
	return hex.EncodeToString(sum[:]) == o.hash
}

func (o object) damaged() error {
	return fmt.Errorf("%s is damaged: it is not what its name says; dvc fetch brings it anew once it is removed", o.path)
}

// copy puts the object at a path, where it appears when it is whole and found to be what its name says.
func (o object) copy(to string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return err
	}
	in, err := os.Open(o.path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // nothing is left of it after the rename
	sum := md5.New()
	_, err = io.Copy(io.MultiWriter(out, sum), in)
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != o.hash {
		err = o.asText()
	}
	if err == nil {
		err = out.Chmod(0o644)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// asText compares an object with its hash once more, as DVC 2 hashed texts.
func (o object) asText() error {
	if o.old {
		content, err := os.ReadFile(o.path)
		if err != nil {
			return err
		}
		if o.holds(content) {
			return nil
		}
	}
	return o.damaged()
}
