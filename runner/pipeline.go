package runner

import (
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Pipeline is what Decode makes of the pipeline files: everything evaluated, nothing unknown.
// Paths are slash-separated and relative to Dir unless absolute; a path is clean (path.Clean).
type Pipeline struct {
	Dir     string   // the workspace, absolute
	Files   []string // the pipeline files read, as the user would name them
	Profile string   // "" without one

	Settings    Settings
	Variables   []Variable // in the order of the files
	Sources     []*Source
	Steps       []*Step // instances, in the order of the files, instances by key
	Remotes     []*RemoteBlock
	Experiments []*ExperimentBlock
	Sets        []ExperimentSet // of DecodeOptions.Sets, in their order
	Tracking    *TrackingBlock

	// Off holds the instances (or whole blocks) that their `when` switched off, as targets name them.
	Off []string

	// EnvNames holds the environment variables that env() and LPIPE_VAR_ read, sorted.
	EnvNames []string

	// HCL holds every file that was parsed, by the name that ranges carry: FormatDiagnostics takes it.
	HCL map[string]*hcl.File

	reads decodeReads // what of the disk it was made from
	left  *left       // of an Excerpt: what it leaves out
}

// Settings is the lpipe block.
type Settings struct {
	RequiredVersion string
	Cache           string   // "" means .lpipe/cache
	Link            []string // "reflink", "hardlink", "symlink", "copy"
	Remote          string   // default remote, the profile's before the block's
	Device          string
	Pools           map[string]int
}

// Variable is a declared variable with the value that won.
type Variable struct {
	Name        string
	Description string
	Sensitive   bool
	Value       string // canonical JSON; "" if sensitive
	From        string // "default", "vars.auto.hcl", "profile prod", "LPIPE_VAR_x", "--var", …
}

// Source is a source block.
type Source struct {
	Name     string
	Path     string // where it stands in the workspace, or absolute
	Store    bool
	License  string // as the block says; source.NAME.license
	Download string // "", or what it is fetched from: "hf", "url", "s3", "mlflow", "experiment"
	Settings []Setting
	Range    hcl.Range

	// Of downloads from a hub (HF), an address (URL) or a bucket (S3: s3://BUCKET/KEY; a key that ends in a slash, or none, is
	// a folder); the rest is in Settings.
	HF, Revision     string
	MLflow           string // models:/NAME@ALIAS, models:/NAME/VERSION
	URL, S3          string
	Checksum         string
	Include, Exclude []string

	// Of an output of an experiment's best instance.
	Experiment, Output string
}

// Step is one instance of a stage block: "lora", or "lora@8" of a for_each.
type Step struct {
	Name  string // unique: block name, or block@instance
	Block string // the block's second label
	Kind  *Kind
	Stage Stage // a fresh value of Kind.New with the block's settings
	Desc  string

	// Settings are all that count in the key, evaluated, sorted by name.
	Settings []Setting
	In       []StepInput
	Out      []StepOutput

	// Of InPlace kinds (shell): decode reads them itself; command, shell and dir are settings of the kind.
	Code      []string          // globs
	Tools     []string          // names looked up in PATH
	Env       map[string]string // in the key
	EnvHidden map[string]bool   // names in Env whose values come from env(): shown only as "changed"
	PassEnv   []string
	SecretEnv map[string]string

	Resources *Resources // nil: the kind's
	Timeout   time.Duration
	Retries   int
	DependsOn []string // names of steps: order only
	Always    bool
	Frozen    bool
	Sandbox   string // "", "true", "warn"
	Metrics   []string
	Plots     []string

	Range hcl.Range // the block's header, for messages
}

// publicEnv reports whether a variable's value stands in the pipeline file, so that it may be shown.
func (s *Step) publicEnv(name string) bool {
	_, set := s.Env[name]
	return set && !s.EnvHidden[name]
}

// Setting is one evaluated setting: canonical JSON (object keys sorted, numbers in their shortest form).
type Setting struct {
	Name      string
	Value     string
	Sensitive bool // shown only as "changed"
	Range     hcl.Range
}

// StepInput is one path that a step reads.
type StepInput struct {
	// Name is the port, with an index for lists ("data[0]") and a key for maps ("validation.main"); for a bare
	// reference in another setting, its position among them: "ref[0]".
	Name  string
	Port  string // "" for a bare reference
	Key   string // the map's key
	Path  string
	Range hcl.Range
}

// StepOutput is one path that a step writes.
type StepOutput struct {
	Name   string
	Path   string
	Folder bool // must be a folder: declared with a trailing slash, or by the kind's port
	File   bool // must be a file: by the kind's port
	Cache  bool // default true
	Push   bool // default true
	Range  hcl.Range
}

// RemoteBlock is a remote block.
type RemoteBlock struct {
	Type, Name string // "s3" or "dir"
	Bucket     string
	Prefix     string
	Region     string
	Endpoint   string
	AWSProfile string   // `profile` in the block
	Path       string   // of "dir"
	Results    string   // "read-write" (default), "read", "off"
	Trust      []string // public keys, and files of such, whose results count; none: everybody's
	Range      hcl.Range
}

// ExperimentBlock is an experiment block; Instances makes of it what is to run.
type ExperimentBlock struct {
	Name    string
	Targets []string
	Set     map[string]string   // variable -> canonical JSON
	Matrix  map[string][]string // variable -> values in canonical JSON
	Exclude []map[string]string
	Include []map[string]string
	Metric  string
	Goal    string
	Desc    string
	Halving *Halving // nil: every instance runs to its end
	Range   hcl.Range
}

// TrackingBlock is a tracking block.
type TrackingBlock struct {
	Type       string // "mlflow"
	Experiment string
	URI        string
	Range      hcl.Range
}
