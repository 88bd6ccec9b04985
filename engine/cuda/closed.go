package cuda

// closed is the machine of a closed device.
type closed struct{}

func (closed) Alloc(int64) (Pointer, error)                            { return 0, errClosed }
func (closed) Free(Pointer) error                                      { return errClosed }
func (closed) Set(Pointer, byte, int64) error                          { return errClosed }
func (closed) Upload(Pointer, []byte) error                            { return errClosed }
func (closed) Download([]byte, Pointer) error                          { return errClosed }
func (closed) Copy(_, _ Pointer, _ int64) error                        { return errClosed }
func (closed) Fetch([]Part) (func() ([]byte, error), error)            { return nil, errClosed }
func (closed) AfterFetch() error                                       { return errClosed }
func (closed) Launch(string, [3]uint32, uint32, uint32, *Params) error { return errClosed }
func (closed) Product(*Product) (bool, error)                          { return false, errClosed }
func (closed) Record(func()) (Recording, error)                        { return nil, errClosed }
func (closed) Sync() error                                             { return errClosed }
func (closed) Describe() Description                                   { return Description{Name: "cuda", Detail: "closed"} }
func (closed) Close() error                                            { return nil }
