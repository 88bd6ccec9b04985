package dvc

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Note is something of a DVC project that has no counterpart, or that a person must look at.
type Note struct {
	Where string `json:"where"` // a file, with a stage
	What  string `json:"what"`
	Do    string `json:"do"`
}

// Conversion is what a DVC project becomes.
type Conversion struct {
	HCL    string // the pipeline file
	Notes  []Note
	Stages int // blocks written
	Tracks []Tracked
}

// Tracked is content that DVC has a hash of: of a .dvc file, or of a stage's output in dvc.lock.
type Tracked struct {
	Path string // in the project
	MD5  string // of a folder with ".dir" behind
}

type converter struct {
	dir     string
	out     strings.Builder
	notes   []Note
	locals  map[string]*local // by name
	tracked map[string]string // path of a .dvc file's output -> source name
	outputs map[string]string // path of an output without template -> reference
	names   map[string]bool   // of blocks
	sources map[string]bool   // names of source blocks
	remoted map[string]bool   // names of remote blocks
	shown   map[string]string // path at the top of a dvc.yaml -> "metrics" or "plots"
	blocks  map[string]string // file, NUL, stage -> name of its block
	stages  []string          // blocks, as text
	tracks  []Tracked
}

// local is a params file, or vars, that becomes a local value.
type local struct {
	expr   string
	values any
	used   bool
}

