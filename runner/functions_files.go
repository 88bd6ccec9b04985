package runner

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// maxFile bounds what file() reads into a setting.
const maxFile = 16 << 20

func (d *decoder) fileFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			name := args[0].AsString()
			d.reads = append(d.reads, fileRead{pattern: d.relative(name)})
			src, err := d.read(d.inWorkspace(name), maxFile)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%s: %s", name, reason(err))
			}
			if !utf8.Valid(src) {
				return cty.NilVal, function.NewArgErrorf(0, "%s is not UTF-8 text", name)
			}
			return cty.StringVal(string(src)), nil
		},
	})
}

// filesetFunc lists files: fileset(PATTERN), or fileset(FOLDER, PATTERN) with names relative to the folder.
func (d *decoder) filesetFunc() function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{{Name: "folder", Type: cty.String}},
		VarParam: &function.Parameter{Name: "pattern", Type: cty.String},
		Type:     function.StaticReturnType(cty.Set(cty.String)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			folder, pattern := ".", args[0].AsString()
			switch len(args) {
			case 1:
			case 2:
				folder, pattern = args[0].AsString(), args[1].AsString()
			default:
				return cty.NilVal, function.NewArgErrorf(1, "fileset takes a folder and a pattern")
			}
			names, err := d.glob(folder, pattern)
			if err != nil {
				return cty.NilVal, function.NewArgError(len(args)-1, err)
			}
			if len(names) == 0 {
				return cty.SetValEmpty(cty.String), nil
			}
			values := make([]cty.Value, len(names))
			for i, name := range names {
				values[i] = cty.StringVal(name)
			}
			return cty.SetVal(values), nil
		},
	})
}

// glob lists the files below a folder whose relative paths match the pattern, sorted.
func (d *decoder) glob(folder, pattern string) ([]string, error) {
	pattern = path.Clean(pattern)
	for part := range strings.SplitSeq(pattern, "/") {
		if _, err := path.Match(part, ""); err != nil {
			return nil, fmt.Errorf("the pattern %q is malformed", pattern)
		}
	}
	if path.IsAbs(pattern) || strings.HasPrefix(pattern, "../") {
		return nil, fmt.Errorf("the pattern %q leaves the folder", pattern)
	}
	d.reads = append(d.reads, fileRead{pattern: path.Join(d.relative(folder), pattern)})
	fixed, rest := splitPattern(pattern)
	root := d.inWorkspace(folder)
	if rest == "" {
		d.witness.Look(filepath.Join(root, fixed), true)
		if info, err := os.Stat(filepath.Join(root, fixed)); err == nil && !info.IsDir() {
			return []string{fixed}, nil
		}
		return nil, nil
	}
	deep := strings.Contains(rest, "**")
	var names []string
	err := filepath.WalkDir(filepath.Join(root, fixed), func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			d.witness.Look(at, false)
			return skipMissing(err)
		}
		name, err := filepath.Rel(root, at)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		top := at == filepath.Join(root, fixed)
		if entry.IsDir() {
			if name == ".lpipe" || name == ".git" || !deep && strings.Count(name, "/") >= strings.Count(pattern, "/") && name != fixed {
				return fs.SkipDir
			}
			d.witness.Look(at, false)
			return nil
		}
		if top {
			d.witness.Look(at, false)
		}
		if matchPattern(pattern, name) {
			names = append(names, name)
		}
		return nil
	})
	sort.Strings(names)
	return names, err
}

// skipMissing lets a listing go on where a folder is not there or is just being removed.
func skipMissing(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// inWorkspace resolves a path of the pipeline file.
func (d *decoder) inWorkspace(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(d.p.Dir, filepath.FromSlash(name))
}

// relative is a path as Pipeline has it: clean, with slashes, relative to the workspace where it lies inside.
func (d *decoder) relative(name string) string {
	if filepath.IsAbs(name) {
		if rel, err := filepath.Rel(d.p.Dir, name); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			name = rel
		}
	}
	return path.Clean(filepath.ToSlash(name))
}

// fileRead is one use of file() or fileset().
type fileRead struct {
	pattern string
	at      hcl.Range
	diags   hcl.Diagnostics // what the evaluation failed with
}

// checkReads refuses files that a stage makes: what decoding reads must not depend on what has run. Where that
// is not so, the evaluation's own mistake stands.
func (d *decoder) checkReads() {
	for _, read := range d.reads {
		owner := d.ownerOf(read.pattern)
		if owner == nil {
			d.diags = append(d.diags, read.diags...)
			continue
		}
		d.failAt(read.at, fmt.Sprintf("The file is made by stage %q", owner.Block),
			fmt.Sprintf("file() and fileset() are read before anything runs, so they may not reach into a stage's output (%s). "+
				"Give it to the stage as an input: stage.%s.OUTPUT.", read.pattern, owner.Block))
	}
}

// ownerOf finds a stage whose output a path or pattern reaches.
func (d *decoder) ownerOf(pattern string) *Step {
	for _, step := range d.p.Steps {
		for _, out := range step.Out {
			if reaches(pattern, out.Path, out.Folder) {
				return step
			}
		}
	}
	return nil
}

// reaches reports whether a pattern can match an output, or a file below it if it is a folder. An output that may
// be either counts as a folder only where the pattern leads into it by name.
func reaches(pattern, output string, folder bool) bool {
	patterns, parts := strings.Split(pattern, "/"), strings.Split(output, "/")
	for i, part := range parts {
		if i >= len(patterns) {
			return false
		}
		if patterns[i] == "**" {
			return folder || matchPattern(pattern, output)
		}
		if ok, err := path.Match(patterns[i], part); err != nil || !ok {
			return false
		}
	}
	return true
}
