package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"lpipe/cache"
)

// Pin is content that gc keeps because a person made it: an output that was changed by hand and then replaced.
type Pin struct {
	cache.Content
	Path string    `json:"path"` // where it stood
	Time time.Time `json:"time"`
}

// pin adds a line to .lpipe/pins: digits that begin the hash of the rest, a space, JSON. The file is only ever appended to.
func (r *Runner) pin(content cache.Content, path string) error {
	f, err := os.OpenFile(r.path("pins"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	text := compact(Pin{content, path, r.Now().UTC().Truncate(time.Second)})
	line := fmt.Sprintf("%s %s\n", lineSum(text), text)
	data, err := io.ReadAll(f)
	if err == nil {
		data, err = withoutTorn(data, goodPin), f.Truncate(int64(len(withoutTorn(data, goodPin))))
	}
	if len(data) > 0 && data[len(data)-1] != '\n' {
		line = "\n" + line
	}
	if err == nil {
		_, err = f.WriteString(line)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = syncUp(r.path())
	}
	return err
}

func goodPin(line []byte) bool { _, ok := parsePin(line); return ok }

// readPins returns the pins in a file, none if it does not exist. A line that is damaged makes an error that is
// cache.ErrDamaged, beside the others' pins: what it kept is not known any more.
func readPins(path string) ([]Pin, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pins []Pin
	var broken []error
	for i, line := range pinLines(withoutTorn(data, goodPin)) {
		pin, ok := parsePin(line)
		if !ok {
			broken = append(broken, fmt.Errorf("line %d is %w", i+1, cache.ErrDamaged))
			continue
		}
		pins = append(pins, pin)
	}
	return pins, errors.Join(broken...)
}

func pinLines(data []byte) [][]byte {
	if len(data) == 0 {
		return nil
	}
	return bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n"))
}

// parsePin reads a line; those of the first version are JSON alone.
func parsePin(line []byte) (pin Pin, ok bool) {
	if !bytes.HasPrefix(line, []byte("{")) {
		if len(line) < 18 || line[16] != ' ' || lineSum(line[17:]) != string(line[:16]) {
			return pin, false
		}
		line = line[17:]
	}
	return pin, json.Unmarshal(line, &pin) == nil && !pin.ID.IsZero()
}

// mendPins rewrites a file of pins: where one bit is wrong it comes back whole, other damaged lines are dropped and returned.
func mendPins(path, temp string) (dropped []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	mended, dropped := mendLines(data)
	return dropped, writeFile(path, temp, mended)
}

func mendLines(data []byte) (mended []byte, dropped []string) {
	lines := pinLines(data)
	for {
		bad := slices.IndexFunc(lines, func(line []byte) bool { return !allPins(line) })
		if bad < 0 {
			break
		}
		from, to := bad, min(bad+2, len(lines)) // a wrong bit in a line's end joins it with the next, one in a line may end it
		if mended, ok := cache.Mend(append(bytes.Join(lines[from:to], []byte("\n")), '\n'), func(b []byte) bool { return b[len(b)-1] == '\n' && allPins(b[:len(b)-1]) }); ok {
			lines = slices.Replace(lines, from, to, pinLines(mended)...)
			continue
		}
		if mended, ok := cache.Mend(lines[bad], allPins); ok {
			lines = slices.Replace(lines, bad, bad+1, bytes.Split(mended, []byte("\n"))...)
			continue
		}
		dropped = append(dropped, string(lines[bad]))
		lines = slices.Delete(lines, bad, bad+1)
	}
	for _, line := range lines {
		mended = append(append(mended, line...), '\n')
	}
	return mended, dropped
}

// allPins tells whether each line of a text is a pin.
func allPins(text []byte) bool {
	return !slices.ContainsFunc(bytes.Split(text, []byte("\n")), func(line []byte) bool { return !goodPin(line) })
}
