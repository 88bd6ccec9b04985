package runner

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// globalScope is for blocks outside of stages: variables and locals.
func (d *decoder) globalScope(what string) *scope {
	return &scope{what: what, ctx: &hcl.EvalContext{Functions: d.funcs, Variables: map[string]cty.Value{
		"var": d.vars, "local": d.locals,
	}}}
}

// fillBlock decodes a block's settings into the struct that into points to, by its hcl tags.
func (d *decoder) fillBlock(block *hclsyntax.Block, what string, into any, others ...string) {
	target := settingsStruct(into)
	fields := settingFields(target.Type())
	d.checkAttrs(block.Body, slices.Concat(fieldNames(fields), others), what)
	s := d.globalScope(strings.ToUpper(what[:1]) + what[1:])
	for _, f := range fields {
		attr := block.Body.Attributes[f.name]
		if attr == nil {
			if !f.optional {
				d.failAt(block.DefRange(), fmt.Sprintf("%s lacks %q", strings.ToUpper(what[:1])+what[1:], f.name), fmt.Sprintf("Add it: %s = ...", f.name))
			}
			continue
		}
		if v, ok := d.evalPublic(s, attr); ok {
			d.setField(target.Field(f.index), attr, v)
		}
	}
}

// evalPublic evaluates a setting that may not hold sensitive values.
func (d *decoder) evalPublic(s *scope, attr *hclsyntax.Attribute) (cty.Value, bool) {
	v, ok := d.eval(s, attr.Expr)
	if ok && holdsMark(v, secretMark{}) {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("%s holds a sensitive value", attr.Name),
			"Sensitive variables may stand in secret_env only, where nothing records them: secret_env = { NAME = var.NAME }, and $NAME in the command.")
		return cty.DynamicVal, false
	}
	return v, ok
}

// setField puts a value into a struct field and reports what does not fit.
func (d *decoder) setField(field reflect.Value, attr *hclsyntax.Attribute, v cty.Value) bool {
	err := setValue(field, plain(v))
	if err == nil {
		return true
	}
	name := strings.Join(append([]string{attr.Name}, err.path...), ".")
	at := rangeIn(attr.Expr, err.path...)
	if err.text != "" {
		d.failAt(at, fmt.Sprintf("Setting %s cannot be used as it stands", name), capital(err.text))
		return false
	}
	d.failAt(at, fmt.Sprintf("Setting %s takes %s", name, err.want), "Here stands "+err.got+".")
	return false
}

