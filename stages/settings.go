package stages

import (
	"bytes"
	"encoding/json"
)

// strictJSON decodes an object and refuses members that it does not know.
func strictJSON(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
