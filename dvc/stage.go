package dvc

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// block collects one stage.
type block struct {
	c        *converter
	where    string
	scopes   []scope
	dir      string // of the paths in it, relative to the project
	loop     []string
	in, out  []string // "name = expression"
	code     []string
	metrics  []string
	plots    []string
	params   []string // "name" = expression
	settings []string
	ports    map[string]bool // names of inputs
	outPorts map[string]bool
	names    map[string]bool // what was written already
}

// stage converts one stage of a dvc.yaml, a loop being one stage.
func (c *converter) stage(at, name string, node *yaml.Node, scopes []scope) error {
	b := &block{c: c, where: at + ", stage " + name, scopes: slices.Clone(scopes), ports: map[string]bool{}, outPorts: map[string]bool{}, names: map[string]bool{}}
	body := node
	if do := field(node, "do"); do != nil {
		body = do
		if err := b.foreach(field(node, "foreach")); err != nil {
			return err
		}
	} else if matrix := field(node, "matrix"); matrix != nil {
		if err := b.matrix(matrix); err != nil {
			return err
		}
	}
	b.dir = path.Dir(at)
	if wdir := field(body, "wdir"); wdir != nil {
		if interpolation().MatchString(wdir.Value) {
			c.note(b.where, "write dir by hand", "wdir with a template: %s", wdir.Value)
		}
		b.dir = join(b.dir, wdir.Value)
	}
	if vars := field(body, "vars"); vars != nil {
		own, err := c.scopes(at, b.dir, vars)
		if err != nil {
			return err
		}
		b.scopes = append(b.scopes, own...)
	}
	if err := b.read(at, body); err != nil {
		return err
	}
	c.stages = append(c.stages, b.text(c.blocks[at+"\x00"+name]))
	return nil
}

// foreach binds item and key, and writes for_each.
func (b *block) foreach(node *yaml.Node) error {
	if node == nil {
		return fmt.Errorf("do without foreach")
	}
	over, expr, err := b.looped(node)
	if err != nil {
		return err
	}
	item, first := bound{hcl: "each.value"}, any(nil)
	switch list := over.(type) {
	case []any:
		if len(list) > 0 {
			first = list[0]
		}
		switch first.(type) {
		case map[string]any, []any:
			b.loop = append(b.loop, "for_each = { for i, one in "+expr+" : tostring(i) => one }")
		default:
			b.loop = append(b.loop, "for_each = { for one in "+expr+" : tostring(one) => one }")
		}
	case map[string]any:
		for _, name := range sortedKeys(list) {
			first = list[name]
			break
		}
		b.loop = append(b.loop, "for_each = "+expr)
	default:
		return fmt.Errorf("foreach over %v, which is neither a list nor a mapping", over)
	}
	item.value = first
	b.scopes = append(b.scopes, scope{bound: map[string]bound{"item": item, "key": {hcl: "each.key", value: ""}}})
	return nil
}

// looped is what a loop goes over, and its expression.
func (b *block) looped(node *yaml.Node) (any, string, error) {
	if node.Kind == yaml.ScalarNode {
		m := interpolation().FindStringSubmatch(node.Value)
		if m == nil || m[0] != node.Value {
			return nil, "", fmt.Errorf("a loop over %q", node.Value)
		}
		expr, value, err := find(b.scopes, m[2])
		return value, expr, err
	}
	value, err := plain(node)
	if err != nil {
		return nil, "", err
	}
	expr, err := b.literal(value)
	return value, expr, err
}

// literal writes a value whose texts may be templates.
func (b *block) literal(value any) (string, error) {
	var failed error
	var write func(any) string
	write = func(value any) string {
		switch v := value.(type) {
		case string:
			expr, err := template(b.scopes, v)
			if err != nil && failed == nil {
				failed = err
			}
			return expr
		case []any:
			var parts []string
			for _, one := range v {
				parts = append(parts, write(one))
			}
			return "[" + strings.Join(parts, ", ") + "]"
		case map[string]any:
			var parts []string
			for _, name := range sortedKeys(v) {
				parts = append(parts, quote(name)+" = "+write(v[name]))
			}
			return "{ " + strings.Join(parts, ", ") + " }"
		}
		return literal(value)
	}
	return write(value), failed
}

