package tracking

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TagContent says by its BLAKE3 hash what a model's files are: the same content is not sent twice.
const TagContent = "lpipe.content"

// Model describes a folder of files that is to be a model at the server.
type Model struct {
	Experiment string // the server's id
	Run        RunInfo
	Name, Type string // "lora.adapter", "peft"
	Content    string // BLAKE3
	Dir        string // where its files stand
	Tags       []Tag
}

// LoggedModel is a model as a server of version 3 keeps it, apart from runs; of version 2, with an empty ID, a folder among a run's artifacts.
type LoggedModel struct {
	ID          string `json:"model_id"`
	Status      string `json:"status"`
	ArtifactURI string `json:"artifact_uri"`
	Run         string `json:"source_run_id"`
	Tags        []Tag  `json:"tags"`
}

// Whole tells whether all of its files are there.
func (m *LoggedModel) Whole() bool { return m.Status == modelReady }

const modelReady = "LOGGED_MODEL_READY"

// LogModel sends a model and links it to its run. One that the run has already, whole, is returned as it is.
func (c *Client) LogModel(ctx context.Context, m Model) (LoggedModel, error) {
	known, err := c.FindModel(ctx, m.Experiment, m.Content, m.Run.ID)
	if IsKind(err, Unsupported) {
		return c.logModel2(ctx, m)
	}
	if err != nil {
		return LoggedModel{}, err
	}
	if known == nil {
		if known, err = c.createModel(ctx, m); err != nil {
			return LoggedModel{}, err
		}
	}
	if known.Status != modelReady {
		if err := c.UploadTree(ctx, known.ArtifactURI, "", m.Dir); err != nil {
			return *known, err
		}
		if err := c.putDescription(ctx, known.ArtifactURI, "", m, known.ID); err != nil {
			return *known, err
		}
		if err := c.send(ctx, http.MethodPatch, "logged-models/"+known.ID, map[string]string{"model_id": known.ID, "status": modelReady}, nil); err != nil {
			return *known, err
		}
	}
	return *known, c.linkModel(ctx, m.Run.ID, known.ID)
}

// linkModel makes a model an output of a run. The server fails where it is one already, so it is looked for first.
func (c *Client) linkModel(ctx context.Context, run, model string) error {
	return c.retry(ctx, func() error {
		var answer struct {
			Run struct {
				Outputs struct {
					Models []struct {
						ID string `json:"model_id"`
					} `json:"model_outputs"`
				} `json:"outputs"`
			} `json:"run"`
		}
		if err := c.get(ctx, "runs/get", &answer, "run_id", run); err != nil {
			return err
		}
		for _, m := range answer.Run.Outputs.Models {
			if m.ID == model {
				return nil
			}
		}
		return c.post(context.WithValue(ctx, once{}, true), "runs/outputs", map[string]any{"run_id": run, "models": []any{map[string]any{"model_id": model, "step": 0}}}, nil)
	})
}

// FindModel finds the model of an experiment that has this content, among those of a run, or with "" of any; a whole one
// before one that is being sent, nil if there is none.
func (c *Client) FindModel(ctx context.Context, experiment, content, run string) (*LoggedModel, error) {
	var answer struct {
		Models []struct{ Info LoggedModel }
	}
	err := c.post(ctx, "logged-models/search", map[string]any{"experiment_ids": []string{experiment}, "max_results": 100,
		"filter": "tags.`" + TagContent + "` = '" + content + "'"}, &answer)
	if err != nil {
		return nil, err
	}
	var found *LoggedModel
	for i := range answer.Models {
		one := &answer.Models[i].Info
		if (run == "" || one.Run == run) && (found == nil || one.Status == modelReady) {
			found = one
		}
	}
	return found, nil
}

// createModel makes a model without files. Where an answer is lost it is found by its content.
func (c *Client) createModel(ctx context.Context, m Model) (*LoggedModel, error) {
	var made *LoggedModel
	look := false
	err := c.retry(ctx, func() error {
		if look {
			found, err := c.FindModel(ctx, m.Experiment, m.Content, m.Run.ID)
			if err != nil || found != nil {
				made = found
				return err
			}
		}
		look = true
		var answer struct{ Model struct{ Info LoggedModel } }
		err := c.post(context.WithValue(ctx, once{}, true), "logged-models", map[string]any{"experiment_id": m.Experiment, "name": modelName(m.Name), "model_type": m.Type,
			"source_run_id": m.Run.ID, "tags": append([]Tag{{TagContent, m.Content}}, m.Tags...)}, &answer)
		made = &answer.Model.Info
		return err
	})
	return made, err
}

