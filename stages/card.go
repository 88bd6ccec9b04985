package stages

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lpipe/dataset"
	"lpipe/runner"
)

// cardFile is the card of a data set or model, as hubs have it: Markdown behind a block of YAML (huggingface.co/docs/hub,
// "Dataset Cards").
const cardFile = "README.md"

// cardLicense is the licence that a card's block of YAML names, "" if none. A list of several is joined; of license
// "other", which says nothing, license_name is taken.
func cardLicense(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read card: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || strings.TrimRight(lines.Text(), " \r") != "---" {
		return "", nil
	}
	found := map[string][]string{}
	key := ""
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), " \r")
		if line == "---" {
			break
		}
		if item, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "- "); ok {
			found[key] = append(found[key], plainYAML(item))
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, " ") {
			key = ""
			continue
		}
		if key = name; strings.TrimSpace(value) != "" {
			for _, one := range strings.Split(strings.Trim(strings.TrimSpace(value), "[]"), ",") {
				found[key] = append(found[key], plainYAML(one))
			}
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read card %s: %w", path, err)
	}
	license := strings.Join(found["license"], ", ")
	if name := strings.Join(found["license_name"], ", "); name != "" && (license == "" || license == "other") {
		return name, nil
	}
	return license, nil
}

// plainYAML is a plain or quoted scalar without its quotes and comment.
func plainYAML(s string) string {
	s, _, _ = strings.Cut(s, " #")
	return strings.Trim(strings.TrimSpace(s), `"'`)
}

// rawFiles are the files of rows that convert reads: an input that is a folder stands for those in it, of the first of
// these sorts that it holds: Parquet; JSON lines; CSV; JSON. A data set's folder holds other JSON beside its rows.
func rawFiles(env *runner.Env) ([]string, error) {
	var files []string
	for _, path := range paths(env, "raw") {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			files = append(files, path) // opening it says what is wrong
			continue
		}
		inside, err := rowsIn(path)
		if err != nil {
			return nil, err
		}
		if len(inside) == 0 {
			return nil, fmt.Errorf("%s holds no file of rows (%s)", shown(env, path), dataset.Extensions)
		}
		files = append(files, inside...)
	}
	return files, nil
}

// rowsIn lists the files of rows below a folder, by name. Those behind a dot are not data.
func rowsIn(folder string) ([]string, error) {
	sorts := [...][]string{{".parquet"}, {".jsonl", ".ndjson"}, {".csv", ".tsv"}, {".json"}}
	var found [len(sorts)][]string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != folder && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		name := strings.ToLower(d.Name())
		name = strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst")
		for i, sort := range sorts {
			if slices.Contains(sort, filepath.Ext(name)) {
				found[i] = append(found[i], path)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for rows: %w", err)
	}
	for _, files := range found {
		if len(files) > 0 {
			return files, nil
		}
	}
	return nil, nil
}

// licenseOf is the licence of the rows of an input: the setting, else what the card says, given as an input or beside the
// rows in their folder.
func (c *Convert) licenseOf(env *runner.Env) (string, error) {
	if c.License != "" {
		return c.License, nil
	}
	if card := one(env, "card"); card != "" {
		license, err := cardLicense(card)
		if err == nil && license == "" {
			err = fmt.Errorf("%s names no license in a block of YAML at its beginning: set license", shown(env, card))
		}
		return license, err
	}
	var names []string
	for _, path := range paths(env, "raw") {
		license, err := cardLicense(filepath.Join(path, cardFile))
		if errors.Is(err, fs.ErrNotExist) || isFile(path) {
			continue
		}
		if err != nil {
			return "", err
		}
		if license != "" && !slices.Contains(names, license) {
			names = append(names, license)
		}
	}
	if len(names) > 1 {
		return "", fmt.Errorf("the folders of raw are under several licences (%s): convert each by itself, then mix them", strings.Join(names, "; "))
	}
	return strings.Join(names, ""), nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
