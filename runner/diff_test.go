package runner_test

import (
	"strings"
	"testing"

	"lpipe/runner"
)

func TestDiffNamesTheFilesOfFolders(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "one" {
  in      = { a = "a" }
  out     = { o = "build/" }
  command = "rm -rf build; mkdir -p build/same/deep build/other && echo s > build/same/deep/s && cp a build/other/a && ln -s a build/other/l"
}
`, "a", "1")
	w.repro()
	before, err := w.open().RecordedSnapshot()
	if err != nil {
		t.Fatal(err)
	}
	w.write("a", "2")
	w.repro()
	r := w.open()
	after, err := r.WorkspaceSnapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report := r.Diff(before, after)
	var got []string
	for _, stage := range report.Stages {
		for _, out := range stage.Outputs {
			for _, f := range out.Files {
				got = append(got, f.Change+" "+f.Path)
			}
		}
	}
	equal(t, "files", strings.Join(got, ", "), "changed other/a")
	var sources []string
	for _, source := range report.Sources {
		sources = append(sources, source.Change+" "+source.Path)
	}
	equal(t, "sources", strings.Join(sources, ", "), runner.ChangeChanged+" a")
}
