package runner

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
)

// Plan is a pipeline with its edges drawn: who makes which path, and who waits for whom.
type Plan struct {
	Pipeline *Pipeline
	Nodes    []*Node   // in the order of the pipeline
	Sources  []*Origin // paths that are read and that no step makes, sorted by path

	order   []*Node // every node after all that it needs
	named   map[string]*Node
	blocks  map[string][]*Node
	owners  map[string]output
	outputs []output // sorted by path
	origins map[string]*Origin
}

// Node is a step with its neighbours.
type Node struct {
	Step  *Step
	Needs []*Node // whose outputs it reads, or whom it waits for; each once
	Feeds []*Node // the same edges from the other end

	index  int
	inputs []nodeInput
	code   []codePattern
}

// Origin is a path that steps read and none makes.
type Origin struct {
	Path   string
	Source *Source // the block that declares it, nil for a literal path
	// Download is the source, at or above the path, that lpipe downloads.
	Download *Source
	Readers  []*Node
}

// Name is the source block's name, or the path.
func (o *Origin) Name() string {
	if o.Source != nil {
		return o.Source.Name
	}
	return o.Path
}

// output is one declared output and who declared it.
type output struct {
	*StepOutput
	node *Node
}

// nodeInput is an input and where it comes from: one maker at or above its path, any number below it, or an origin.
type nodeInput struct {
	*StepInput
	makers []output
	origin *Origin
}

// codePattern is an entry of `code` and the outputs that it reaches.
type codePattern struct {
	pattern string
	makers  []output
}

// PlanOptions are what a plan asks about the world outside the pipeline file.
type PlanOptions struct {
	// Known says whether the content of a source is on record, so that it may be missing until its bytes are
	// needed. Nil knows none.
	Known func(path string) bool
	// Exists says whether there is something at a path; nil asks the file system.
	Exists func(path string) bool
}

// NewPlan draws the edges of a pipeline: an input equal to, under or containing another step's output waits for
// that step. It reports all of: two owners of a path or one owner inside another, cycles, inputs that nobody makes
// and that do not exist. The time is linear in steps and edges.
func NewPlan(p *Pipeline, opts PlanOptions) (*Plan, hcl.Diagnostics) {
	plan := &Plan{
		Pipeline: p,
		named:    make(map[string]*Node, len(p.Steps)),
		blocks:   make(map[string][]*Node, len(p.Steps)),
		owners:   make(map[string]output, len(p.Steps)),
		origins:  map[string]*Origin{},
	}
	for i, step := range p.Steps {
		node := &Node{Step: step, index: i}
		plan.Nodes = append(plan.Nodes, node)
		plan.named[step.Name] = node
		plan.blocks[step.Block] = append(plan.blocks[step.Block], node)
	}
	diags := plan.own()
	diags = append(diags, plan.checkSources()...)
	for _, node := range plan.Nodes {
		diags = append(diags, plan.connect(node)...)
	}
	diags = append(diags, plan.checkPools()...)
	diags = append(diags, plan.sort()...)
	diags = append(diags, plan.findOrigins(opts)...)
	if diags.HasErrors() {
		return nil, diags
	}
	return plan, diags
}

// own fills owners and outputs, and refuses paths with two owners.
func (p *Plan) own() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, node := range p.Nodes {
		for i := range node.Step.Out {
			out := output{&node.Step.Out[i], node}
			if bad := p.checkPlace(out); bad != nil {
				diags = append(diags, bad)
				continue
			}
			if bad := checkConfined(out); bad != nil {
				diags = append(diags, bad)
			}
			if first, taken := p.owners[out.Path]; taken {
				diags = append(diags, twoOwners(first, out))
				continue
			}
			p.owners[out.Path] = out
			p.outputs = append(p.outputs, out)
		}
	}
	slices.SortFunc(p.outputs, func(a, b output) int { return strings.Compare(a.Path, b.Path) })
	for _, out := range p.outputs {
		if outer, ok := p.above(path.Dir(out.Path)); ok {
			diags = append(diags, nestedOwners(outer, out))
		}
	}
	return diags
}

// checkPlace refuses outputs at places that are lpipe's or nobody's.
func (p *Plan) checkPlace(out output) *hcl.Diagnostic {
	wrong := ""
	switch first, _, _ := strings.Cut(out.Path, "/"); {
	case path.IsAbs(out.Path) || first == "..":
		wrong = "lies outside the workspace"
	case out.Path == "." || out.Path == "":
		wrong = "is the workspace itself"
	case first == ".lpipe":
		wrong = "lies in .lpipe, which is lpipe's own"
	case slices.Contains(p.Pipeline.Files, out.Path):
		wrong = "is a pipeline file"
	default:
		return nil
	}
	return mistake(out.Range, "An output at a place that no stage may write",
		"Output %q of stage %s %s (%s). Give it a path inside the workspace: \"build/%s\".", out.Name, out.node.Step.Name, wrong, out.Path, path.Base(out.Path))
}

