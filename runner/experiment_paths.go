package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Paths that lead out of an instance's workspace: what they name, all instances share, or it is not there at all.

// warnOfPaths tells of paths in commands, environment and code that lead out of the workspace. Each stage is told of once in a
// sweep.
func (s *sweep) warnOfPaths(ctx context.Context, r *Runner) {
	nodes, err := r.Plan.Select(Selection{Targets: s.Experiment.Targets})
	if err != nil {
		return // Repro reports it
	}
	for _, n := range nodes {
		s.mu.Lock()
		told := s.told[n.Step.Name]
		s.told[n.Step.Name] = true
		s.mu.Unlock()
		if told {
			continue
		}
		for _, message := range s.leavingPaths(ctx, r, n) {
			s.report(RunEvent{Event: "warning", Stage: n.Step.Name, Message: message})
		}
	}
}

// leavingPaths says which paths of a node lead out of its workspace.
func (s *sweep) leavingPaths(ctx context.Context, r *Runner, n *Node) (messages []string) {
	if where := s.namesProject(ctx, r, n); where != "" {
		messages = append(messages, fmt.Sprintf("%s names %s, which is the project's folder, not the "+
			"instance's: what is written there all instances share. Write the path relative to the workspace", where, s.project))
	}
	var command string
	for _, setting := range n.Step.Settings {
		if setting.Name == "command" {
			command = setting.Value // a string or a list, as JSON: what is in it reads the same
			if text := ""; json.Unmarshal([]byte(command), &text) == nil {
				command = text
			}
		}
	}
	if !n.Step.Kind.InPlace {
		return messages
	}
	if up := climbingPath(command, n.runsIn()); up != "" {
		messages = append(messages, fmt.Sprintf("command names %s, which leads out of the workspace: an instance runs in %s, where something "+
			"else is there, or nothing. Copy or link it into the project", up, ".lpipe/exp/"+s.Experiment.Name+"/INSTANCE"))
	}
	if at := writtenElsewhere(command, s.project); at != "" {
		messages = append(messages, fmt.Sprintf("command writes to %s, which all instances share. Write into the workspace, or below $LPIPE_SCRATCH", at))
	}
	return messages
}

var (
	pathWord = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`(?:^|[\s"'=;|&<>(:,\[])((?:\./)*(?:[\w.-]+/)*\.\.(?:/[\w.@%+=-]+)*)`)
	})
	redirected = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`>\s*["']?(/[^\s"';|&)<>]+)`) })
)

// climbingPath is the first path in a command that leads out of the workspace, seen from the folder that the command runs in.
func climbingPath(command, dir string) string {
	if path.IsAbs(dir) {
		return ""
	}
	for _, found := range pathWord().FindAllStringSubmatch(command, -1) {
		if at := path.Join(dir, found[1]); at == ".." || strings.HasPrefix(at, "../") {
			return found[1]
		}
	}
	return ""
}

// writtenElsewhere is the first absolute path that a command's output is sent to, but for devices and the project.
func writtenElsewhere(command, project string) string {
	for _, found := range redirected().FindAllStringSubmatch(command, -1) {
		if !strings.HasPrefix(found[1], "/dev/") && !strings.HasPrefix(found[1], project+"/") {
			return found[1]
		}
	}
	return ""
}

// staysBelow refuses inputs of commands that lie beside the project: from an instance's workspace their paths lead elsewhere.
func (r *Runner) staysBelow(targets []string) error {
	nodes, err := r.Plan.Select(Selection{Targets: targets})
	if err != nil {
		return err
	}
	for _, n := range nodes {
		for i := range n.inputs {
			if in := &n.inputs[i]; n.Step.Kind.InPlace && (in.Path == ".." || strings.HasPrefix(in.Path, "../")) {
				return usage("stage %s reads %s, which lies outside of the project: a command of an experiment runs in a folder of its own, from where "+
					"that path leads elsewhere. Name it by its absolute path, or link it into the project", n.Step.Name, in.Path)
			}
		}
	}
	return nil
}

// namesProject says where a node names the project's folder; "" if nowhere.
func (s *sweep) namesProject(ctx context.Context, r *Runner, n *Node) string {
	names := func(text string) bool {
		at := strings.Index(text, s.project)
		if at < 0 {
			return false
		}
		rest := text[at+len(s.project):]
		return rest == "" || !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", rune(rest[0]))
	}
	for _, setting := range n.Step.Settings {
		if names(setting.Value) {
			return setting.Name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.Step.Env)) {
		if names(n.Step.Env[name]) {
			return "env." + name
		}
	}
	files, err := (&view{Runner: r}).code(ctx, n)
	if err != nil {
		return "" // the step itself reports it
	}
	for _, file := range files {
		if file.content.Size > 1<<20 {
			continue
		}
		if data, err := os.ReadFile(file.path); err == nil && names(string(data)) {
			return file.name
		}
	}
	return ""
}
