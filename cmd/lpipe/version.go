package main

import (
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
	v := versionInfo{Schema: 1, Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value[:min(12, len(s.Value))]
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	if p.json {
		return p.printJSON(v)
	}
	commit := ""
	if v.Commit != "" {
		commit = ", commit " + v.Commit
		if v.Modified {
			commit += " with changes"
		}
	}
	p.result("lpipe %s (%s, %s%s)", v.Version, v.Go, v.Platform, commit)
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