// above returns the output at a path or at one of its parents.
func (p *Plan) above(at string) (output, bool) {
	for {
		if out, ok := p.owners[at]; ok {
			return out, true
		}
		parent := path.Dir(at)
		if parent == at || parent == "." {
			return output{}, false
		}
		at = parent
	}
}

// below returns the outputs under a path.
func (p *Plan) below(at string) []output {
	prefix := at + "/"
	if at == "." {
		return p.outputs
	}
	start := sort.Search(len(p.outputs), func(i int) bool { return p.outputs[i].Path >= prefix })
	end := start
	for end < len(p.outputs) && strings.HasPrefix(p.outputs[end].Path, prefix) {
		end++
	}
	return p.outputs[start:end]
}

// makers returns the outputs that an input at a path consists of.
func (p *Plan) makers(at string) []output {
	if out, ok := p.above(at); ok {
		return []output{out}
	}
	return p.below(at)
}

// connect draws the edges of one node.
func (p *Plan) connect(node *Node) hcl.Diagnostics {
	var diags hcl.Diagnostics
	seen := map[*Node]bool{}
	edge := func(to *Node) {
		if !seen[to] {
			seen[to] = true
			node.Needs = append(node.Needs, to)
			to.Feeds = append(to.Feeds, node)
		}
	}
	for i := range node.Step.In {
		in := nodeInput{StepInput: &node.Step.In[i]}
		if in.Path == "." || in.Path == ".lpipe" {
			diags = append(diags, mistake(in.Range, "An input that holds lpipe's own files",
				"Stage %s reads %q, which contains .lpipe, and so changes whenever lpipe runs. Name the folders that it reads.", node.Step.Name, in.Path))
			continue
		}
		in.makers = p.makers(in.Path)
		for _, out := range in.makers {
			edge(out.node)
		}
		node.inputs = append(node.inputs, in)
	}
	for _, pattern := range node.Step.Code {
		code := codePattern{pattern: path.Clean(pattern)}
		for _, out := range p.codeMakers(node, code.pattern) {
			code.makers = append(code.makers, out)
			edge(out.node)
		}
		node.code = append(node.code, code)
	}
	return append(diags, p.waitFor(node, edge)...)
}

// waitFor draws the edges of depends_on.
func (p *Plan) waitFor(node *Node, edge func(to *Node)) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, name := range node.Step.DependsOn {
		steps := p.blocks[name]
		if one, ok := p.named[name]; ok {
			steps = []*Node{one}
		}
		if len(steps) == 0 {
			diags = append(diags, mistake(node.Step.Range, "depends_on names no stage",
				"Stage %s depends on %q, which is no stage of this pipeline.", node.Step.Name, name))
		}
		for _, to := range steps {
			edge(to)
		}
	}
	return diags
}

// codeMakers returns the outputs of other steps that a pattern of `code` means by name. A step's own outputs are
// never its code: they would change its key with every run.
func (p *Plan) codeMakers(node *Node, pattern string) []output {
	fixed, rest := splitPattern(pattern)
	var reached []output
	if out, ok := p.above(fixed); ok {
		reached = append(reached, out)
	} else {
		for _, out := range p.below(fixed) {
			if rest == "" || matchPattern(pattern, out.Path) {
				reached = append(reached, out)
			}
		}
	}
	return slices.DeleteFunc(reached, func(out output) bool { return out.node == node })
}

// checkSources refuses source blocks for paths that stages make.
func (p *Plan) checkSources() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, source := range p.Pipeline.Sources {
		if out, made := p.above(source.Path); made {
			diags = append(diags, mistake(source.Range, "A source that a stage makes",
				"source.%s is %s, but stage %s writes %s (%s). Read the stage's output instead: stage.%s.%s.",
				source.Name, source.Path, out.node.Step.Name, out.Path, where(out.Range), out.node.Step.Block, out.Name))
		} else if wrong := p.checkDownload(source); wrong != "" {
			diags = append(diags, mistake(source.Range, "A download at a place that is not its own",
				"source.%s would be downloaded to %s, which %s. What stands there is replaced as a whole: give it a dir of its own, or none.", source.Name, source.Path, wrong))
		}
	}
	return diags
}

