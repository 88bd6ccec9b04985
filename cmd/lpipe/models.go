package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"lpipe/cache"
	"lpipe/runner"
)

// registry keeps versions of models under names, and aliases that stand for a version: an MLflow server, or the remote.
type registry interface {
	// Register makes content a new version; content that is a version already is that one, and not fresh.
	Register(ctx context.Context, m registration) (version int, fresh bool, err error)
	// Promote makes an alias stand for a version and notes that it did; from is the version that it stood for, 0: none.
	Promote(ctx context.Context, name string, version int, alias string) (from int, err error)
	// Models lists a name's versions and promotions, of all names with "".
	Models(ctx context.Context, name string) ([]modelRow, error)
	// Fetch puts a version's files at a path where nothing stands.
	Fetch(ctx context.Context, name string, version int, want runner.Download) error
	String() string
}

// registration is what is to become a version of a name.
type registration struct {
	Name    string
	Stage   string // that made it, and which output of it
	Output  string
	Key     cache.Key
	Content cache.Content
	Tags    map[string]string
	User    string
}

// modelRow is a name in a registry, as `models ls --json` has it.
type modelRow struct {
	Name       string         `json:"name"`
	Versions   []versionRow   `json:"versions"`
	Promotions []promotionRow `json:"promotions"`
}

type versionRow struct {
	Version int               `json:"version"`
	Aliases []string          `json:"aliases"`
	Content string            `json:"content,omitempty"` // BLAKE3; "" of what others registered
	Stage   string            `json:"stage,omitempty"`
	User    string            `json:"user,omitempty"`
	Time    time.Time         `json:"time"`
	Tags    map[string]string `json:"tags"`
}

type promotionRow struct {
	Alias   string    `json:"alias"`
	Version int       `json:"version"`
	From    int       `json:"from,omitempty"`
	User    string    `json:"user,omitempty"`
	Time    time.Time `json:"time"`
}

func (p *program) modelsCommand() *cli.Command {
	where := &cli.StringFlag{Name: "registry", Usage: "`WHERE`: mlflow, or the name of a remote", DefaultText: "mlflow if a server is named, else the remote"}
	return &cli.Command{
		Name: "models", Category: categoryRemote, Usage: "register adapters and models, promote versions, list them",
		Description: "The registry is that of the MLflow server which MLFLOW_TRACKING_URI or the tracking block names; without a server it is\n" +
			"kept in the remote. A version never changes; an alias like champion stands for one of them, and promote moves it.\n" +
			"source \"model\" { mlflow = \"models:/NAME@champion\" } reads it back.",
		Subcommands: []*cli.Command{
			{Name: "register", Usage: "make a stage's output a new version of a name", ArgsUsage: "NAME [STAGE[.OUTPUT]]", Action: p.modelsRegister,
				Flags: []cli.Flag{where, &cli.StringFlag{Name: "alias", Usage: "promote the version to `ALIAS` at once"},
					&cli.StringFlag{Name: "from", Usage: "the output of `WHAT`: an experiment's instance, a profile, a lock file, a Git revision"},
					&cli.StringSliceFlag{Name: "tag", Usage: "`NAME=TEXT` to keep with the version (again for more)"}}},
			{Name: "promote", Usage: "make an alias stand for a version", ArgsUsage: "NAME VERSION|ALIAS ALIAS", Action: p.modelsPromote, Flags: []cli.Flag{where}},
			{Name: "ls", Usage: "list versions and their aliases", ArgsUsage: "[NAME]", Action: p.modelsLs,
				Flags: []cli.Flag{where, &cli.BoolFlag{Name: "history", Usage: "list promotions instead: who made an alias stand for what, and when"}}},
		},
	}
}

// openRegistry finds the registry that a command means.
func (p *program) openRegistry(ctx context.Context, pr *project, where string) (registry, error) {
	uri, _ := p.registryURI(pr.pipeline)
	if where == "mlflow" || where == "" && uri != "" {
		client, err := p.trackingClient(ctx, pr.pipeline, uri, commandTries)
		if err != nil {
			return nil, err
		}
		return &mlflowModels{p: p, pr: pr, client: client}, nil
	}
	if where == "" && len(pr.pipeline.Remotes) == 0 {
		return nil, usagef("there is no registry of models: name an MLflow server (MLFLOW_TRACKING_URI, or uri in the tracking block), or add a remote block")
	}
	r, block, err := p.needRemote(ctx, pr, where, 0)
	if err != nil {
		return nil, err
	}
	return &remoteModels{p: p, pr: pr, remote: r, block: block}, nil
}