// modelName is a name without what the server refuses in names of models.
func modelName(name string) string {
	return strings.NewReplacer("/", "_", ":", "_", ".", "_", "%", "_", `"`, "_", "'", "_").Replace(CleanName(name))
}

// logModel2 sends a model to a server of version 2: below the run's artifacts.
func (c *Client) logModel2(ctx context.Context, m Model) (LoggedModel, error) {
	at := modelName(m.Name)
	if err := c.UploadTree(ctx, m.Run.ArtifactURI, at, m.Dir); err != nil {
		return LoggedModel{}, err
	}
	if err := c.putDescription(ctx, m.Run.ArtifactURI, at, m, ""); err != nil {
		return LoggedModel{}, err
	}
	text, err := json.Marshal(map[string]any{"artifact_path": at, "run_id": m.Run.ID, "utc_time_created": time.Now().UTC().Format("2006-01-02 15:04:05.000000"),
		"flavors": map[string]any{m.Type: map[string]string{"content": m.Content}}})
	if err != nil {
		return LoggedModel{}, err
	}
	err = c.post(ctx, "runs/log-model", map[string]string{"run_id": m.Run.ID, "model_json": string(text)}, nil)
	return LoggedModel{ArtifactURI: m.Run.ArtifactURI + "/" + at, Status: modelReady, Run: m.Run.ID}, err
}

// putDescription sends the file by which MLflow's tools know a model. Its flavor is ours, with what PEFT needs to load it.
func (c *Client) putDescription(ctx context.Context, root, at string, m Model, id string) error {
	var peft struct {
		Base string `json:"base_model_name_or_path"`
	}
	if data, err := os.ReadFile(filepath.Join(m.Dir, "adapter_config.json")); err == nil {
		_ = json.Unmarshal(data, &peft) // without it the base is not named
	}
	var text strings.Builder
	fmt.Fprintf(&text, "flavors:\n  %s:\n    base_model_name_or_path: %s\n    content: %s\n", m.Type, quoted(peft.Base), quoted(m.Content))
	if id != "" {
		fmt.Fprintf(&text, "model_id: %s\n", id)
	}
	fmt.Fprintf(&text, "run_id: %s\nutc_time_created: '%s'\n", m.Run.ID, time.UnixMilli(int64(m.Run.Start)).UTC().Format("2006-01-02 15:04:05.000000"))
	body := strings.NewReader(text.String())
	if at != "" {
		at += "/"
	}
	return c.Upload(ctx, root, at+"MLmodel", body, int64(body.Len()))
}

func quoted(s string) string {
	text, _ := json.Marshal(s) // JSON is YAML
	return string(text)
}

// RegisteredModel is a name in the registry.
type RegisteredModel struct {
	Name    string `json:"name"`
	Tags    []Tag  `json:"tags"`
	Aliases []struct {
		Alias   string `json:"alias"`
		Version string `json:"version"`
	} `json:"aliases"`
}

// ModelVersion is one version of a name.
type ModelVersion struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Created Int64    `json:"creation_timestamp"`
	Source  string   `json:"source"`
	Run     string   `json:"run_id"`
	Status  string   `json:"status"`
	Message string   `json:"status_message"`
	Tags    []Tag    `json:"tags"`
	Aliases []string `json:"aliases"`
}

// Tag is a tag's value, "" without it.
func (v *ModelVersion) Tag(key string) string {
	i := slices.IndexFunc(v.Tags, func(t Tag) bool { return t.Key == key })
	if i < 0 {
		return ""
	}
	return v.Tags[i].Value
}

// Register makes a logged model a new version of a name, which is made where it is missing. A version that has its content
// already is returned, with false.
func (c *Client) Register(ctx context.Context, name string, m LoggedModel, content string, tags []Tag) (ModelVersion, bool, error) {
	err := c.post(ctx, "registered-models/create", map[string]string{"name": name}, nil)
	if err != nil && !IsKind(err, Exists) {
		return ModelVersion{}, false, err
	}
	var made ModelVersion
	fresh := false
	err = c.retry(ctx, func() error {
		versions, err := c.Versions(ctx, name)
		if err != nil {
			return err
		}
		for _, v := range versions {
			if v.Tag(TagContent) == content {
				made = v
				return nil
			}
		}
		in := map[string]any{"name": name, "source": m.ArtifactURI, "run_id": m.Run, "tags": append([]Tag{{TagContent, content}}, tags...)}
		if m.ID != "" {
			in["source"], in["model_id"] = "models:/"+m.ID, m.ID
		}
		var answer struct {
			Version ModelVersion `json:"model_version"`
		}
		err = c.post(context.WithValue(ctx, once{}, true), "model-versions/create", in, &answer)
		made, fresh = answer.Version, true
		return err
	})
	return made, fresh, err
}