// checkPools refuses needs that a declared pool can never meet. What is found by itself (cpu, gpu, ram) differs
// between machines and is no mistake of the file.
func (p *Plan) checkPools() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, node := range p.Nodes {
		needs := node.resources()
		for _, name := range slices.Sorted(maps.Keys(needs.Pool)) {
			size, declared := p.Pipeline.Settings.Pools[name]
			switch {
			case !declared:
				diags = append(diags, mistake(node.Step.Range, "An unknown pool",
					"Stage %s needs %d of %q, which no pool provides. Declare it: lpipe { pools = { %s = %d } }.", node.Step.Name, needs.Pool[name], name, name, needs.Pool[name]))
			case needs.Pool[name] > size:
				diags = append(diags, mistake(node.Step.Range, "A pool that is too small",
					"Stage %s needs %d of %q, but the pool holds %d: it could never run.", node.Step.Name, needs.Pool[name], name, size))
			}
		}
	}
	return diags
}

// findOrigins collects what is read and not made, and refuses what does not exist.
func (p *Plan) findOrigins(opts PlanOptions) hcl.Diagnostics {
	declared := make(map[string]*Source, len(p.Pipeline.Sources))
	for _, source := range p.Pipeline.Sources {
		declared[source.Path] = source
	}
	var diags hcl.Diagnostics
	for _, node := range p.Nodes {
		for i := range node.inputs {
			in := &node.inputs[i]
			if len(in.makers) > 0 {
				continue
			}
			origin, seen := p.origins[in.Path]
			if !seen {
				origin = &Origin{Path: in.Path, Source: declared[in.Path]}
				p.origins[in.Path] = origin
				p.Sources = append(p.Sources, origin)
				origin.Download = downloadAbove(declared, in.Path)
				if known := origin.Download != nil || opts.Known != nil && opts.Known(in.Path); !known && !p.standsAt(opts, in.Path) {
					diags = append(diags, p.noInput(node, in, origin))
				}
			}
			in.origin = origin
			origin.Readers = append(origin.Readers, node)
		}
	}
	slices.SortFunc(p.Sources, func(a, b *Origin) int { return strings.Compare(a.Path, b.Path) })
	return diags
}

// downloadAbove is the source at a path, or at one of its parents, that lpipe downloads.
func downloadAbove(declared map[string]*Source, at string) *Source {
	for {
		if s := declared[at]; s != nil && s.fetchable() {
			return s
		}
		parent := path.Dir(at)
		if parent == at || parent == "." {
			return nil
		}
		at = parent
	}
}

func (p *Plan) standsAt(opts PlanOptions, at string) bool {
	if opts.Exists != nil {
		return opts.Exists(at)
	}
	_, err := os.Lstat(p.abs(at))
	return err == nil || !os.IsNotExist(err) // what cannot be looked at is reported by the step that reads it
}

// abs makes a path of the pipeline absolute.
func (p *Plan) abs(at string) string {
	if path.IsAbs(at) {
		return filepath.FromSlash(at)
	}
	return filepath.Join(p.Pipeline.Dir, filepath.FromSlash(at))
}

func (p *Plan) noInput(node *Node, in *nodeInput, origin *Origin) *hcl.Diagnostic {
	if origin.Source != nil && origin.Source.Download != "" {
		return mistake(in.Range, "A source that is not here",
			"source.%s (%s) is not at %s yet, and this version does not download from there. Put its files there.", origin.Source.Name, origin.Source.Download, in.Path)
	}
	remedy := "Put a file or folder there"
	if near := nearestName(in.Path, p.paths()); near != "" {
		remedy = fmt.Sprintf("Did you mean %s? Otherwise put a file or folder there", near)
	}
	return mistake(in.Range, "An input that does not exist",
		"Stage %s reads %s as %q: no stage makes it, and it does not exist. %s, or run lpipe checkout if it was added.", node.Step.Name, in.Path, in.Name, remedy)
}

func (p *Plan) paths() []string {
	paths := make([]string, 0, len(p.outputs))
	for _, out := range p.outputs {
		paths = append(paths, out.Path)
	}
	return paths
}

func twoOwners(first, second output) *hcl.Diagnostic {
	if first.node == second.node {
		return mistake(second.Range, "Two outputs at the same path",
			"Outputs %q and %q of stage %s are both %s. Give one of them another path.", first.Name, second.Name, first.node.Step.Name, first.Path)
	}
	return mistake(second.Range, "Two stages write the same path",
		"Stage %s already writes %s (%s). Give one of them another path.", first.node.Step.Name, first.Path, where(first.Range))
}

func nestedOwners(outer, inner output) *hcl.Diagnostic {
	return mistake(inner.Range, "An output inside another output",
		"Output %q of stage %s is %s, which lies inside %s, an output of stage %s (%s). Give one of them another path.",
		inner.Name, inner.node.Step.Name, inner.Path, outer.Path, outer.node.Step.Name, where(outer.Range))
}

// mistake is an error of the pipeline file.
func mistake(at hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: &at}
}

// where names a place for use inside a sentence.
func where(at hcl.Range) string {
	if at.Filename == "" {
		return fmt.Sprintf("line %d", at.Start.Line)
	}
	return fmt.Sprintf("%s line %d", at.Filename, at.Start.Line)
}
