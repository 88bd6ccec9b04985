package runner

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what is printed into the golden files")

// Every file in testdata/mistakes is a project and, as its last file `want`, what the user is told. The comment
// above holds options, one a line: profile NAME, var NAME=VALUE, experiment NAME=VALUE, env NAME=VALUE, file NAME, var-file NAME.
func TestMistakes(t *testing.T) {
	paths, err := filepath.Glob("testdata/mistakes/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			dt := decodeTest{files: map[string]string{}, env: map[string]string{}, opts: DecodeOptions{Version: "0.1.0"}}
			want := &archive.Files[len(archive.Files)-1]
			if want.Name != "want" {
				t.Fatal("the last file is not want")
			}
			for _, file := range archive.Files[:len(archive.Files)-1] {
				dt.files[file.Name] = string(file.Data)
			}
			readOptions(t, &dt, string(archive.Comment))
			p, diags := dt.run(t)
			if !diags.HasErrors() {
				t.Fatal("no mistake is found")
			}
			got := printed(p, diags)
			if strings.Contains(got, "hunter2") && !strings.Contains(archive.Files[0].Name+string(archive.Files[0].Data), "hunter2") {
				t.Errorf("a secret is shown")
			}
			for _, diag := range diags {
				if diag.Detail == "" {
					t.Errorf("no remedy: %s", diag.Summary)
				}
			}
			if *update {
				want.Data = []byte(got)
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else {
				equal(t, "printed", got, string(want.Data))
			}
		})
	}
}

func readOptions(t *testing.T, dt *decodeTest, comment string) {
	for line := range strings.Lines(comment) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "", "#":
		case "profile":
			dt.opts.Profile = value
		case "var":
			dt.opts.Vars = append(dt.opts.Vars, value)
		case "var-file":
			dt.opts.VarFiles = append(dt.opts.VarFiles, value)
		case "experiment":
			variable, text, _ := strings.Cut(value, "=")
			dt.opts.Experiment = map[string]string{variable: text}
		case "set":
			dt.opts.Sets = append(dt.opts.Sets, value)
		case "file":
			dt.opts.Files = append(dt.opts.Files, value)
		case "env":
			key, text, _ := strings.Cut(value, "=")
			dt.env[key] = text
		default:
			t.Fatalf("unknown option %q", name)
		}
	}
}
