package runner

import (
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"lpipe/cache"
)

// keyHead is the first line of every description. It changes when the rules below do.
const keyHead = "lpipe key 1"

// ingredients are all that goes into a stage's key, beside what the pipeline file says.
type ingredients struct {
	inputs []readInput
	code   []readFile
	tools  []readFile
}

// readInput is an input with the content it has.
type readInput struct {
	*nodeInput
	content cache.Content
	digest  cache.ID // of the files that the kind reads, if those are not all; else zero
	missing bool     // the content is on record, but its bytes are not in the workspace
}

// id is what stands for the input in the key.
func (in readInput) id() cache.ID {
	if !in.digest.IsZero() {
		return in.digest
	}
	return in.content.ID
}

// readFile is a file of `code` by path or of `tools` by name.
type readFile struct {
	name    string
	path    string // absolute
	content cache.Content
}

// describe writes the canonical text whose BLAKE3 hash is the key: one thing a line, the kind of thing first, its name
// second. The text is stored with the result; `why` compares two of them line by line. doc/format.md specifies it.
func describe(n *Node, in ingredients) string {
	step := n.Step
	b := make([]byte, 0, 1024)
	line := func(words ...string) {
		for i, word := range words {
			if i > 0 {
				b = append(b, ' ')
			}
			b = append(b, word...)
		}
		b = append(b, '\n')
	}
	line(keyHead)
	line("kind", step.Kind.Name, strconv.Itoa(step.Kind.Version))
	for _, s := range step.Settings {
		value := s.Value
		if s.Sensitive {
			value = "sensitive " + cache.Sum([]byte(s.Value)).String()
		}
		line("setting", quote(s.Name), value)
	}
	inputs := slices.Clone(in.inputs)
	slices.SortFunc(inputs, func(a, b readInput) int { return strings.Compare(a.Name, b.Name) })
	for _, one := range inputs {
		words := []string{"in", quote(one.Name), one.sort(), one.id().String(), quote(one.Path)}
		if !step.Kind.InPlace {
			words = words[:4]
		}
		line(words...)
	}
	for _, file := range in.code {
		line("code", quote(file.name), sortOf(file.content), file.content.ID.String())
	}
	for _, tool := range in.tools {
		line("tool", quote(tool.name), tool.content.ID.String())
	}
	for _, name := range slices.Sorted(maps.Keys(step.Env)) {
		line("env", quote(name), quote(step.Env[name]))
	}
	outs := slices.Clone(step.Out)
	slices.SortFunc(outs, func(a, b StepOutput) int { return strings.Compare(a.Name, b.Name) })
	for i := range outs {
		line("out", quote(outs[i].Name), quote(outs[i].shape(step.Kind)))
	}
	return string(b)
}

// sort is "file", "exec", "dir", or "some": those files of a folder that the kind reads.
func (in readInput) sort() string {
	if !in.digest.IsZero() {
		return "some"
	}
	return sortOf(in.content)
}

func sortOf(c cache.Content) string {
	switch {
	case c.Dir:
		return "dir"
	case c.Exec:
		return "exec"
	}
	return "file"
}

// shape is what of an output counts in the key: the path if the stage sees it, else the extension, and whether it
// must be a folder.
func (o *StepOutput) shape(kind *Kind) string {
	shape := path.Ext(o.Path)
	if kind.InPlace {
		shape = o.Path
	} else if o.Folder {
		shape = ""
	}
	if o.Folder {
		shape += "/"
	}
	return shape
}

func quote(s string) string { return string(appendJSONString(nil, s)) }

// lockStage is a stage's line of the lock: the description in short, and what came out.
func lockStage(n *Node, key cache.Key, description string, in ingredients, out map[string]cache.Content) LockStage {
	stage := LockStage{
		Key:      key,
		Kind:     fmt.Sprintf("%s %d", n.Step.Kind.Name, n.Step.Kind.Version),
		Settings: digestOf(description, "setting"),
		Code:     digestOf(description, "code"),
		Tools:    digestOf(description, "tool"),
		Env:      digestOf(description, "env"),
		Out:      make(map[string]LockOutput, len(out)),
	}
	if len(in.inputs) > 0 {
		stage.In = make(map[string]cache.ID, len(in.inputs))
		for _, one := range in.inputs {
			stage.In[one.Name] = one.id()
		}
	}
	for _, one := range n.Step.Out {
		stage.Out[one.Name] = LockOutput{Path: one.Path, Content: out[one.Name]}
	}
	return stage
}

// digestOf is a short hash of a description's lines of one sort, "" if there are none.
func digestOf(description, sort string) string {
	var lines strings.Builder
	for line := range strings.Lines(description) {
		if strings.HasPrefix(line, sort+" ") {
			lines.WriteString(line)
		}
	}
	if lines.Len() == 0 {
		return ""
	}
	sum := cache.Sum([]byte(lines.String()))
	return hex.EncodeToString(sum[:8])
}