// capital makes a sentence of an error's text.
func capital(text string) string {
	if text == "" {
		return text
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if !strings.HasSuffix(text, ".") && !strings.HasSuffix(text, "?") {
		text += "."
	}
	return text
}

// oneOf checks a setting with a few words to choose from.
func (d *decoder) oneOf(block *hclsyntax.Block, name, value string, words ...string) {
	if value == "" || slices.Contains(words, value) {
		return
	}
	at := block.DefRange()
	if attr := block.Body.Attributes[name]; attr != nil {
		at = attr.Expr.Range()
	}
	d.failAt(at, fmt.Sprintf("%s is %q", name, value), fmt.Sprintf("It is one of: %s.", strings.Join(words, ", ")))
}

// lpipeBlock is the lpipe block as it is written.
type lpipeBlock struct {
	RequiredVersion string         `hcl:"required_version,optional"`
	Cache           string         `hcl:"cache,optional"`
	Link            []string       `hcl:"link,optional"`
	Remote          string         `hcl:"remote,optional"`
	Device          string         `hcl:"device,optional"`
	Pools           map[string]int `hcl:"pools,optional"`
}

// decodeLpipe reads the lpipe block; pipeline.local.hcl's settings win over the shared ones.
func (d *decoder) decodeLpipe() {
	var first, local *hclsyntax.Block
	var settings lpipeBlock
	for _, block := range d.blocks["lpipe"] { // the local file comes last
		seen := &first
		if d.localBlocks[block] {
			seen = &local
		}
		if *seen != nil {
			d.declaredTwice(block, "lpipe", *seen)
			continue
		}
		*seen = block
		d.fillBlock(block, "an lpipe block", &settings)
		d.checkLpipe(block, settings)
	}
	d.p.Settings = Settings(settings)
}

var linkWords = []string{"reflink", "hardlink", "symlink", "copy"}

func (d *decoder) checkLpipe(block *hclsyntax.Block, settings lpipeBlock) {
	attrs := block.Body.Attributes
	if attr := attrs["link"]; attr != nil {
		for _, word := range settings.Link {
			if !slices.Contains(linkWords, word) {
				d.failAt(attr.Expr.Range(), fmt.Sprintf("link names %q", word), suggest(word, linkWords, "ways to place a file"))
			}
		}
		if len(settings.Link) == 0 {
			d.failAt(attr.Expr.Range(), "link is empty", `Name the ways to place a file, the first that works is taken: link = ["reflink", "hardlink", "symlink", "copy"].`)
		}
	}
	if attr := attrs["pools"]; attr != nil {
		for _, name := range sortedKeys(settings.Pools) {
			if settings.Pools[name] < 0 {
				d.failAt(rangeIn(attr.Expr, name), fmt.Sprintf("Pool %q has %d places", name, settings.Pools[name]), "A pool has 0 places or more.")
			}
		}
	}
	if attr := attrs["required_version"]; attr != nil && settings.RequiredVersion != "" {
		d.checkVersion(attr, settings.RequiredVersion)
	}
}

// remoteSettings are a remote block's settings, of both types.
type s3Block struct {
	Bucket   string   `hcl:"bucket"`
	Prefix   string   `hcl:"prefix,optional"`
	Region   string   `hcl:"region,optional"`
	Endpoint string   `hcl:"endpoint,optional"`
	Profile  string   `hcl:"profile,optional"`
	Results  string   `hcl:"results,optional"`
	Trust    []string `hcl:"trust,optional"`
}

type dirBlock struct {
	Path    string   `hcl:"path"`
	Results string   `hcl:"results,optional"`
	Trust   []string `hcl:"trust,optional"`
}

// decodeRemotes reads the remote blocks and chooses the default: the profile's, the lpipe block's, the only one.
func (d *decoder) decodeRemotes() {
	blocks := map[string]*hclsyntax.Block{}
	for _, block := range d.blocks["remote"] {
		name := block.Labels[1]
		if !d.checkName(block, 1, "remote") {
			continue
		}
		if first := blocks[name]; first != nil {
			if !d.localBlocks[block] || d.localBlocks[first] {
				d.declaredTwice(block, fmt.Sprintf("Remote %q", name), first)
				continue
			}
			d.p.Remotes = slices.DeleteFunc(d.p.Remotes, func(r *RemoteBlock) bool { return r.Name == name })
		}
		blocks[name] = block
		if remote := d.decodeRemote(block); remote != nil {
			d.p.Remotes = append(d.p.Remotes, remote)
		}
	}
	names := sortedKeys(blocks)
	for _, block := range d.blocks["lpipe"] {
		if attr := block.Body.Attributes["remote"]; attr != nil {
			d.checkRemoteName(attr, d.p.Settings.Remote, names)
		}
	}
	if attr := d.profileRemote; attr != nil {
		var name string
		if v, ok := d.evalPublic(d.globalScope("A profile"), attr); ok && d.setField(reflect.ValueOf(&name).Elem(), attr, v) {
			d.checkRemoteName(attr, name, names)
			d.p.Settings.Remote = name
		}
	}
	if d.p.Settings.Remote == "" && len(d.p.Remotes) == 1 {
		d.p.Settings.Remote = d.p.Remotes[0].Name
	}
}

func (d *decoder) checkRemoteName(attr *hclsyntax.Attribute, name string, known []string) {
	if name != "" && !slices.Contains(known, name) {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("There is no remote %q", name), suggest(name, known, "remotes"))
	}
}

