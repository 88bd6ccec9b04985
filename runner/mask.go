package runner

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// shortestMasked is the length below which a passed value is left visible: masking "1" or "on" would make a log
// unreadable and hide nothing.
const shortestMasked = 4

// maskWriter replaces secret values in what passes through it. It holds back an end that could be the beginning of a
// secret until more comes, or until flush.
type maskWriter struct {
	mu      sync.Mutex
	out     io.Writer
	secrets []string // longest first
	held    []byte
}

// masking returns out itself if there is nothing to mask.
func masking(out io.Writer, secrets []string) (w io.Writer, flush func() error) {
	var long []string
	for _, s := range secrets {
		if len(s) >= shortestMasked && !slices.Contains(long, s) {
			long = append(long, s)
		}
	}
	if len(long) == 0 {
		return out, func() error { return nil }
	}
	slices.SortFunc(long, func(a, b string) int { return len(b) - len(a) })
	m := &maskWriter{out: out, secrets: long}
	return m, m.flush
}

func (m *maskWriter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = append(m.held, p...)
	m.mask()
	keep := m.tail()
	_, err := m.out.Write(m.held[:len(m.held)-keep])
	m.held = append(m.held[:0], m.held[len(m.held)-keep:]...)
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (m *maskWriter) flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.out.Write(m.held)
	m.held = nil
	return err
}

func (m *maskWriter) mask() {
	for _, secret := range m.secrets {
		if bytes.Contains(m.held, []byte(secret)) {
			m.held = bytes.ReplaceAll(m.held, []byte(secret), []byte("***"))
		}
	}
}

// tail is the length of the longest end that begins a secret.
func (m *maskWriter) tail() int {
	longest := 0
	for _, secret := range m.secrets {
		for n := min(len(secret)-1, len(m.held)); n > longest; n-- {
			if strings.HasPrefix(secret, string(m.held[len(m.held)-n:])) {
				longest = n
			}
		}
	}
	return longest
}
