package cache

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestSameContentAtOnce: of many that add the same content at the same time, by link or by copy, none fails.
func TestSameContentAtOnce(t *testing.T) {
	p := newProject(t)
	for round := range 300 {
		var wg sync.WaitGroup
		text := fmt.Sprint(round)
		if round%2 == 0 {
			text = "" // an empty file is quickly hashed
			if round > 0 {
				noError(t, p.cache.disk.remove(p.cache.Path(Sum(nil))))
			}
		}
		for i := range 4 {
			path := p.write(fmt.Sprintf("%d/%d/f", round, i), text)
			if i%2 == 0 { // a file with two names is copied, not adopted
				noError(t, os.Link(path, path+"2"))
			}
		}
		for i := range 4 {
			wg.Go(func() {
				if _, err := p.cache.Add(t.Context(), p.state, p.path(fmt.Sprintf("%d/%d/f", round, i)), AddOptions{Move: true}); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if !p.cache.Has(Sum([]byte(text))) {
			t.Errorf("round %d: it is not there", round)
		}
	}
}
