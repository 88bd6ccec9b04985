package runner

import (
	"fmt"
	"os"
	"strings"
	"time"

	"lpipe/cache"
)

// Unmoved is something that a stage hangs on and that is as it was, with what may look like a change and is none.
type Unmoved struct {
	What string `json:"what"` // run, input, setting, code, tool, frozen
	Name string `json:"name,omitempty"`
	Note string `json:"note"`
}

// unmoved says why a stage with the recorded key does not run, though one may expect it: each input with what happened
// to it since the recorded run, and how much else was compared.
func (a *assessment) unmoved(n *Node, key cache.Key, in ingredients) []Unmoved {
	if n.Step.Frozen {
		return []Unmoved{{"frozen", "", "its outputs count as they stand, whatever its inputs are; repro takes them as they are"}}
	}
	var since time.Time
	var all []Unmoved
	if result, err := a.Cache.Result(key); err == nil {
		r := result.Record
		since = r.Started
		note := fmt.Sprintf("recorded %s", r.Started.Local().Format(time.DateTime))
		if r.User != "" || r.Host != "" {
			note += fmt.Sprintf(" by %s on %s", r.User, r.Host)
		}
		all = append(all, Unmoved{"run", r.Run, note})
	}
	for _, one := range in.inputs {
		all = append(all, Unmoved{"input", inputName(one.nodeInput), a.sinceThen(n, one, since)})
	}
	count := func(what string, number int) {
		if number > 0 {
			all = append(all, Unmoved{what, "", fmt.Sprintf("%d compared, the same", number)})
		}
	}
	count("setting", len(n.Step.Settings)+len(n.Step.Env))
	count("code", len(in.code))
	count("tool", len(in.tools))
	return all
}

// sinceThen says what happened to an input since a run, though its content is the same.
func (a *assessment) sinceThen(n *Node, in readInput, since time.Time) string {
	if len(in.makers) > 0 {
		maker := in.makers[0].node.Step.Name
		if result, err := a.Cache.Result(a.lock.Stages[maker].Key); err == nil && !since.IsZero() && result.Record.Started.After(since) {
			return fmt.Sprintf("stage %s ran again %s, and what came out is the same", maker, result.Record.Started.Local().Format(time.DateTime))
		}
		return "as stage " + maker + " left it"
	}
	if in.missing {
		return "not in the workspace; its recorded content counts"
	}
	if in.origin == nil {
		return "the same"
	}
	info, err := os.Stat(a.originAt(in.Path))
	if reads := n.reads(in.nodeInput); reads != nil && in.content.Dir {
		if a.lock.Sources[in.Path].Content != in.content {
			return "other files of it changed; this stage reads only " + strings.Join(reads, ", ")
		}
		return "the same; of its files only " + strings.Join(reads, ", ") + " count"
	}
	if err == nil && !since.IsZero() && info.ModTime().After(since) {
		return fmt.Sprintf("written %s, with the same content", info.ModTime().Local().Format(time.DateTime))
	}
	return "the same"
}

// inputName is what a person calls an input: its name, or for a bare reference its path.
func inputName(in *nodeInput) string {
	if in.Port == "" && strings.HasPrefix(in.Name, "ref[") {
		return in.Path
	}
	return in.Name
}