func (b *block) matrix(node *yaml.Node) error {
	var parts []string
	item := map[string]any{}
	var failed error
	fields(node, func(name string, list *yaml.Node) {
		over, expr, err := b.looped(list)
		if err != nil && failed == nil {
			failed = err
		}
		if values, ok := over.([]any); ok && len(values) > 0 {
			item[name] = values[0]
		}
		parts = append(parts, name+" = "+expr)
	})
	b.loop = append(b.loop, "matrix = { "+strings.Join(parts, ", ")+" }")
	b.scopes = append(b.scopes, scope{bound: map[string]bound{"item": {hcl: "each.value", value: item}, "key": {hcl: "each.key", value: ""}}})
	return failed
}

// read converts the fields of a stage.
func (b *block) read(at string, body *yaml.Node) error {
	var failed error
	keep := func(err error) {
		if err != nil && failed == nil {
			failed = err
		}
	}
	fields(body, func(name string, value *yaml.Node) {
		switch name {
		case "cmd":
			keep(b.command(value))
		case "deps":
			for _, one := range value.Content {
				keep(b.dep(one.Value))
			}
		case "params":
			for _, one := range value.Content {
				keep(b.param(one))
			}
		case "outs", "metrics", "plots":
			for _, one := range value.Content {
				keep(b.output(name, one))
			}
		case "frozen", "always_changed":
			if value.Value == "true" {
				b.settings = append(b.settings, map[string]string{"frozen": "frozen", "always_changed": "always"}[name]+" = true")
			}
		case "desc":
			expr, err := template(b.scopes, strings.TrimSpace(value.Value))
			keep(err)
			b.settings = append(b.settings, "desc = "+expr)
		case "wdir", "vars", "foreach", "do", "matrix":
		case "meta":
			b.c.note(b.where, "keep it in desc or a comment", "meta")
		default:
			b.c.note(b.where, "write it by hand", "%s", name)
		}
	})
	if b.dir != "." {
		b.settings = append(b.settings, "dir = "+quote(b.dir))
	}
	return failed
}

var (
	environment = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\$\{?([A-Z_][A-Z0-9_]*)`) })
	given       = []string{"PATH", "HOME", "USER", "SHELL", "LANG", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "HF_HOME", "CUDA_VISIBLE_DEVICES"}
	keepsState  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(^|[;&|]\s*)(cd|export|set|umask|ulimit)\s`) })
)

// command writes cmd; each line of a list runs in a shell of its own, as with DVC, if it would leave something behind.
func (b *block) command(node *yaml.Node) error {
	lines := []string{node.Value}
	if node.Kind == yaml.SequenceNode {
		lines = nil
		for _, one := range node.Content {
			line := one.Value
			if len(node.Content) > 1 && keepsState().MatchString(line) {
				line = "(" + line + ")"
			}
			lines = append(lines, line)
		}
	}
	text := strings.TrimRight(strings.Join(lines, "\n"), "\n")
	var needed []string
	for _, m := range environment().FindAllStringSubmatch(interpolation().ReplaceAllString(text, ""), -1) {
		if !slices.Contains(given, m[1]) && !slices.Contains(needed, quote(m[1])) && !strings.Contains(text, m[1]+"=") {
			needed = append(needed, quote(m[1]))
		}
	}
	if len(needed) > 0 {
		b.settings = append(b.settings, "pass_env = ["+strings.Join(needed, ", ")+"]")
	}
	if strings.Contains(text, "\n") {
		inner, err := interpolate(b.scopes, text, escapeTemplates)
		end := heredocEnd(inner)
		b.settings = append(b.settings, "command = <<"+end+"\n"+inner+"\n"+end)
		return err
	}
	inner, err := interpolate(b.scopes, text, func(s string) string { q := quote(s); return q[1 : len(q)-1] })
	b.settings = append(b.settings, `command = "`+inner+`"`)
	return err
}

// heredocEnd is a word that no line of the text consists of.
func heredocEnd(text string) string {
	taken := map[string]bool{}
	for line := range strings.Lines(text) {
		taken[strings.TrimSpace(line)] = true
	}
	end := "EOT"
	for n := 2; taken[end]; n++ {
		end = fmt.Sprint("EOT", n)
	}
	return end
}

