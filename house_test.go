// Package lpipe_test holds the rules of the house as tests: who may import whom, and that every package
// says what it is for.
package lpipe_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A rule says what the packages under a path may import of ours. The first rule that fits a package counts.
type rule struct {
	of    string   // package path below the module; "x/..." is x and all below it
	may   []string // the same form; "*" is everything
	since string   // why
}

var rules = []rule{
	{"cache", nil, "cache stands alone: content and results know nothing of pipelines"},
	{"engine/ops/opstest", []string{"engine/ops"}, "the suite tests any device"},
	{"engine/ops", nil, "operations know no model and no device"},
	{"engine/tokenizer/...", []string{"engine/tokenizer/..."}, "the tokenizer stands alone"},
	{"engine/nf4", nil, "a storage format stands alone"},
	{"engine/safetensors", nil, "weight files stand alone"},
	{"dataset", nil, "formats stand alone: stages and engine share them"},
	{"runner/...", []string{"cache", "runner/..."}, "the runner knows no stage kind, no S3, no engine, no terminal"},
	{"tracking", nil, "a client stands alone"},
	{"tracking/spool", []string{"cache", "tracking"}, "a spool keeps records and sends them: it knows no pipeline"},
	{"tracking/recorder", []string{"cache", "plot", "runner", "tracking", "tracking/spool"}, "the recorder turns what a runner tells into records"},
	{"plot", nil, "curves are drawn without knowing whose they are"},
	{"dvc", nil, "another tool's project is read without ours"},
	{"download/...", []string{"download/..."}, "a client of hubs stands alone: it knows no pipeline and no cache of ours"},
	{"remote/...", []string{"cache", "remote/..."}, "a remote moves what the cache holds"},
	{"stages/...", []string{"runner/...", "engine/...", "dataset", "stages/..."}, "a stage sees paths, never hashes"},
	{"engine/...", []string{"engine/...", "dataset"}, "the engine is usable as a library, readable alone"},
	{"cmd/...", []string{"*"}, "cmd wires everything"},
}

func TestImports(t *testing.T) {
	for dir, files := range packages(t) {
		for path, file := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, spec := range file.Imports {
				imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), "lpipe/")
				if !ours {
					continue
				}
				if r, allowed := check(dir, imported); !allowed {
					t.Errorf("%s imports %s: %s (%s may import %v of ours)", path, imported, r.since, r.of, r.may)
				}
			}
		}
	}
}

func check(dir, imported string) (rule, bool) {
	for _, r := range rules {
		if fits(r.of, dir) {
			return r, slices.ContainsFunc(r.may, func(m string) bool { return fits(m, imported) })
		}
	}
	return rule{of: dir, since: "every package has a rule here"}, false
}

func fits(pattern, path string) bool {
	if pattern == "*" {
		return true
	}
	if parent, tree := strings.CutSuffix(pattern, "/..."); tree {
		return path == parent || strings.HasPrefix(path, parent+"/")
	}
	return pattern == path
}

// Only cmd reads the environment, exits, and prints to the process's own streams.
func TestOnlyCmdTouchesTheProcess(t *testing.T) {
	forbidden := map[string]bool{"Getenv": true, "LookupEnv": true, "Environ": true, "Exit": true, "Stdout": true, "Stderr": true, "Stdin": true}
	for dir, files := range packages(t) {
		if strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "tools/") || strings.Contains(dir, "/gen") {
			continue
		}
		for path, file := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && forbidden[s.Sel.Name] {
					t.Errorf("%s uses os.%s: only cmd reads the environment, prints and exits", path, s.Sel.Name)
				}
				return true
			})
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	for dir, files := range packages(t) {
		documented, code := false, false
		for path, file := range files {
			if !strings.HasSuffix(path, "_test.go") {
				code = true
				documented = documented || file.Doc != nil
			}
		}
		if code && !documented {
			t.Errorf("package %s has no package comment", dir)
		}
	}
}

func TestNoInitAndNoPackageState(t *testing.T) {
	for _, files := range packages(t) {
		for path, file := range files {
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s has an init function: wire things in cmd instead", path)
				}
			}
		}
	}
}

// Expressions that stand in variables of a package are compiled when they are first used: each costs every start of the
// program some ten microseconds.
func TestNoExpressionIsCompiledAtStart(t *testing.T) {
	for _, files := range packages(t) {
		for path, file := range files {
			if strings.HasSuffix(path, "_test.go") || file.Name.Name == "main" && !strings.HasPrefix(path, "cmd/lpipe/") {
				continue
			}
			for _, d := range file.Decls {
				if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.VAR {
					ast.Inspect(g, func(n ast.Node) bool {
						if _, later := n.(*ast.FuncLit); later {
							return false
						}
						if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "MustCompile" {
							t.Errorf("%s compiles an expression at start: write sync.OnceValue(func() *regexp.Regexp { … })", path)
						}
						return true
					})
				}
			}
		}
	}
}

// packages parses every Go file of the module, by folder.
func packages(t *testing.T) map[string]map[string]*ast.File {
	t.Helper()
	found := map[string]map[string]*ast.File{}
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (path == "build" || path == "bin" || path == "tools" || d.Name() == "testdata" || (strings.HasPrefix(d.Name(), ".") && path != ".")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) == "." {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if found[dir] == nil {
			found[dir] = map[string]*ast.File{}
		}
		found[dir][path] = file
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What the architecture page names must exist.
func TestArchitectureNamesRealFiles(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("doc", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([a-z_/-]+\\.go)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
			t.Errorf("doc/architecture.md names %s: %v", m[1], err)
		}
	}
}

// Every direct dependency has its reason in doc/dependencies.md.
func TestEveryDependencyHasAReason(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("doc", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(string(mod), -1) {
		name := m[1]
		if strings.HasPrefix(name, "github.com/aws/aws-sdk-go-v2/") {
			name = "github.com/aws/aws-sdk-go-v2"
		}
		if !strings.Contains(string(page), name) {
			t.Errorf("doc/dependencies.md gives no reason for %s", m[1])
		}
	}
}
