package runner

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"lpipe/cache"
)

// DecodeOptions say what to decode and with which values.
type DecodeOptions struct {
	// Dir is where relative Files are looked up; without Files it is the workspace. "" means the current folder.
	Dir string
	// Files replace pipeline.hcl and *.pipeline.hcl; the first one's folder is the workspace.
	Files []string
	// Profile chooses a profile block; "" chooses none.
	Profile string
	// Vars are NAME=VALUE of --var; a VALUE is HCL unless the variable is a string.
	Vars []string
	// VarFiles are the files of --var-file, relative to Dir.
	VarFiles []string
	// Experiment holds the values of an experiment's instance in canonical JSON, by variable; they win over all others.
	Experiment map[string]string
	// Sets are NAME=VALUE of `exp run --set`: a VALUE is HCL, and a list of values is an axis. They come back as Pipeline.Sets.
	Sets []string
	// Getenv reads the environment for env() and LPIPE_VAR_; nil is an empty one.
	Getenv func(string) (string, bool)
	// Environ lists the environment as os.Environ does, to find an LPIPE_VAR_ of no variable; nil skips that check.
	Environ []string
	// Version is the program's, to hold against required_version; "" skips that check.
	Version string
	// Kinds are those that a stage block may name.
	Kinds []*Kind
}

// Decode reads and checks the pipeline files. The pipeline is never nil; it is whole only if the diagnostics
// hold no error. All mistakes come together, in the order of the files.
func Decode(opts DecodeOptions) (*Pipeline, hcl.Diagnostics) {
	d := newDecoder(opts)
	files := d.load()
	if !d.diags.HasErrors() {
		d.decode(files)
	}
	return d.finish()
}

// decoder holds what the passes over the files leave to each other.
type decoder struct {
	opts  DecodeOptions
	p     *Pipeline
	diags hcl.Diagnostics
	kinds map[string]*Kind
	funcs map[string]function.Function

	blocks      map[string][]*hclsyntax.Block // by type, in the order of the files
	localBlocks map[*hclsyntax.Block]bool     // those of pipeline.local.hcl

	variables      []*variable
	variableNamed  map[string]*variable
	profileRemote  *hclsyntax.Attribute
	profileMissing bool // the profile that was asked for is not declared

	vars, locals, sources cty.Value // the objects behind var, local, source

	stages     map[string]*stageBlock
	stageOrder []*stageBlock
	headers    []*stageBlock // those being read, each waiting for the next
	baseCtx    *hcl.EvalContext
	stageValue cty.Value                   // the object behind stage, once every header is read
	bodyCtx    *hcl.EvalContext            // base and stage
	dirCtxs    map[string]*hcl.EvalContext // the same with paths relative to a folder

	reads    []fileRead
	witness  *cache.Witness // of all files and folders that were read
	envNames map[string]bool
	fields   map[string][]settingField // of each kind
}

func newDecoder(opts DecodeOptions) *decoder {
	d := &decoder{
		opts:          opts,
		p:             &Pipeline{HCL: map[string]*hcl.File{}},
		kinds:         map[string]*Kind{},
		blocks:        map[string][]*hclsyntax.Block{},
		localBlocks:   map[*hclsyntax.Block]bool{},
		variableNamed: map[string]*variable{},
		stages:        map[string]*stageBlock{},
		dirCtxs:       map[string]*hcl.EvalContext{},
		envNames:      map[string]bool{},
		fields:        map[string][]settingField{},
	}
	if dir, err := filepath.Abs(opts.Dir); err == nil {
		d.opts.Dir = dir
	}
	for _, kind := range opts.Kinds {
		d.kinds[kind.Name] = kind
	}
	d.p.Dir = d.opts.Dir
	d.witness = cache.NewWitness(d.workspace())
	d.funcs = d.functions()
	return d
}

// decode is the two passes: first what gives names and paths, then what refers to them.
func (d *decoder) decode(files []pipelineFile) {
	d.sortBlocks(files)
	d.decodeVariables()
	d.decodeSets()
	d.decodeLocals()
	d.decodeLpipe()
	d.decodeRemotes()
	d.decodeTracking()
	d.decodeSources()

	d.declareStages()
	for _, block := range d.stageOrder {
		d.readHeader(block)
	}
	d.indexStages()
	for _, block := range d.stageOrder {
		d.readBody(block)
	}
	d.decodeExperiments()
	d.checkReads()
}

// finish brings diagnostics and pipeline into their final order.
func (d *decoder) finish() (*Pipeline, hcl.Diagnostics) {
	d.p.EnvNames = slices.Sorted(maps.Keys(d.envNames))
	d.p.reads.witness = d.witness
	return d.p, sortDiagnostics(d.diags, d.p.Files)
}

// fail reports a mistake; at may be nil where there is no line to show.
func (d *decoder) fail(summary, detail string, at *hcl.Range) {
	d.diags = append(d.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at})
}

func (d *decoder) failAt(at hcl.Range, summary, detail string) { d.fail(summary, detail, &at) }

// getenv reads the environment and remembers that it did.
func (d *decoder) getenv(name string) (string, bool) {
	if d.opts.Getenv == nil {
		return "", false
	}
	d.envNames[name] = true // also where it is not set: setting it would change the pipeline
	return d.opts.Getenv(name)
}