// Convert reads the DVC project in a folder.
func Convert(dir string) (*Conversion, error) {
	c := &converter{dir: dir, locals: map[string]*local{}, tracked: map[string]string{}, outputs: map[string]string{}, names: map[string]bool{},
		sources: map[string]bool{}, remoted: map[string]bool{}, blocks: map[string]string{}, shown: map[string]string{}}
	files, err := c.files()
	if err != nil {
		return nil, err
	}
	var pipelines []string
	for _, at := range files {
		if path.Base(at) == "dvc.yaml" {
			pipelines = append(pipelines, at)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no dvc.yaml and no .dvc file", dir)
	}
	for _, at := range files {
		if strings.HasSuffix(at, ".dvc") {
			if err := c.dvcFile(at); err != nil {
				return nil, fmt.Errorf("read %s: %w", at, err)
			}
		}
	}
	documents, scopes := map[string]*yaml.Node{}, map[string][]scope{}
	for _, at := range pipelines {
		if documents[at], err = c.readYAML(at); err != nil {
			return nil, err
		}
		if scopes[at], err = c.scopes(at, path.Dir(at), field(documents[at], "vars")); err != nil {
			return nil, err
		}
		c.collectOutputs(at, documents[at], scopes[at])
		c.readLock(path.Join(path.Dir(at), "dvc.lock"))
	}
	for _, at := range pipelines {
		if err := c.pipeline(at, documents[at], scopes[at]); err != nil {
			return nil, err
		}
	}
	remotes, settings := c.remotes()
	return &Conversion{HCL: c.text(remotes, settings), Notes: c.notes, Stages: len(c.stages), Tracks: c.tracks}, nil
}

// files lists dvc.yaml and .dvc files, those in the root first.
func (c *converter) files() (list []string, err error) {
	err = filepath.WalkDir(c.dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && at != c.dir && (name == ".dvc" || name == ".git" || name == ".lpipe" || name == "node_modules" || strings.HasPrefix(name, ".venv")) {
			return fs.SkipDir
		}
		if !d.IsDir() && (name == "dvc.yaml" || strings.HasSuffix(name, ".dvc") && name != ".dvc") {
			rel, err := filepath.Rel(c.dir, at)
			list = append(list, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	slices.SortFunc(list, func(a, b string) int {
		if n := strings.Count(a, "/") - strings.Count(b, "/"); n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	return list, err
}

func (c *converter) note(where, do, format string, args ...any) {
	note := Note{Where: where, What: fmt.Sprintf(format, args...), Do: do}
	if !slices.Contains(c.notes, note) {
		c.notes = append(c.notes, note)
	}
}

func (c *converter) readYAML(at string) (*yaml.Node, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, filepath.FromSlash(at)))
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	return &node, nil
}

// pipeline converts one dvc.yaml.
func (c *converter) pipeline(at string, document *yaml.Node, scopes []scope) error {
	fields(document, func(name string, value *yaml.Node) {
		switch name {
		case "vars", "stages":
		case "metrics", "plots":
			for _, one := range value.Content {
				if text, options := outputPath(one); options == nil || !drawn(options) {
					c.shown[join(path.Dir(at), text)] = name
				} else {
					c.note(at, "lpipe plots draws curves of JSON and JSON lines that a stage names: plots = [...]", "the plot %s", text)
				}
			}
		case "params":
			c.note(at, "none: stages name the parameters that they read", "top-level params")
		case "artifacts":
			c.note(at, "keep it in desc, or in your model registry", "artifacts (a model registry's metadata)")
		default:
			c.note(at, "write it by hand", "%s", name)
		}
	})
	var failed error
	fields(field(document, "stages"), func(name string, value *yaml.Node) {
		if err := c.stage(at, name, value, scopes); err != nil && failed == nil {
			failed = fmt.Errorf("%s, stage %s: %w", at, name, err)
		}
	})
	for _, file := range sortedKeys(c.shown) {
		c.note(at, "make it an output of its own, if it is part of one, and name it there: "+c.shown[file]+" = [...]", "%s in %s, which is no output", c.shown[file], file)
		delete(c.shown, file)
	}
	return failed
}

// drawn tells whether options of a plot at the top of a dvc.yaml name other files: then the name is but a title.
func drawn(options *yaml.Node) bool {
	y := field(options, "y")
	return y != nil && y.Kind == yaml.MappingNode
}

// collectOutputs names the blocks of a dvc.yaml and what refers to their outputs, as far as their paths have no templates.
func (c *converter) collectOutputs(at string, document *yaml.Node, scopes []scope) {
	fields(field(document, "stages"), func(name string, node *yaml.Node) {
		text := name
		if dir := path.Dir(at); dir != "." {
			text = dir + "_" + name
		}
		block := c.unique(text, c.names)
		c.blocks[at+"\x00"+name] = block
		if block != name {
			c.note(at+", stage "+name, "none", "it is called %s", block)
		}
		if field(node, "do") != nil || field(node, "matrix") != nil || field(node, "vars") != nil {
			return
		}
		dir := path.Dir(at)
		if wdir := field(node, "wdir"); wdir != nil {
			dir = join(dir, wdir.Value)
		}
		ports := map[string]bool{}
		seen := map[string]bool{}
		fields(node, func(kind string, list *yaml.Node) {
			if kind != "outs" && kind != "metrics" && kind != "plots" {
				return
			}
			for _, one := range list.Content {
				text, _ := outputPath(one)
				if out := join(dir, text); !seen[out] {
					seen[out] = true
					static, known := evaluate(scopes, out)
					if outside(static) {
						continue // output notes it
					}
					port := c.unique(outputPort(static), ports)
					if known {
						c.outputs[path.Clean(static)] = "stage." + block + "." + port
					}
				}
			}
		})
	})
}

// scopes are the values that templates may name: params.yaml beside dvc.yaml, the files of vars, vars themselves.
func (c *converter) scopes(at, dir string, vars *yaml.Node) ([]scope, error) {
	var list []scope
	add := func(file string) error {
		name, err := c.paramsFile(file)
		if err == nil {
			one := c.locals[name]
			list = append(list, scope{hcl: "local." + name, values: one.values, used: func() { one.used = true }})
		}
		return err
	}
	if err := add(path.Join(dir, "params.yaml")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	inline := map[string]any{}
	if vars != nil {
		for _, one := range vars.Content {
			if one.Kind == yaml.ScalarNode {
				file, _, _ := strings.Cut(one.Value, ":")
				if file == "params.yaml" {
					continue
				}
				if err := add(join(dir, file)); err != nil {
					c.note(at, "convert the file to YAML or JSON", "vars from %s (%v)", file, err)
				}
				continue
			}
			value, err := plain(one)
			if err != nil {
				return nil, err
			}
			if values, ok := value.(map[string]any); ok {
				merge(inline, values)
			}
		}
	}
	if len(inline) > 0 {
		name := c.unique("vars", c.localNames())
		one := &local{expr: literal(inline), values: inline}
		c.locals[name] = one
		list = append(list, scope{hcl: "local." + name, values: inline, used: func() { one.used = true }})
	}
	return list, nil
}

func merge(into, from map[string]any) {
	for name, value := range from {
		if inner, ok := value.(map[string]any); ok {
			if there, ok := into[name].(map[string]any); ok {
				merge(there, inner)
				continue
			}
		}
		into[name] = value
	}
}

func (c *converter) localNames() map[string]bool {
	taken := map[string]bool{}
	for name := range c.locals {
		taken[name] = true
	}
	return taken
}

// paramsFile makes a local of a file of parameters, once.
func (c *converter) paramsFile(file string) (name string, err error) {
	decode := map[string]string{".yaml": "yamldecode", ".yml": "yamldecode", ".json": "jsondecode"}[path.Ext(file)]
	if decode == "" {
		return "", fmt.Errorf("%s is neither YAML nor JSON", file)
	}
	expr := decode + "(file(" + quote(file) + "))"
	for name, one := range c.locals {
		if one.expr == expr {
			return name, nil
		}
	}
	node, err := c.readYAML(file) // JSON is YAML
	if err != nil {
		return "", err
	}
	values, err := plain(node)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	name = c.unique(strings.TrimSuffix(file, path.Ext(file)), c.localNames())
	c.locals[name] = &local{expr: expr, values: values}
	return name, nil
}

// unique makes a name of HCL that is not taken yet, and takes it.
func (c *converter) unique(text string, taken map[string]bool) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, text), "_-")
	if name == "" {
		name = "file" // all of it came from a template
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	for base, n := name, 2; taken[name]; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	taken[name] = true
	return name
}

// text puts the file together.
func (c *converter) text(remotes, settings string) string {
	var b strings.Builder
	b.WriteString("# Made by lpipe import dvc.\n\n")
	if settings != "" {
		b.WriteString(settings + "\n")
	}
	var locals []string
	for _, name := range sortedKeys(c.locals) {
		if one := c.locals[name]; one.used {
			locals = append(locals, "  "+name+" = "+one.expr+"\n")
		}
	}
	if len(locals) > 0 {
		b.WriteString("locals {\n" + strings.Join(locals, "") + "}\n\n")
	}
	b.WriteString(c.out.String())
	b.WriteString(strings.Join(c.stages, "\n"))
	if remotes != "" {
		b.WriteString("\n" + remotes)
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