// at is a path of the project, or an absolute one.
func (b *block) at(text string) string { return join(b.dir, text) }

// join is a path that is given with respect to a folder.
func join(dir, text string) string {
	if path.IsAbs(text) {
		return path.Clean(text)
	}
	return path.Join(dir, text)
}

// outside says whether a path does not lie in the project.
func outside(at string) bool { return path.IsAbs(at) || at == ".." || strings.HasPrefix(at, "../") }

// dep makes an input of a dependency: a reference where a stage or .dvc file makes it, code where it looks like that, else a path.
func (b *block) dep(text string) error {
	if strings.Contains(text, "://") {
		b.c.note(b.where, "write a source block with url, s3 or hf, and name it in `in`", "the external dependency %s", text)
		return nil
	}
	at := b.at(text)
	expr, err := template(b.scopes, at)
	if err != nil {
		return err
	}
	if plain, known := evaluate(b.scopes, at); known {
		at = path.Clean(plain)
	}
	name, tracked := b.c.tracked[at]
	reference, made := b.c.outputs[at]
	switch {
	case strings.HasPrefix(at, "../"):
		b.c.note(b.where, "move it into the project, or name it by an absolute path", "the dependency %s outside of the project", text)
		return nil
	case made:
		expr = reference
	case tracked:
		expr = "source." + name + ".path"
	case !interpolation().MatchString(at) && b.c.looksLikeCode(at):
		b.code = append(b.code, quote(at))
		return nil
	}
	b.in = append(b.in, b.c.unique(strings.TrimSuffix(path.Base(interpolation().ReplaceAllString(at, "")), path.Ext(at)), b.ports)+" = "+expr)
	return nil
}

var codeEndings = []string{".py", ".sh", ".r", ".jl", ".ipynb", ".js", ".ts", ".go", ".java", ".scala", ".pl", ".rb", ".sql", ".c", ".cpp", ".rs"}

// looksLikeCode tells programs from data: by their endings, a folder by what lies in it.
func (c *converter) looksLikeCode(at string) bool {
	if slices.Contains(codeEndings, strings.ToLower(path.Ext(at))) {
		return true
	}
	list, err := os.ReadDir(filepath.Join(c.dir, filepath.FromSlash(at)))
	return err == nil && slices.ContainsFunc(list, func(e os.DirEntry) bool {
		return slices.Contains(codeEndings, strings.ToLower(path.Ext(e.Name())))
	})
}

// param puts values of a file of parameters into the environment: they count in the key, and the command reads its file as before.
func (b *block) param(node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return b.paramKey("params.yaml", node.Value)
	}
	var failed error
	fields(node, func(file string, keys *yaml.Node) {
		if len(keys.Content) == 0 {
			b.code = append(b.code, quote(b.at(file)))
		}
		for _, key := range keys.Content {
			if err := b.paramKey(file, key.Value); err != nil && failed == nil {
				failed = err
			}
		}
	})
	return failed
}

func (b *block) paramKey(file, key string) error {
	if inner, err := template(b.scopes, key); err == nil && interpolation().MatchString(key) {
		b.c.note(b.where, "write it by hand", "a parameter named by a template: %s", inner)
		return nil
	}
	name, err := b.c.paramsFile(b.at(file))
	if err != nil {
		if at := quote(b.at(file)); !slices.Contains(b.code, at) {
			b.code = append(b.code, at)
		}
		b.c.note(b.where, "any change of the file runs the stage; YAML or JSON would be read by key", "parameters in %s", file)
		return nil
	}
	one := b.c.locals[name]
	ref, err := parseReference(key)
	if err != nil {
		return err
	}
	if _, ok := ref.in(one.values); !ok {
		b.c.note(b.where, "none, if nothing reads it", "the parameter %s, which %s does not have", key, file)
		return nil
	}
	one.used = true
	if label := quote(key); !b.names["param "+file+label] {
		b.names["param "+file+label] = true
		if file != "params.yaml" {
			label = quote(file + ":" + key)
		}
		b.params = append(b.params, label+" = "+ref.hcl("local."+name))
	}
	return nil
}

