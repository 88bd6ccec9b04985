package tracking

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Int64 is a number that a server may write as a number or as a string.
type Int64 int64

// UnmarshalJSON takes both.
func (n *Int64) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	*n = Int64(v)
	return err
}

// Tag is a name with a value; parameters have the same form.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Metric is one row of a metric's history. Time is in milliseconds since 1970.
type Metric struct {
	Key   string
	Value float64
	Time  int64
	Step  int64
}

// MarshalJSON writes NaN and infinities as the server reads them: as strings.
func (m Metric) MarshalJSON() ([]byte, error) { return appendMetric(nil, m), nil }

// UnmarshalJSON reads a row of a history.
func (m *Metric) UnmarshalJSON(text []byte) error {
	var row struct {
		Key   string          `json:"key"`
		Value json.RawMessage `json:"value"`
		Time  Int64           `json:"timestamp"`
		Step  Int64           `json:"step"`
	}
	if err := json.Unmarshal(text, &row); err != nil {
		return err
	}
	value, err := strconv.ParseFloat(strings.Trim(string(row.Value), `"`), 64)
	*m = Metric{row.Key, value, int64(row.Time), int64(row.Step)}
	if len(row.Value) == 0 {
		return nil // zeros are left out
	}
	return err
}

func appendMetric(b []byte, m Metric) []byte {
	b = append(b, `{"key":`...)
	b = appendString(b, m.Key)
	b = append(b, `,"value":`...)
	b = appendNumber(b, m.Value)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), m.Time, 10)
	b = strconv.AppendInt(append(b, `,"step":`...), m.Step, 10)
	return append(b, '}')
}

func appendNumber(b []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, 64)
}

