package runner

import (
	"context"
	"io"
	"os/exec"
)

// A Stage does one kind's work. Its exported fields are the settings of the block: decode fills them by
// their `hcl` tags. An optional method Check() error is called after decoding; the error it returns
// begins with the name of the setting it is about ("rank: must be at least 1").
type Stage interface {
	Run(ctx context.Context, env *Env) error
}

// Kind describes what may stand as the first label of a stage block.
type Kind struct {
	Name string
	Doc  string // one sentence
	// Version counts changes of meaning: it goes up when the same inputs would now give other outputs.
	Version int
	In, Out []Port
	// Ports narrows In and Out to those of a stage with these settings and inputs, where either chooses
	// (train: adapter or model, by method; split: data or tokens). It may also change what it passes on: an
	// extension, Folder, Optional. Settings that name other stages are not filled in yet. nil: In and Out as they stand.
	Ports func(s Stage, in map[string]bool) (ins, outs []Port)
	// InPlace kinds (shell) take inputs and outputs of any name and write at the declared paths; the others
	// write at fresh paths, which appear at their place only when the stage has succeeded.
	InPlace bool
	// Resources says what a stage needs unless its block says otherwise; nil means one CPU.
	Resources func(Stage) Resources
	// Shared kinds work on goroutines of this process, which share its processors with other stages anyway: one waits for one
	// CPU only, and may yet use as many threads as there are CPUs, unless its block says how many.
	Shared bool
	// New returns a stage with its defaults filled in.
	New func() Stage
}

// Port is a named input or output of a built-in kind.
type Port struct {
	Name     string
	Doc      string
	Optional bool
	List     bool // takes a list of paths
	Map      bool // takes a map of paths
	Folder   bool // outputs: a folder is made, not a file
	// Ext is the extension of an output left out, with its dot: ".jsonl". Folders have none.
	Ext string
	// Reads holds the patterns (path.Match on the path inside a folder, "**" for any depth) of the files that
	// count in the key when the input is a folder. Empty: all of them.
	Reads []string
	// Metrics and Plots mark outputs that the commands of those names read.
	Metrics, Plots bool
}

// Env is all that a running stage may touch.
type Env struct {
	Dir, Name string             // workspace; for messages only, never in results
	In        map[string][]Input // port -> files and folders, read-only
	Out       map[string]string  // port -> path to write; a folder's path does not exist yet
	Environ   []string           // for child processes
	GPUs      []int
	Device    string // "cpu", "cpu:amx-bf16", "cuda", "cuda:1": where to compute; recorded, never keyed
	CPUs      int    // threads that the stage may use
	// Scratch is a folder that survives failure and is kept until the stage's key succeeds: checkpoints, spills.
	Scratch string
	// SendCheckpoint sends a file of Scratch to where other machines find it under this stage's key; its name sorts behind
	// those sent before. BringCheckpoint brings the newest into Scratch and returns its name, "" if none sorts behind than.
	// Both are nil where there is no such place.
	SendCheckpoint  func(ctx context.Context, path string) error
	BringCheckpoint func(ctx context.Context, than string) (name string, err error)

	Log    io.Writer
	Report func(Event) // may be called from several goroutines
	// Spawned must be told of every process group that the stage starts, by its id, as soon as it runs: the
	// runner sees to it that the group dies with lpipe, however lpipe dies. Call what it returns once the group
	// is gone.
	Spawned func(pgid int) (ended func())
	// Confine must be called for every command before it starts, and what it returns afterwards, whether it started or
	// not: it keeps the command to what a stage with `sandbox` declares. Nil: the stage is not confined.
	Confine func(cmd *exec.Cmd) (started func(), err error)
}

// Input is one path that a stage reads. Name is the map's key for a Map port, else empty.
type Input struct {
	Name string
	Path string // absolute
}

// Event is what a running stage tells. The zero fields say nothing.
type Event struct {
	Done, Total float64            // progress, in Unit; Total 0: unknown
	Unit        string             // "rows", "B", "steps", "tokens"
	Message     string             // one line for the person watching: "step 12/120  loss 1.234"
	Metrics     map[string]float64 // numbers as they come: "train/loss"
	Device      string             // what computed: goes into the result's record
}

// Resources is what a stage needs while it runs.
type Resources struct {
	CPU  int // 0: one; below 0: all of the machine's
	GPU  int
	RAM  int64          // bytes
	Pool map[string]int // the user's own pools
}
