package runner

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// sourceBlock is a source block as it is written: path, or one of the downloads with its settings.
type sourceBlock struct {
	Path    string `hcl:"path,optional"`
	Store   bool   `hcl:"store,optional"`
	License string `hcl:"license,optional"` // for stages to refer to: nothing is done with it here

	HF         string   `hcl:"hf,optional"`
	URL        string   `hcl:"url,optional"`
	S3         string   `hcl:"s3,optional"`
	MLflow     string   `hcl:"mlflow,optional"`
	Experiment string   `hcl:"experiment,optional"`
	Revision   string   `hcl:"revision,optional"`
	Include    []string `hcl:"include,optional"`
	Exclude    []string `hcl:"exclude,optional"`
	Checksum   string   `hcl:"checksum,optional"`
	Output     string   `hcl:"output,optional"`
	Dir        string   `hcl:"dir,optional"`
}

// sourceForms says which settings go with each way to get a source.
var sourceForms = map[string][]string{
	"path":       {"store"},
	"hf":         {"revision", "include", "exclude", "dir"},
	"url":        {"checksum", "dir"},
	"s3":         {"checksum", "include", "exclude", "dir"},
	"mlflow":     {"dir"},
	"experiment": {"output", "dir"},
}

var sourceWays = []string{"path", "hf", "url", "s3", "mlflow", "experiment"}

// decodeSources reads the source blocks and builds the object behind source.
func (d *decoder) decodeSources() {
	blocks := map[string]*hclsyntax.Block{}
	values := map[string]cty.Value{}
	for _, block := range d.blocks["source"] {
		name := block.Labels[0]
		if !d.checkName(block, 0, "source") {
			continue
		}
		if first := blocks[name]; first != nil {
			d.declaredTwice(block, fmt.Sprintf("Source %q", name), first)
			continue
		}
		blocks[name] = block
		values[name] = cty.DynamicVal
		if source := d.decodeSource(block); source != nil {
			d.p.Sources = append(d.p.Sources, source)
			mark := &refMark{path: source.Path, name: "source." + name + ".path"}
			values[name] = cty.ObjectVal(map[string]cty.Value{"path": cty.StringVal(source.Path).Mark(mark), "license": cty.StringVal(source.License)})
		}
	}
	d.sources = cty.ObjectVal(values)
}

func (d *decoder) decodeSource(block *hclsyntax.Block) *Source {
	var settings sourceBlock
	failures := len(d.diags)
	d.fillBlock(block, "a source", &settings)
	way := d.sourceWay(block)
	if way == "" || len(d.diags) > failures {
		return nil
	}
	source := &Source{Name: block.Labels[0], License: settings.License, Range: block.DefRange()}
	if way == "path" {
		if settings.Path == "" {
			d.failAt(block.Body.Attributes["path"].Expr.Range(), "path is empty", "Name a file or folder.")
			return nil
		}
		source.Path, source.Store = d.relative(settings.Path), settings.Store
		return source
	}
	source.Download = way
	source.Path = path.Join(".lpipe/sources", source.Name)
	switch way { // programs know a format by its extension
	case "url", "s3":
		source.Path += urlExt(settings.URL + settings.S3)
	case "experiment":
		source.Path += d.outputExt(settings.Output)
	}
	source.HF, source.Revision, source.Include, source.Exclude = settings.HF, settings.Revision, settings.Include, settings.Exclude
	source.URL, source.S3, source.Checksum, source.MLflow = settings.URL, settings.S3, settings.Checksum, settings.MLflow
	source.Experiment, source.Output = settings.Experiment, settings.Output
	if way == "hf" && source.Revision == "" {
		source.Revision = defaultRevision
	}
	if settings.Dir != "" {
		source.Path = d.relative(settings.Dir)
	}
	for _, attr := range sortedAttrs(block.Body.Attributes) {
		if v, ok := d.eval(d.globalScope("A source"), attr.Expr); ok && !v.IsNull() {
			hidden := holdsMark(v, envMark{})
			source.Settings = append(source.Settings, Setting{Name: attr.Name, Value: canonicalJSON(plain(v)), Sensitive: hidden, Range: attr.SrcRange})
		}
	}
	d.checkSource(block, way, settings)
	if len(d.diags) > failures {
		return nil
	}
	return source
}

