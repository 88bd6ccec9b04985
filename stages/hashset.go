package stages

import "errors"

// hashSet is a set of 128-bit hashes that tells when it is full: 16 bytes a place, at most three quarters of them taken.
type hashSet struct {
	most  int
	count int
	slots [][2]uint64 // {0, 0} is empty
}

// hashesInMemory bounds the memory of finding duplicates on the way: 128 MB.
const hashesInMemory = 6 << 20

// errCrowded is a set that would need more memory than it may have.
var errCrowded = errors.New("too many hashes to keep in memory")

func newHashSet(most int) *hashSet { return &hashSet{most: most, slots: make([][2]uint64, 1<<12)} }

// add puts a hash into the set and says whether it was there.
func (s *hashSet) add(hi, lo uint64) (there bool, err error) {
	if hi == 0 && lo == 0 {
		lo = 1
	}
	if 4*(s.count+1) > 3*len(s.slots) {
		s.grow()
	}
	slot := s.find(hi, lo)
	if *slot != ([2]uint64{}) {
		return true, nil
	}
	if s.count == s.most {
		return false, errCrowded
	}
	*slot = [2]uint64{hi, lo}
	s.count++
	return false, nil
}

// find is the place of a hash, or the empty one where it belongs.
func (s *hashSet) find(hi, lo uint64) *[2]uint64 {
	mask := uint64(len(s.slots) - 1)
	for i := hi & mask; ; i = (i + 1) & mask {
		if slot := &s.slots[i]; *slot == ([2]uint64{hi, lo}) || *slot == ([2]uint64{}) {
			return slot
		}
	}
}

func (s *hashSet) grow() {
	old := s.slots
	s.slots = make([][2]uint64, 2*len(old))
	for _, one := range old {
		if one != ([2]uint64{}) {
			*s.find(one[0], one[1]) = one
		}
	}
}
