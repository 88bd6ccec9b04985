package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// maxPipelineFile bounds a pipeline file, so that a data file named by mistake is not parsed.
const maxPipelineFile = 8 << 20

// pipelineFile is a parsed file and what may stand in it.
type pipelineFile struct {
	name  string
	local bool // pipeline.local.hcl: blocks of one machine only
	body  *hclsyntax.Body
}

// load finds the workspace and parses every pipeline file in it.
func (d *decoder) load() []pipelineFile {
	names := d.opts.Files
	if len(names) == 0 {
		names = d.findFiles()
	}
	if len(names) == 0 {
		return nil
	}
	d.p.Dir = d.workspace()
	var files []pipelineFile
	for _, name := range names {
		if body, ok := d.parse(name); ok {
			files = append(files, pipelineFile{name: name, body: body})
		}
	}
	local := filepath.Join(filepath.Dir(names[0]), "pipeline.local.hcl")
	if d.exists(d.abs(local)) && !slices.Contains(names, local) {
		if body, ok := d.parse(local); ok {
			files = append(files, pipelineFile{name: local, local: true, body: body})
		}
	}
	return files
}

// findFiles lists pipeline.hcl and *.pipeline.hcl of the folder, by the names that the user would type there.
func (d *decoder) findFiles() []string {
	dir := d.abs(".")
	entries, err := os.ReadDir(dir)
	if err != nil {
		d.fail("Folder cannot be read", fmt.Sprintf("%s: %s. Check its name and permissions.", dir, reason(err)), nil)
		return nil
	}
	names := pipelineNames(entries)
	d.p.reads.folder, d.p.reads.names = true, names
	if len(names) == 0 {
		d.fail("No pipeline file", fmt.Sprintf("%s holds neither pipeline.hcl nor a *.pipeline.hcl. "+
			"Make one with lpipe init, or go to the project's folder (or name it with -C).", dir), nil)
	}
	return names
}

// pipelineNames are the pipeline files of a folder, pipeline.hcl first.
func pipelineNames(entries []os.DirEntry) []string {
	var names []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case name == "pipeline.hcl":
			names = append([]string{name}, names...)
		case strings.HasSuffix(name, ".pipeline.hcl") && !strings.HasPrefix(name, "."):
			names = append(names, name)
		}
	}
	return names
}

// workspace is the folder of the first pipeline file.
func (d *decoder) workspace() string {
	if len(d.opts.Files) == 0 {
		return d.opts.Dir
	}
	return filepath.Dir(d.abs(d.opts.Files[0]))
}

// abs resolves a file that the user named, relative to DecodeOptions.Dir.
func (d *decoder) abs(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.opts.Dir, name)
}

// parse reads one HCL file; its mistakes are reported.
func (d *decoder) parse(name string) (*hclsyntax.Body, bool) {
	src, err := d.read(d.abs(name), maxPipelineFile)
	if err != nil {
		d.fail("File cannot be read", fmt.Sprintf("%s: %s. Check its name and permissions.", name, reason(err)), nil)
		return nil, false
	}
	return d.parseSource(name, src)
}

func (d *decoder) parseSource(name string, src []byte) (*hclsyntax.Body, bool) {
	file, diags := parseHCL(src, name)
	d.p.HCL[name] = file
	d.p.Files = append(d.p.Files, name)
	d.diags = append(d.diags, diags...)
	if diags.HasErrors() {
		return nil, false
	}
	return file.Body.(*hclsyntax.Body), true
}

// read is readSmall before a witness.
func (d *decoder) read(path string, limit int64) ([]byte, error) {
	d.witness.Look(path, true)
	return readSmall(path, limit)
}

// exists tells whether there is something at a path.
func (d *decoder) exists(path string) bool {
	d.witness.Look(path, false)
	_, err := os.Lstat(path)
	return err == nil
}

// readSmall reads a regular file of at most limit bytes: a device or a huge file would never end.
func readSmall(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("larger than %d MB", limit>>20)
	}
	return os.ReadFile(path)
}

// reason is an error's text without the operation and the path, which the message names already.
func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// blockForms says which blocks there are and how many labels each takes.
var blockForms = map[string]struct {
	labels []string
	local  bool // may stand in pipeline.local.hcl
}{
	"lpipe":      {nil, true},
	"variable":   {[]string{"name"}, false},
	"locals":     {nil, false},
	"profile":    {[]string{"name"}, false},
	"source":     {[]string{"name"}, false},
	"stage":      {[]string{"kind", "name"}, false},
	"experiment": {[]string{"name"}, false},
	"remote":     {[]string{"type", "name"}, true},
	"tracking":   {[]string{"type"}, true},
}

// reservedBlocks are words of later versions: a file that uses one must not be read as something else.
var reservedBlocks = []string{"module", "output", "import", "check", "notify", "serve", "monitor", "executor", "deploy"}

// sortBlocks files the blocks by type, in the order of the files, and reports those that may not stand there.
func (d *decoder) sortBlocks(files []pipelineFile) {
	for _, file := range files {
		for _, attr := range sortedAttrs(file.body.Attributes) {
			d.failAt(attr.NameRange, fmt.Sprintf("Setting %q stands outside of any block", attr.Name),
				"A pipeline file holds blocks: lpipe, variable, locals, profile, source, stage, experiment, remote, tracking. "+
					"Values of variables belong into vars.auto.hcl.")
		}
		for _, block := range file.body.Blocks {
			if d.checkBlock(block, file.local) {
				d.blocks[block.Type] = append(d.blocks[block.Type], block)
			}
		}
	}
}

func (d *decoder) checkBlock(block *hclsyntax.Block, local bool) bool {
	form, ok := blockForms[block.Type]
	switch {
	case slices.Contains(reservedBlocks, block.Type):
		d.failAt(block.TypeRange, fmt.Sprintf("Block %q is reserved", block.Type),
			"The word is kept for a later version of lpipe; this one does not know it. Remove the block.")
		return false
	case !ok:
		names := make([]string, 0, len(blockForms))
		for name := range blockForms {
			names = append(names, name)
		}
		d.failAt(block.TypeRange, fmt.Sprintf("Unknown block %q", block.Type), suggest(block.Type, names, "blocks"))
		return false
	case len(block.Labels) != len(form.labels):
		want := block.Type
		for _, label := range form.labels {
			want += " \"<" + label + ">\""
		}
		d.failAt(block.DefRange(), fmt.Sprintf("Block %q has %s", block.Type, counted(len(block.Labels), "label")),
			"Write it as: "+want+" { ... }")
		return false
	case local && !form.local:
		d.failAt(block.DefRange(), fmt.Sprintf("Block %q may not stand in pipeline.local.hcl", block.Type),
			"That file holds what belongs to one machine: lpipe, remote and tracking blocks. Move the block to pipeline.hcl.")
		return false
	}
	if local {
		d.localBlocks[block] = true
	}
	return true
}

// sortedAttrs lists attributes in the order of the file.
func sortedAttrs(attrs hclsyntax.Attributes) []*hclsyntax.Attribute {
	list := make([]*hclsyntax.Attribute, 0, len(attrs))
	for _, attr := range attrs {
		list = append(list, attr)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].SrcRange.Start.Byte < list[j].SrcRange.Start.Byte })
	return list
}