// sourceWay finds the one setting that says where the source comes from, and reports those that do not go with it.
func (d *decoder) sourceWay(block *hclsyntax.Block) string {
	attrs := block.Body.Attributes
	way := ""
	for _, name := range sourceWays {
		if attrs[name] == nil {
			continue
		}
		if way != "" {
			d.failAt(attrs[name].SrcRange, fmt.Sprintf("Source %q has both %s and %s", block.Labels[0], way, name), "A source comes from one place. Remove one of them.")
			return ""
		}
		way = name
	}
	if way == "" {
		d.failAt(block.DefRange(), fmt.Sprintf("Source %q comes from nowhere", block.Labels[0]), `Give it a path = "...", or a download: hf, url, s3, mlflow or experiment.`)
		return ""
	}
	known := append([]string{way, "license"}, sourceForms[way]...)
	for _, attr := range sortedAttrs(attrs) {
		if hasField(settingFields(settingsStruct(&sourceBlock{}).Type()), attr.Name) && !slices.Contains(known, attr.Name) {
			d.failAt(attr.NameRange, fmt.Sprintf("%s does not go with %s", attr.Name, way), fmt.Sprintf("With %s a source may have: %s.", way, strings.Join(append(slices.Clone(sourceForms[way]), "license"), ", ")))
			way = ""
			break
		}
	}
	return way
}

// defaultRevision is the branch of a hub's repository that is meant where none is named.
const defaultRevision = "main"

var (
	hfName       = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(datasets/)?[A-Za-z0-9][\w.-]*/[\w.-]+$`) })
	checksumForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(sha256|blake3):[0-9a-f]{64}$`) })
)

// checkSource checks the form of each download.
func (d *decoder) checkSource(block *hclsyntax.Block, way string, settings sourceBlock) {
	at := block.Body.Attributes[way].Expr.Range()
	form := func(ok bool, value, remedy string) {
		if !ok {
			d.failAt(at, fmt.Sprintf("%s cannot be %q", way, value), remedy)
		}
	}
	switch way {
	case "hf":
		form(hfName().MatchString(settings.HF), settings.HF, `Name a repository: hf = "ORG/NAME" for a model, "datasets/ORG/NAME" for a data set.`)
	case "url":
		u, err := url.Parse(settings.URL)
		remedy := `Give the whole address: url = "https://example.com/file.csv".`
		if err == nil && u.Scheme == "s3" {
			remedy = fmt.Sprintf("What lies in a bucket is named by s3: s3 = %q.", settings.URL)
		}
		form(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "", settings.URL, remedy)
	case "s3":
		bucket, _, _ := strings.Cut(strings.TrimPrefix(settings.S3, "s3://"), "/")
		form(strings.HasPrefix(settings.S3, "s3://") && bucket != "", settings.S3, `Write it as s3 = "s3://BUCKET/KEY".`)
		d.checkBucketFolder(block, settings)
	case "mlflow":
		form(strings.HasPrefix(settings.MLflow, "models:/"), settings.MLflow, `Write it as mlflow = "models:/NAME@ALIAS" or "models:/NAME/VERSION".`)
	case "experiment":
		if settings.Output == "" {
			d.failAt(at, "The experiment's output is not named", `Say which: output = "STAGE.OUTPUT".`)
		}
	}
	if attr := block.Body.Attributes["checksum"]; attr != nil && !checksumForm().MatchString(settings.Checksum) {
		d.failAt(attr.Expr.Range(), "checksum is none", `Write it as "sha256:" and 64 digits, as sha256sum prints them, or as "blake3:" and those of b3sum.`)
	}
}

// checkBucketFolder reports settings of a file that stand beside a folder of a bucket, and the other way round.
func (d *decoder) checkBucketFolder(block *hclsyntax.Block, settings sourceBlock) {
	_, key, _ := strings.Cut(strings.TrimPrefix(settings.S3, "s3://"), "/")
	folder := key == "" || strings.HasSuffix(key, "/")
	for _, name := range []string{"checksum", "include", "exclude"} {
		attr := block.Body.Attributes[name]
		switch {
		case attr == nil || folder == (name != "checksum"):
		case folder:
			d.failAt(attr.NameRange, "checksum is of a file, and s3 names a folder", "Leave it out: the lock records what came.")
		default:
			d.failAt(attr.NameRange, name+" is of a folder, and s3 names a file", "End the key with a slash to mean all below it.")
		}
	}
}

var plainExt = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(\.[A-Za-z0-9]{1,8}){1,2}$`) })

// urlExt is the extension of the file that a URL names: ".csv", ".jsonl.gz".
func urlExt(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	base := path.Base(u.Path)
	ext := path.Ext(base)
	if inner := path.Ext(strings.TrimSuffix(base, ext)); ext == ".gz" || ext == ".zst" {
		ext = inner + ext
	}
	if !plainExt().MatchString(ext) {
		return ""
	}
	return ext
}
