package runner

import (
	"sync"

	"lpipe/cache"
)

// scanMemo remembers scans by path for the length of one command and lets only one caller make each.
type scanMemo struct {
	mu    sync.Mutex
	scans map[string]*pendingScan
}

type pendingScan struct {
	done chan struct{}
	scan *cache.Scan
	err  error
}

func (m *scanMemo) get(path string, scan func() (*cache.Scan, error)) (*cache.Scan, error) {
	m.mu.Lock()
	if m.scans == nil {
		m.scans = map[string]*pendingScan{}
	}
	one, begun := m.scans[path]
	if !begun {
		one = &pendingScan{done: make(chan struct{})}
		m.scans[path] = one
	}
	m.mu.Unlock()
	if begun {
		<-one.done
		return one.scan, one.err
	}
	defer close(one.done)
	one.scan, one.err = scan()
	return one.scan, one.err
}

// forget makes the next get look again.
func (m *scanMemo) forget(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.scans, path)
}