// appendString is a string in JSON; those of letters that stand for themselves, as names of metrics mostly are, need no encoder.
func appendString(b []byte, s string) []byte {
	plain := func(c byte) bool { return c >= ' ' && c <= '~' && c != '"' && c != '\\' }
	i := 0
	for i < len(s) && plain(s[i]) {
		i++
	}
	if i == len(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	text, _ := json.Marshal(s) // a string always can be
	return append(b, text...)
}

// Experiment is a group of runs.
type Experiment struct {
	ID        string `json:"experiment_id"`
	Name      string `json:"name"`
	Lifecycle string `json:"lifecycle_stage"` // "active", "deleted"
}

// Experiment finds an experiment by its name, and makes it where it is missing. One that was deleted is an error: its name
// stays taken.
func (c *Client) Experiment(ctx context.Context, name string) (Experiment, error) {
	found, err := c.ExperimentByName(ctx, name)
	if IsKind(err, Missing) {
		err = c.post(ctx, "experiments/create", map[string]string{"name": name}, nil)
		if err == nil || IsKind(err, Exists) { // or made by somebody else since
			found, err = c.ExperimentByName(ctx, name)
		}
	}
	if err != nil {
		return found, err
	}
	if found.Lifecycle == "deleted" {
		return found, &Error{Kind: Refused, Op: "use experiment " + strconv.Quote(name), Where: c.String(), Code: "DELETED", Message: "it was deleted there",
			Remedy: fmt.Sprintf("restore it (mlflow experiments restore --experiment-id %s), or name another in the tracking block", found.ID)}
	}
	return found, nil
}

// ExperimentByName finds an experiment, deleted ones too.
func (c *Client) ExperimentByName(ctx context.Context, name string) (Experiment, error) {
	var answer struct{ Experiment Experiment }
	err := c.get(ctx, "experiments/get-by-name", &answer, "experiment_name", name)
	return answer.Experiment, err
}

// DeleteExperiment moves an experiment with its runs to the server's bin.
func (c *Client) DeleteExperiment(ctx context.Context, id string) error {
	return c.post(ctx, "experiments/delete", map[string]string{"experiment_id": id}, nil)
}

// RestoreExperiment takes an experiment from the server's bin.
func (c *Client) RestoreExperiment(ctx context.Context, id string) error {
	return c.post(ctx, "experiments/restore", map[string]string{"experiment_id": id}, nil)
}

// RunInfo is what identifies a run.
type RunInfo struct {
	ID          string `json:"run_id"`
	Experiment  string `json:"experiment_id"`
	Name        string `json:"run_name"`
	Status      string `json:"status"` // RUNNING, FINISHED, FAILED, KILLED
	ArtifactURI string `json:"artifact_uri"`
	Lifecycle   string `json:"lifecycle_stage"`
	Start       Int64  `json:"start_time"`
	End         Int64  `json:"end_time"`
}

// Run is a run with the last value of each metric.
type Run struct {
	Info RunInfo `json:"info"`
	Data struct {
		Metrics []Metric `json:"metrics"`
		Params  []Tag    `json:"params"`
		Tags    []Tag    `json:"tags"`
	} `json:"data"`
}

// Tag is a tag's value, "" without it.
func (r *Run) Tag(key string) string {
	for _, tag := range r.Data.Tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}

// NewRun describes a run to be made.
type NewRun struct {
	Experiment string `json:"experiment_id"`
	Name       string `json:"run_name"`
	Start      int64  `json:"start_time"` // milliseconds since 1970
	Tags       []Tag  `json:"tags"`
}

// CreateRun makes a run, whose first tag must be its own: where an answer is lost, the run is found by it instead of made
// a second time. With found it is looked for before all.
func (c *Client) CreateRun(ctx context.Context, r NewRun, found bool) (RunInfo, error) {
	var info RunInfo
	look := found
	err := c.retry(ctx, func() error {
		if look {
			run, err := c.FindRun(ctx, r.Experiment, r.Tags[0].Key, r.Tags[0].Value)
			if err != nil {
				return err
			}
			if run != nil {
				info = run.Info
				return nil
			}
		}
		look = true
		var answer struct{ Run Run }
		err := c.post(context.WithValue(ctx, once{}, true), "runs/create", r, &answer)
		if err == nil && answer.Run.Info.ID == "" {
			err = &Error{Kind: Unusable, Op: "runs/create", Where: c.String(), Message: "the answer names no run"}
		}
		info = answer.Run.Info
		return err
	})
	return info, err
}

// FindRun finds the oldest run of an experiment that has a tag with a value, deleted ones too; nil if none has.
func (c *Client) FindRun(ctx context.Context, experiment, key, value string) (*Run, error) {
	quoted := "'" + strings.ReplaceAll(value, "'", "") + "'" // our tags hold none
	runs, err := c.SearchRuns(ctx, experiment, "tags.`"+key+"` = "+quoted, 1)
	if err != nil || len(runs) == 0 {
		return nil, err
	}
	return &runs[0], nil
}

// SearchRuns finds runs of an experiment by a filter in MLflow's language, the oldest first, deleted ones too.
func (c *Client) SearchRuns(ctx context.Context, experiment, filter string, most int) ([]Run, error) {
	var answer struct{ Runs []Run }
	err := c.post(ctx, "runs/search", map[string]any{
		"experiment_ids": []string{experiment}, "filter": filter, "run_view_type": "ALL", "max_results": most,
		"order_by": []string{"attributes.start_time ASC"},
	}, &answer)
	return answer.Runs, err
}

// DeleteRun moves a run to the server's bin.
func (c *Client) DeleteRun(ctx context.Context, id string) error {
	return c.post(ctx, "runs/delete", map[string]string{"run_id": id}, nil)
}

// RestoreRun takes a run from the server's bin.
func (c *Client) RestoreRun(ctx context.Context, id string) error {
	return c.post(ctx, "runs/restore", map[string]string{"run_id": id}, nil)
}

// GetRun reads a run.
func (c *Client) GetRun(ctx context.Context, id string) (*Run, error) {
	var answer struct{ Run Run }
	err := c.get(ctx, "runs/get", &answer, "run_id", id)
	return &answer.Run, err
}

// UpdateRun sets a run's status; end is in milliseconds, 0: none.
func (c *Client) UpdateRun(ctx context.Context, id, status string, end int64) error {
	body := map[string]any{"run_id": id, "status": status}
	if end != 0 {
		body["end_time"] = end
	}
	return c.post(ctx, "runs/update", body, nil)
}

// Batch is what one request adds to a run. The server takes it whole or not at all.
type Batch struct {
	Metrics []Metric
	Params  []Tag
	Tags    []Tag
}

// Size is the number of rows.
func (b *Batch) Size() int { return len(b.Metrics) + len(b.Params) + len(b.Tags) }

// LogBatch adds a batch to a run. Rows are sorted by name: two writers that lock rows of a database in the same order do
// not wait for each other for ever. The caller keeps to the Max constants.
func (c *Client) LogBatch(ctx context.Context, run string, b Batch) error {
	slices.SortStableFunc(b.Metrics, func(a, b Metric) int { return strings.Compare(a.Key, b.Key) })
	body := appendString(append(make([]byte, 0, 128*(1+b.Size())), `{"run_id":`...), run)
	if len(b.Metrics) > 0 {
		body = append(body, `,"metrics":[`...)
		for i, m := range b.Metrics {
			if i > 0 {
				body = append(body, ',')
			}
			body = appendMetric(body, m)
		}
		body = append(body, ']')
	}
	for _, list := range []struct {
		name string
		tags []Tag
	}{{"params", b.Params}, {"tags", b.Tags}} {
		if len(list.tags) > 0 {
			text, err := json.Marshal(list.tags)
			if err != nil {
				return fmt.Errorf("encode %s: %w", list.name, err)
			}
			body = append(append(body, `,"`+list.name+`":`...), text...)
		}
	}
	return c.call(ctx, http.MethodPost, api+"runs/log-batch", append(body, '}'), nil)
}

// Dataset is a data set that a run read.
type Dataset struct {
	Name    string `json:"name"`
	Digest  string `json:"digest"` // at most MaxDigest characters
	Type    string `json:"source_type"`
	Source  string `json:"source"` // JSON
	Profile string `json:"profile,omitempty"`
}

// LogInput notes that a run read a data set; context is "training", "validation" and so on.
func (c *Client) LogInput(ctx context.Context, run string, d Dataset, as string) error {
	type input struct {
		Tags    []Tag   `json:"tags"`
		Dataset Dataset `json:"dataset"`
	}
	return c.post(ctx, "runs/log-inputs", map[string]any{"run_id": run, "datasets": []input{{[]Tag{{"mlflow.data.context", as}}, d}}}, nil)
}

// History reads all rows of a metric.
func (c *Client) History(ctx context.Context, run, metric string) ([]Metric, error) {
	var rows []Metric
	err := c.pages(ctx, "metrics/get-history", []string{"run_id", run, "metric_key", metric, "max_results", "25000"}, func(page []byte) error {
		var answer struct {
			Metrics []Metric `json:"metrics"`
		}
		err := json.Unmarshal(page, &answer)
		rows = append(rows, answer.Metrics...)
		return err
	})
	return rows, err
}

// Version is what the server says of itself; "" where it does not.
func (c *Client) Version(ctx context.Context) (string, error) {
	var version string
	err := c.retry(ctx, func() error {
		answer, err := c.do(ctx, http.MethodGet, "/version", nil, "", 0)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		var text bytes.Buffer
		if _, err := text.ReadFrom(http.MaxBytesReader(nil, answer.Body, 100)); err == nil && !strings.Contains(text.String(), "<") {
			version = strings.TrimSpace(text.String())
		}
		return nil
	})
	if IsKind(err, Unsupported) {
		return "", nil
	}
	return version, err
}