// registryURI is the address of the server whose registry counts: MLFLOW_REGISTRY_URI goes before that for tracking.
func (p *program) registryURI(pipeline *runner.Pipeline) (uri, from string) {
	if uri := strings.TrimSpace(p.getenv("MLFLOW_REGISTRY_URI")); uri != "" {
		return uri, "MLFLOW_REGISTRY_URI"
	}
	return p.trackingURI(pipeline)
}

var (
	modelNameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_. -]{0,199}$`) })
	aliasForm     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_-][\w-]{0,99}$`) })
	versionForm   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[vV]?[0-9]+$`) })
)

func checkModelName(name string) error {
	if !modelNameForm().MatchString(name) || strings.Contains(name, "..") {
		return usagef("%q is no name for a model: letters, digits, spaces and _.-", name)
	}
	return nil
}

func checkAlias(alias string) error {
	if !aliasForm().MatchString(alias) || versionForm().MatchString(alias) || strings.EqualFold(alias, "latest") {
		return usagef("%q is no alias: letters, digits, _ and -, and neither \"latest\" nor a version like v1", alias)
	}
	return nil
}

func (p *program) modelsRegister(c *cli.Context) error {
	if c.NArg() < 1 || c.NArg() > 2 {
		return usagef("say under which name, and what: lpipe models register qwen-sft lora.adapter")
	}
	m := registration{Name: c.Args().First(), Tags: map[string]string{}, User: userName()}
	if err := checkModelName(m.Name); err != nil {
		return err
	}
	for _, tag := range c.StringSlice("tag") {
		name, text, ok := strings.Cut(tag, "=")
		if !ok || name == "" {
			return usagef("--tag %q: write NAME=TEXT", tag)
		}
		m.Tags[name] = text
	}
	if alias := c.String("alias"); alias != "" {
		if err := checkAlias(alias); err != nil {
			return err
		}
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	if err := p.findOutput(c, pr, &m); err != nil {
		return err
	}
	reg, err := p.openRegistry(c.Context, pr, c.String("registry"))
	if err != nil {
		return err
	}
	version, fresh, err := reg.Register(c.Context, m)
	if err != nil {
		return err
	}
	if alias := c.String("alias"); alias != "" {
		if _, err := reg.Promote(c.Context, m.Name, version, alias); err != nil {
			return err
		}
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "name": m.Name, "version": version, "fresh": fresh, "content": m.Content.ID})
	}
	said := "registered"
	if !fresh {
		said = "is registered already"
	}
	p.result("%s/%d  %s %s %s at %s", m.Name, version, m.Stage+"."+m.Output, contentText(m.Content), said, reg)
	return nil
}

// findOutput finds what is to be registered: an output by stage and name, else the only adapter or model there is.
func (p *program) findOutput(c *cli.Context, pr *project, m *registration) error {
	side, err := p.diffSide(c.Context, pr, c.String("from"))
	if err != nil {
		return err
	}
	wanted := c.Args().Get(1)
	var found []string
	for _, stage := range sortedKeys(side.Stages) {
		for name, out := range side.Stages[stage].Out {
			asked := wanted == stage+"."+name || wanted == out.Path || (wanted == stage || wanted == "") && (name == "adapter" || name == "model" && isTrain(side.Stages[stage].Kind))
			if asked {
				m.Stage, m.Output, m.Content, m.Key = stage, name, out.Content, side.Stages[stage].Key
				found = append(found, stage+"."+name)
			}
		}
	}
	switch {
	case len(found) == 0 && wanted == "":
		return usagef("no stage has made an adapter or a model yet; lpipe repro makes them, or say which output: lpipe models register %s STAGE.OUTPUT", m.Name)
	case len(found) == 0:
		return usagef("%s is no recorded output of a stage; write STAGE.OUTPUT, or run lpipe repro first", wanted)
	case len(found) > 1:
		return usagef("say which: %s", strings.Join(found, ", "))
	}
	missing, err := pr.cache.Missing(c.Context, m.Content)
	if err == nil && len(missing) > 0 {
		err = usagef("%s is not in the cache: lpipe fetch %s brings it, lpipe repro makes it again", found[0], m.Stage)
	}
	return err
}

func isTrain(kind string) bool { return strings.HasPrefix(kind, "train ") || kind == "train" }

func (p *program) modelsPromote(c *cli.Context) error {
	if c.NArg() != 3 {
		return usagef("say what to promote to what: lpipe models promote qwen-sft 3 champion")
	}
	name, what, alias := c.Args().Get(0), strings.TrimPrefix(c.Args().Get(1), "@"), strings.TrimPrefix(c.Args().Get(2), "@")
	if err := cmp.Or(checkModelName(name), checkAlias(alias)); err != nil {
		return err
	}
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	reg, err := p.openRegistry(c.Context, pr, c.String("registry"))
	if err != nil {
		return err
	}
	version, err := findVersion(c.Context, reg, name, what)
	if err != nil {
		return err
	}
	from, err := reg.Promote(c.Context, name, version, alias)
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "name": name, "alias": alias, "version": version, "from": from})
	}
	was := ""
	if from != 0 && from != version {
		was = fmt.Sprintf(", before %d", from)
	}
	p.result("%s@%s is version %d%s", name, alias, version, was)
	return nil
}

// findVersion is the version that a number, an alias or "latest" means.
func findVersion(ctx context.Context, reg registry, name, what string) (int, error) {
	models, err := reg.Models(ctx, name)
	if err != nil {
		return 0, err
	}
	if len(models) == 0 || len(models[0].Versions) == 0 {
		return 0, fmt.Errorf("%s has no model %q; lpipe models ls lists them: %w", reg, name, cache.ErrNotFound)
	}
	versions := models[0].Versions
	number, _ := strconv.Atoi(strings.TrimLeft(what, "vV"))
	for _, v := range versions {
		if v.Version == number && versionForm().MatchString(what) || slices.Contains(v.Aliases, what) {
			return v.Version, nil
		}
	}
	if strings.EqualFold(what, "latest") {
		return versions[len(versions)-1].Version, nil
	}
	return 0, fmt.Errorf("model %s at %s has no version or alias %q: %w", name, reg, what, cache.ErrNotFound)
}

func (p *program) modelsLs(c *cli.Context) error {
	pr, err := p.open(c.Context, projectOptions{allowMissing: true})
	if err != nil {
		return err
	}
	defer pr.close(p)
	reg, err := p.openRegistry(c.Context, pr, c.String("registry"))
	if err != nil {
		return err
	}
	models, err := reg.Models(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "registry": reg.String(), "models": models})
	}
	var rows [][]string
	for _, m := range models {
		if c.Bool("history") {
			for _, one := range m.Promotions {
				was := ""
				if one.From != 0 {
					was = fmt.Sprintf("before %d", one.From)
				}
				rows = append(rows, []string{m.Name + "@" + one.Alias, fmt.Sprintf("version %d", one.Version), one.Time.Local().Format("2006-01-02 15:04:05"), one.User, was})
			}
			continue
		}
		for _, v := range m.Versions {
			aliases := ""
			for _, a := range v.Aliases {
				aliases += "@" + a + " "
			}
			rows = append(rows, []string{fmt.Sprintf("%s/%d", m.Name, v.Version), v.Time.Local().Format("2006-01-02 15:04:05"), v.User, v.Stage, v.Content[:min(len(v.Content), 12)], strings.TrimSpace(aliases)})
		}
	}
	table(p.stdout, rows)
	return nil
}

// Sources with mlflow = "models:/NAME@ALIAS".

// parseModelRef reads models:/NAME@ALIAS and models:/NAME/VERSION.
func parseModelRef(ref string) (name, what string, err error) {
	rest := strings.TrimPrefix(ref, "models:/")
	name, what, ok := strings.Cut(rest, "@")
	if !ok {
		name, what, ok = strings.Cut(rest, "/")
	}
	if !ok || rest == ref || what == "" || checkModelName(name) != nil {
		return "", "", usagef("%q is no model: write models:/NAME@ALIAS or models:/NAME/VERSION", ref)
	}
	return name, what, nil
}

// resolveModel is the pin of a source with mlflow: the version that it stands for now, as models:/NAME/VERSION.
func (d downloader) resolveModel(ctx context.Context, ref string) (registry, string, error) {
	name, what, err := parseModelRef(ref)
	if err != nil {
		return nil, "", err
	}
	reg, err := d.p.openRegistry(ctx, d.pr, "")
	if err != nil {
		return nil, "", err
	}
	version, err := findVersion(ctx, reg, name, what)
	return reg, fmt.Sprintf("models:/%s/%d", name, version), err
}

// fromRegistry brings a source with mlflow.
func (d downloader) fromRegistry(ctx context.Context, s *runner.Source, want runner.Download) (pin string, err error) {
	ref := want.Pin
	if ref == "" {
		ref = s.MLflow
	}
	reg, pin, err := d.resolveModel(ctx, ref)
	if err != nil {
		return "", err
	}
	name, what, err := parseModelRef(pin)
	if err != nil {
		return "", err
	}
	version, err := strconv.Atoi(what)
	if err != nil {
		return "", errors.New("a pin names no version")
	}
	return pin, reg.Fetch(ctx, name, version, want)
}
