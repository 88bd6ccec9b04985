package dataset

import "os"

// eagerFile is a file being written, for which the disk works meanwhile: what Sync waits for in the end is little.
type eagerFile struct {
	*os.File
	size  int64 // written
	begun int64 // of these, on their way to the disk
}

func (f *eagerFile) Write(b []byte) (int, error) {
	const step = 8 << 20 // bytes on their way at once
	n, err := f.File.Write(b)
	if f.size += int64(n); f.size-f.begun >= step {
		beginWriting(f.File, f.begun, f.size-f.begun)
		f.begun = f.size
	}
	return n, err
}
