package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lpipe/engine/safetensors"
)

// ReadIDs reads sequences of token ids: input_ids of a .safetensors file, or text with one sequence a line, each as
// {"ids": [1, 2]}, as [1, 2], or as numbers with spaces between; a line may also be a list of lists.
func ReadIDs(path string) ([][]int32, error) {
	if filepath.Ext(path) == ".safetensors" {
		return readTensorIDs(path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ids: %w", err)
	}
	var all [][]int32
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		var many [][]int32
		if json.Unmarshal([]byte(line), &many) == nil {
			all = append(all, many...)
			continue
		}
		ids, err := parseIDs(line)
		if err != nil {
			return nil, fmt.Errorf("read ids: %s line %d: %w", path, n, err)
		}
		all = append(all, ids)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read ids: %s holds none", path)
	}
	return all, nil
}

func parseIDs(line string) (ids []int32, err error) {
	switch line[0] {
	case '{':
		var object struct {
			IDs []int32 `json:"ids"`
		}
		err = json.Unmarshal([]byte(line), &object)
		ids = object.IDs
	case '[':
		err = json.Unmarshal([]byte(line), &ids)
	default:
		err = json.Unmarshal([]byte("["+strings.Join(strings.Fields(line), ",")+"]"), &ids)
	}
	if err != nil {
		return nil, fmt.Errorf(`neither {"ids": [1, 2]}, nor a list, nor numbers: %w`, err)
	}
	return ids, nil
}

func readTensorIDs(path string) ([][]int32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, ok := f.Tensor("input_ids")
	if !ok || len(t.Shape) == 0 || len(t.Shape) > 2 {
		return nil, fmt.Errorf("read ids: %s needs input_ids of one or two dimensions", path)
	}
	wide := make([]int64, t.Len())
	if err := f.Int64("input_ids", wide); err != nil {
		return nil, err
	}
	var all [][]int32
	row := t.Shape[len(t.Shape)-1]
	for ; row > 0 && len(wide) > 0; wide = wide[row:] {
		ids := make([]int32, row)
		for i, v := range wide[:row] {
			ids[i] = int32(v)
		}
		all = append(all, ids)
	}
	return all, nil
}
