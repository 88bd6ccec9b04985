package cache

import "slices"

// Mend looks for the one bit whose change makes data good again and returns data so changed; false where no single bit
// does. It tries them all: for small things that stand nowhere else.
func Mend(data []byte, good func([]byte) bool) ([]byte, bool) {
	data = slices.Clone(data)
	for i := range data {
		for bit := range 8 {
			data[i] ^= 1 << bit
			if good(data) {
				return data, true
			}
			data[i] ^= 1 << bit
		}
	}
	return nil, false
}
