package runner

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"lpipe/cache"
)

// Pin is content that gc keeps because a person made it: an output that was changed by hand and then replaced.
type Pin struct {
	cache.Content
	Path string    `json:"path"` // where it stood
	Time time.Time `json:"time"`
}

// pin adds a line to .lpipe/pins. The file is only ever appended to; a line that does not parse is skipped.
func (r *Runner) pin(content cache.Content, path string) error {
	f, err := os.OpenFile(r.path("pins"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%s\n", compact(Pin{content, path, r.Now().UTC().Truncate(time.Second)}))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// readPins returns the pins in a file, none if it does not exist.
func readPins(path string) ([]Pin, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var pins []Pin
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var pin Pin
		if json.Unmarshal(lines.Bytes(), &pin) == nil && !pin.ID.IsZero() {
			pins = append(pins, pin)
		}
	}
	return pins, lines.Err()
}