// Versions lists the versions of a name, the oldest first.
func (c *Client) Versions(ctx context.Context, name string) ([]ModelVersion, error) {
	var all []ModelVersion
	err := c.pages(ctx, "model-versions/search", []string{"filter", "name = '" + strings.ReplaceAll(name, "'", "") + "'", "max_results", "1000"}, func(page []byte) error {
		var answer struct {
			Versions []ModelVersion `json:"model_versions"`
		}
		err := json.Unmarshal(page, &answer)
		all = append(all, answer.Versions...)
		return err
	})
	slices.SortFunc(all, func(a, b ModelVersion) int { return versionNumber(a.Version) - versionNumber(b.Version) })
	return all, err
}

func versionNumber(version string) int {
	n, _ := strconv.Atoi(version)
	return n
}

// Models lists the registry's names.
func (c *Client) Models(ctx context.Context) ([]RegisteredModel, error) {
	var all []RegisteredModel
	err := c.pages(ctx, "registered-models/search", []string{"max_results", "1000"}, func(page []byte) error {
		var answer struct {
			Models []RegisteredModel `json:"registered_models"`
		}
		err := json.Unmarshal(page, &answer)
		all = append(all, answer.Models...)
		return err
	})
	return all, err
}

// Model reads one name of the registry.
func (c *Client) Model(ctx context.Context, name string) (RegisteredModel, error) {
	var answer struct {
		Model RegisteredModel `json:"registered_model"`
	}
	err := c.get(ctx, "registered-models/get", &answer, "name", name)
	return answer.Model, err
}

// pages asks for a list until there is no more of it.
func (c *Client) pages(ctx context.Context, path string, query []string, each func(page []byte) error) error {
	for token := ""; ; {
		var page json.RawMessage
		asked := query
		if token != "" {
			asked = append(slices.Clone(query), "page_token", token)
		}
		if err := c.get(ctx, path, &page, asked...); err != nil {
			return err
		}
		if err := each(page); err != nil {
			return err
		}
		var next struct {
			Token string `json:"next_page_token"`
		}
		if err := json.Unmarshal(page, &next); err != nil || next.Token == "" {
			return err
		}
		token = next.Token
	}
}

// VersionOf finds the version that an alias stands for. A missing alias is an error of kind Missing, whatever the server
// calls it.
func (c *Client) VersionOf(ctx context.Context, name, alias string) (ModelVersion, error) {
	var answer struct {
		Version ModelVersion `json:"model_version"`
	}
	err := c.get(ctx, "registered-models/alias", &answer, "name", name, "alias", alias)
	if IsKind(err, Refused) && strings.Contains(err.Error(), "not found") {
		err = &Error{Kind: Missing, Op: "find model " + name + "@" + alias, Where: c.String(), Message: "there is no such alias"}
	}
	return answer.Version, err
}

// ModelVersion reads one version.
func (c *Client) ModelVersion(ctx context.Context, name, version string) (ModelVersion, error) {
	var answer struct {
		Version ModelVersion `json:"model_version"`
	}
	err := c.get(ctx, "model-versions/get", &answer, "name", name, "version", version)
	return answer.Version, err
}

// SetAlias makes an alias stand for a version.
func (c *Client) SetAlias(ctx context.Context, name, alias, version string) error {
	return c.post(ctx, "registered-models/alias", map[string]string{"name": name, "alias": alias, "version": version}, nil)
}

// TagVersion sets a tag of a version.
func (c *Client) TagVersion(ctx context.Context, name, version string, tag Tag) error {
	return c.post(ctx, "model-versions/set-tag", map[string]string{"name": name, "version": version, "key": tag.Key, "value": tag.Value}, nil)
}

// TagModel sets a tag of a name.
func (c *Client) TagModel(ctx context.Context, name string, tag Tag) error {
	return c.post(ctx, "registered-models/set-tag", map[string]string{"name": name, "key": tag.Key, "value": tag.Value}, nil)
}

// FilesOf is the artifact root of a version.
func (c *Client) FilesOf(ctx context.Context, name, version string) (string, error) {
	var answer struct {
		URI string `json:"artifact_uri"`
	}
	err := c.get(ctx, "model-versions/get-download-uri", &answer, "name", name, "version", version)
	if err == nil {
		_, err = url.Parse(answer.URI)
	}
	return answer.URI, err
}