// outputPort is what an output is called, after its file.
func outputPort(at string) string {
	base := path.Base(interpolation().ReplaceAllString(at, ""))
	return strings.TrimSuffix(base, path.Ext(base))
}

// outputPath takes an entry of outs apart: a path, or a path with options.
func outputPath(node *yaml.Node) (text string, options *yaml.Node) {
	if node.Kind != yaml.MappingNode || len(node.Content) < 2 {
		return node.Value, nil
	}
	if len(node.Content) > 2 { // `- path:` and the options beside it instead of below
		return node.Content[0].Value, node
	}
	return node.Content[0].Value, node.Content[1]
}

// output converts an output, metrics file or plots file with its options.
func (b *block) output(kind string, node *yaml.Node) error {
	text, options := outputPath(node)
	at := b.at(text)
	expr, err := template(b.scopes, at)
	if err != nil {
		return err
	}
	if b.names["out "+at] {
		return nil // a file that is metrics and plots as well
	}
	b.names["out "+at] = true
	static, _ := evaluate(b.scopes, at)
	if outside(static) {
		b.c.note(b.where, "write it inside of the project, or copy it from there", "the output %s outside of the project", static)
		return nil
	}
	port := b.c.unique(outputPort(static), b.outPorts)
	flags, drawn, told := "", []string(nil), []string(nil)
	fields(options, func(name string, value *yaml.Node) {
		switch name {
		case "cache", "push":
			if value.Value == "false" {
				flags += ", " + name + " = false"
			}
		case "persist":
			if value.Value == "true" {
				b.c.note(b.where, "outputs are removed before a run: keep what must last in $LPIPE_SCRATCH, or make it a source", "persist of %s", text)
			}
		case "x", "y", "x_label", "y_label", "title", "template", "header":
			drawn = append(drawn, name)
		case "desc", "type", "labels", "meta", "remote":
			told = append(told, name)
		}
	})
	if len(drawn) > 0 {
		b.c.note(b.where, "none", "how the plot %s is drawn (%s)", static, strings.Join(drawn, ", "))
	}
	if len(told) > 0 {
		b.c.note(b.where, "none", "%s of %s", strings.Join(told, ", "), static)
	}
	if flags != "" {
		expr = "{ path = " + expr + flags + " }"
	}
	b.out = append(b.out, port+" = "+expr)
	if named := b.c.shown[static]; kind == "outs" && named != "" {
		kind = named
		delete(b.c.shown, static)
	}
	if kind == "outs" {
		return nil
	}
	if ending := path.Ext(static); ending != ".json" && ending != ".jsonl" {
		b.c.note(b.where, "write JSON, or JSON lines, to see it in lpipe metrics and plots; it is an output like others", "%s in %s", kind, static)
	} else if kind == "metrics" {
		b.metrics = append(b.metrics, quote(port))
	} else {
		b.plots = append(b.plots, quote(port))
	}
	return nil
}

// text writes the block.
func (b *block) text(name string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "stage \"shell\" %q {\n", name)
	line := func(text string) { s.WriteString("  " + text + "\n") }
	for _, text := range b.loop {
		line(text)
	}
	group := func(name, open, end string, list []string) {
		switch {
		case len(list) == 1:
			line(name + " = " + open + " " + list[0] + " " + end)
		case len(list) > 1:
			line(name + " = " + open)
			for _, one := range list {
				line("  " + one + ",")
			}
			line(end)
		}
	}
	group("in", "{", "}", b.in)
	group("out", "{", "}", b.out)
	group("code", "[", "]", b.code)
	if len(b.params) > 0 {
		line("env = { DVC_PARAMS = jsonencode({")
		for _, one := range b.params {
			line("  " + one + ",")
		}
		line("}) } # what counts of the parameters; the command reads its file as before")
	}
	if len(b.metrics) > 0 {
		line("metrics = [" + strings.Join(b.metrics, ", ") + "]")
	}
	if len(b.plots) > 0 {
		line("plots = [" + strings.Join(b.plots, ", ") + "]")
	}
	for _, text := range b.settings {
		line(text)
	}
	s.WriteString("}\n")
	return s.String()
}
