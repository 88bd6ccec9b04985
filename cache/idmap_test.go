package cache

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestIDMap: it says what a Go map says, whatever is put into it.
func TestIDMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var m IDMap[int]
	plain := map[ID]int{}
	if _, ok := m.Get(ID{}); ok || m.Len() != 0 {
		t.Error("an empty one has something")
	}
	for i := range 5 * pageSize {
		var id ID
		id[r.IntN(32)] = byte(r.IntN(256)) // alike, and often the same again
		id[r.IntN(32)] = byte(r.IntN(256))
		m.Put(id, i)
		plain[id] = i
		if got, ok := m.Get(id); !ok || got != i {
			t.Fatalf("%d, %t instead of %d", got, ok, i)
		}
		id[31]++
		want, there := plain[id]
		if got, ok := m.Get(id); ok != there || got != want {
			t.Fatalf("%d, %t instead of %d, %t", got, ok, want, there)
		}
	}
	if m.Len() != len(plain) || !maps.Equal(maps.Collect(m.All()), plain) {
		t.Errorf("%d instead of %d", m.Len(), len(plain))
	}
}

func BenchmarkIDMap(b *testing.B) {
	ids := make([]ID, 100_000)
	for i := range ids {
		ids[i] = Sum([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			var m IDMap[[3]int64]
			for i, id := range ids {
				m.Put(id, [3]int64{int64(i)})
			}
			for _, id := range ids {
				if !m.Has(id) {
					b.Fatal(id)
				}
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			m := map[ID][3]int64{}
			for i, id := range ids {
				m[id] = [3]int64{int64(i)}
			}
			for _, id := range ids {
				if _, ok := m[id]; !ok {
					b.Fatal(id)
				}
			}
		}
	})
}
