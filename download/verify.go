package download

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"

	"github.com/zeebo/blake3"
)

// check compares a file with the size and the hash that a hub gave: 64 digits are the SHA-256 of the content, 40 the
// SHA-1 of a Git blob, whose head names the size.
func check(path string, f File) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() != f.Size {
		return fmt.Errorf("%d bytes instead of %d", info.Size(), f.Size)
	}
	h := sha256.New()
	if len(f.Hash) == 40 {
		h = sha1.New()
		fmt.Fprintf(h, "blob %d\x00", f.Size)
	}
	got, err := sumFile(path, h)
	if err == nil && got != f.Hash {
		err = fmt.Errorf("hash %s instead of %s", got, f.Hash)
	}
	return err
}

// checksum computes a file's hash by the algorithm that a checksum ("sha256:…", "blake3:…") names.
func checksum(path, like string) (string, error) {
	algorithm, _, _ := strings.Cut(like, ":")
	switch algorithm {
	case "sha256":
		sum, err := sumFile(path, sha256.New())
		return "sha256:" + sum, err
	case "blake3":
		sum, err := sumFile(path, blake3.New())
		return "blake3:" + sum, err
	}
	return "", fmt.Errorf("checksum %q begins neither with sha256: nor with blake3: as it must", like)
}

func sumFile(path string, h hash.Hash) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(h, f, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
