package runner

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"lpipe/runner/sandbox"
)

// systemPaths hold programs, libraries and settings of the machine: every command may read them.
func systemPaths() []string {
	return []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/proc", "/sys", "/run", "/var/lib", "/nix", "/gnu", "/snap"}
}

// confinement is the sandbox of one running stage.
type confinement struct {
	enforced bool          // else it is only watched
	rules    sandbox.Rules // of an enforced one
	temp     string        // its TMPDIR
	note     string        // what it may do, for the message of a failure
}

// checkConfined refuses outputs that a sandbox would have to open all of the workspace for.
func checkConfined(out output) *hcl.Diagnostic {
	step := out.node.Step
	if step.Sandbox != "true" || !step.Kind.InPlace || path.Dir(out.Path) != "." {
		return nil
	}
	return mistake(out.Range, "A sandbox cannot hold an output at the top of the workspace",
		"The kernel opens whole folders only, and the one that %s lies in holds everything else. Give it a folder, best of its own: \"build/%s/%s\".",
		out.Path, step.Name, out.Path)
}

// confinement decides how a stage is kept to what it declares. Built-in kinds need none: they do what their kind says.
func (j *job) confinement() (*confinement, error) {
	step := j.node.Step
	if step.Sandbox == "" || !step.Kind.InPlace {
		return nil, nil
	}
	c := &confinement{enforced: step.Sandbox == "true" && j.canConfine()}
	if !c.enforced {
		return c, nil
	}
	err := os.MkdirAll(j.path("tmp"), 0o777)
	if err == nil {
		c.temp, err = os.MkdirTemp(j.path("tmp"), step.Name+".")
	}
	if err != nil {
		return nil, writeError(j.dir, err)
	}
	j.allow(c)
	return c, nil
}

// canConfine says once for each run that it is not possible here.
func (x *execution) canConfine() bool {
	x.confineOnce.Do(func() {
		x.confineErr = sandbox.Supported()
		if x.confineErr == nil && x.SandboxHelper == "" {
			x.confineErr = sandbox.ErrUnsupported
		}
		if x.confineErr != nil {
			x.warn("", "sandbox = true cannot be enforced: %v; stages run unconfined, and what they write elsewhere is told", x.confineErr)
		}
	})
	return x.confineErr == nil
}

// allow fills the rules: what is declared, the system, and the programs in PATH with what belongs to them. The kernel
// grants whole folders only, and outputs do not exist yet. So an output's folder is opened: whole where it is the
// stage's alone, else for writing, since other stages' outputs lie there.
func (j *job) allow(c *confinement) {
	var reads, writes, shared []string
	for i := range j.node.inputs {
		reads = append(reads, j.node.inputs[i].Path)
	}
	for _, file := range j.in.code {
		reads = append(reads, file.name)
	}
	for _, name := range reads {
		c.rules.Read = append(c.rules.Read, j.Plan.abs(name))
	}
	c.rules.List = []string{j.dir}
	c.rules.Write = []string{j.scratch, c.temp}
	for _, out := range j.node.Step.Out {
		parent := filepath.ToSlash(filepath.Dir(filepath.FromSlash(out.Path)))
		writes = append(writes, out.Path)
		if j.Plan.owns(j.node, parent) {
			c.rules.Write = append(c.rules.Write, j.Plan.abs(parent))
		} else if !slices.Contains(shared, parent) {
			shared = append(shared, parent)
			c.rules.Make = append(c.rules.Make, j.Plan.abs(parent))
		}
	}
	c.rules.Write = append(c.rules.Write, outside("/dev", j.dir)...)
	for _, path := range append(systemPaths(), j.programs()...) {
		c.rules.Read = append(c.rules.Read, outside(path, j.dir)...)
	}
	c.rules.Read = append(c.rules.Read, filepath.Join(j.Cache.Dir(), "objects")) // inputs may be links into it
	c.note = fmt.Sprintf("it may read the system and, of the rest, %s; it may write %s, scratch and TMPDIR; what else it needs belongs in its inputs or code", listed(reads), listed(writes))
	if len(shared) > 0 {
		c.note += fmt.Sprintf(". It can write but not read in %s, where other files lie too: an output that is read back needs a folder of its own", listed(shared))
	}
}

