package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// release is the version that required_version is compared with.
const release = "0.1.0"

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Category: categoryHelp, Usage: "print the version",
		Action: p.version,
	}
}

func (p *program) version(*cli.Context) error {
	v := buildInfo()
	if p.json {
		return p.printJSON(v)
	}
	p.result("lpipe %s", v.text())
	return nil
}

type versionInfo struct {
	Schema   int    `json:"schema"`
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// buildInfo is what is known about this program.
func buildInfo() versionInfo {
	v := versionInfo{Schema: 1, Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v versionInfo) text() string {
	commit := ""
	if v.Commit != "" {
		commit = ", commit " + v.Commit
		if v.Modified {
			commit += " with changes"
		}
	}
	return fmt.Sprintf("%s (%s, %s%s)", v.Version, v.Go, v.Platform, commit)
}