func (d *decoder) decodeRemote(block *hclsyntax.Block) *RemoteBlock {
	remote := &RemoteBlock{Type: block.Labels[0], Name: block.Labels[1], Results: "read-write", Range: block.DefRange()}
	switch remote.Type {
	case "s3":
		settings := s3Block{Results: remote.Results}
		d.fillBlock(block, "an s3 remote", &settings)
		remote.Bucket, remote.Prefix, remote.Region = settings.Bucket, strings.Trim(settings.Prefix, "/"), settings.Region
		remote.Endpoint, remote.AWSProfile, remote.Results, remote.Trust = settings.Endpoint, settings.Profile, settings.Results, settings.Trust
		d.checkS3(block, remote)
	case "dir":
		settings := dirBlock{Results: remote.Results}
		d.fillBlock(block, "a dir remote", &settings)
		remote.Path, remote.Results, remote.Trust = settings.Path, settings.Results, settings.Trust
		d.notEmpty(block, "path", remote.Path)
	default:
		d.failAt(block.LabelRanges[0], fmt.Sprintf("Unknown type of remote %q", remote.Type), suggest(remote.Type, []string{"s3", "dir"}, "types"))
		return nil
	}
	d.oneOf(block, "results", remote.Results, "read-write", "read", "off")
	d.checkTrust(block, remote.Trust)
	return remote
}

// checkTrust looks at public keys; what is none is a file's name.
func (d *decoder) checkTrust(block *hclsyntax.Block, entries []string) {
	attr := block.Body.Attributes["trust"]
	if attr == nil || d.failedAt(attr.Expr.Range()) {
		return
	}
	if len(entries) == 0 {
		d.failAt(attr.Expr.Range(), "trust is empty", "Name public keys (lpipe keys new prints one) or files of such, or leave trust out to use everybody's results.")
	}
	for _, entry := range entries {
		rest, isKey := strings.CutPrefix(entry, "ed25519:")
		if key, err := base64.StdEncoding.DecodeString(rest); isKey && (err != nil || len(key) != 32) {
			d.failAt(attr.Expr.Range(), fmt.Sprintf("%q is no public key", entry), "Copy the whole line that lpipe keys show prints: ed25519: and 44 characters of base64.")
		}
	}
}

func (d *decoder) checkS3(block *hclsyntax.Block, remote *RemoteBlock) {
	d.notEmpty(block, "bucket", remote.Bucket)
	if attr := block.Body.Attributes["bucket"]; attr != nil && strings.ContainsAny(remote.Bucket, "/: ") {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("%q is no bucket's name", remote.Bucket), "Give the bare name; folders in it go into prefix, servers other than AWS into endpoint.")
	}
	if attr := block.Body.Attributes["endpoint"]; attr != nil && remote.Endpoint != "" &&
		!strings.HasPrefix(remote.Endpoint, "http://") && !strings.HasPrefix(remote.Endpoint, "https://") {
		d.failAt(attr.Expr.Range(), fmt.Sprintf("Endpoint %q is no URL", remote.Endpoint), `Write it with its scheme: endpoint = "https://s3.example.com".`)
	}
}

// notEmpty reports a setting that is given, but empty.
func (d *decoder) notEmpty(block *hclsyntax.Block, name, value string) {
	if attr := block.Body.Attributes[name]; attr != nil && value == "" && !d.failedAt(attr.Expr.Range()) {
		d.failAt(attr.Expr.Range(), name+" is empty", "Give it a value.")
	}
}

// failedAt reports whether a mistake is reported inside a range already.
func (d *decoder) failedAt(at hcl.Range) bool {
	for _, diag := range d.diags {
		if diag.Subject != nil && diag.Subject.Filename == at.Filename && diag.Subject.Start.Byte >= at.Start.Byte && diag.Subject.End.Byte <= at.End.Byte {
			return true
		}
	}
	return false
}

// trackingSettings are a tracking block's settings.
type trackingSettings struct {
	Experiment string `hcl:"experiment,optional"`
	URI        string `hcl:"uri,optional"`
}

func (d *decoder) decodeTracking() {
	var first *hclsyntax.Block
	for _, block := range d.blocks["tracking"] {
		if first != nil && (!d.localBlocks[block] || d.localBlocks[first]) {
			d.declaredTwice(block, "tracking", first)
			continue
		}
		first = block
		if kind := block.Labels[0]; kind != "mlflow" {
			d.failAt(block.LabelRanges[0], fmt.Sprintf("Unknown type of tracking %q", kind), suggest(kind, []string{"mlflow"}, "types"))
			continue
		}
		var settings trackingSettings
		d.fillBlock(block, "a tracking block", &settings)
		d.p.Tracking = &TrackingBlock{Type: "mlflow", Experiment: settings.Experiment, URI: settings.URI, Range: block.DefRange()}
	}
}