func listed(names []string) string {
	const most = 8
	switch {
	case len(names) == 0:
		return "nothing"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// owns tells whether nothing lies in a folder, as far as the pipeline knows, but this node's outputs.
func (p *Plan) owns(n *Node, folder string) bool {
	if folder == "." {
		return false
	}
	for _, out := range p.below(folder) {
		if out.node != n {
			return false
		}
	}
	for _, origin := range p.Sources {
		if touches(origin.Path, folder) {
			return false
		}
	}
	for _, other := range p.Nodes {
		for _, code := range other.code {
			if fixed, _ := splitPattern(code.pattern); touches(fixed, folder) {
				return false
			}
		}
	}
	return true
}

// touches tells whether one path is the other or lies in it.
func touches(a, b string) bool {
	return a == b || a == "." || b == "." || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// outside is a path without the workspace, should that lie in it: the folders beside the way there.
func outside(path, workspace string) []string {
	if !touches(path, workspace) || len(path) > len(workspace) {
		return []string{path}
	}
	if path == workspace {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil
	}
	var all []string
	for _, e := range entries {
		all = append(all, outside(filepath.Join(path, e.Name()), workspace)...)
	}
	return all
}

// programs are the folders of PATH and, for what is in them and in `tools`, the folders that programs were installed
// to: an interpreter's libraries lie there. Then libraries and certificates that variables name.
func (j *job) programs() []string {
	environ := j.Environ
	home := lookup(environ, "HOME")
	var all []string
	install := func(program string) {
		at, err := filepath.EvalSymlinks(program)
		for _, one := range []string{program, at} {
			prefix := filepath.Dir(filepath.Dir(one))
			if err == nil && prefix != "/" && prefix != home && standsAt(filepath.Join(prefix, "lib")) {
				all = append(all, prefix)
			}
		}
	}
	for _, dir := range filepath.SplitList(lookup(environ, "PATH")) {
		if filepath.IsAbs(dir) {
			all = append(all, dir)
			install(filepath.Join(dir, "python3"))
			if filepath.Base(dir) == "shims" { // of pyenv and its like, which keep all versions beside it
				all = append(all, filepath.Dir(dir))
			}
		}
	}
	for _, tool := range j.in.tools {
		all = append(all, tool.path)
		install(tool.path)
	}
	for _, name := range []string{"VIRTUAL_ENV", "CONDA_PREFIX", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"} {
		if at := lookup(environ, name); filepath.IsAbs(at) {
			all = append(all, at)
		}
	}
	for _, dir := range filepath.SplitList(lookup(environ, "LD_LIBRARY_PATH")) {
		if filepath.IsAbs(dir) {
			all = append(all, dir)
		}
	}
	if home != "" {
		all = append(all, filepath.Join(home, ".local", "lib"))
	}
	return all
}

// wrap is Env's Confine.
func (j *job) wrap(c *confinement) func(*exec.Cmd) (func(), error) {
	if c == nil || !c.enforced {
		return nil
	}
	return func(cmd *exec.Cmd) (func(), error) {
		return sandbox.Wrap(cmd, j.SandboxHelper, c.rules)
	}
}

// variables gives a confined stage a folder of its own for temporary files, unless its block names one.
func (c *confinement) variables(step *Step, environ []string) []string {
	if c == nil || !c.enforced {
		return environ
	}
	if _, set := step.Env["TMPDIR"]; set {
		return environ
	}
	environ = slices.DeleteFunc(environ, func(pair string) bool { return strings.HasPrefix(pair, "TMPDIR=") })
	return append(environ, "TMPDIR="+c.temp)
}
