package cache

import (
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// ID names content: the BLAKE3 hash of a file's bytes, or of a folder's encoded Tree.
type ID [32]byte

// Key names a result: the BLAKE3 hash of a description of what ran, with what settings, on which content.
type Key [32]byte

// Sum is the ID of a file with these bytes.
func Sum(data []byte) ID { return ID(blake3.Sum256(data)) }

// SumKey is the key of a description.
func SumKey(description string) Key { return Key(blake3.Sum256([]byte(description))) }

// String gives 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the ID was never set. No content has this ID.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText writes what String gives.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(text []byte) error { return parseHash((*[32]byte)(id), string(text)) }

// ParseID reads 64 lower-case hexadecimal digits.
func ParseID(text string) (ID, error) {
	var id ID
	err := parseHash((*[32]byte)(&id), text)
	return id, err
}

// String gives 64 lower-case hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// IsZero tells whether the key was never set.
func (k Key) IsZero() bool { return k == Key{} }

// MarshalText writes what String gives.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (k *Key) UnmarshalText(text []byte) error { return parseHash((*[32]byte)(k), string(text)) }

// ParseKey reads 64 lower-case hexadecimal digits.
func ParseKey(text string) (Key, error) {
	var k Key
	err := parseHash((*[32]byte)(&k), text)
	return k, err
}

func parseHash(dst *[32]byte, text string) error {
	if len(text) != 64 {
		return fmt.Errorf("hash %q: %d characters instead of 64", text, len(text))
	}
	for i := range dst {
		hi, lo := hexDigit(text[2*i]), hexDigit(text[2*i+1])
		if hi > 15 || lo > 15 {
			return fmt.Errorf("hash %q: not lower-case hexadecimal", text)
		}
		dst[i] = hi<<4 | lo
	}
	return nil
}

// hexDigit is stricter than encoding/hex: one hash has one spelling.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
