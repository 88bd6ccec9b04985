package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"lpipe/tracking"
	"lpipe/tracking/trackingtest"
)

type mlflowKey struct{}

// hasMLflow tells whether a real server was started for the tests. LPIPE_TEST_MLFLOW is its address, or off where there can be none.
func hasMLflow() (bool, error) {
	if server := os.Getenv("LPIPE_TEST_MLFLOW"); server != "" {
		return server != "off", nil
	}
	if os.Getenv("LPIPE_TEST_REQUIRE") != "" {
		return false, errors.New("LPIPE_TEST_REQUIRE is set, and LPIPE_TEST_MLFLOW is not: tools/services/mlflow.sh up DIR prints it")
	}
	return false, nil
}

// setupMLflow gives a script a proxy before the real MLflow: MLFLOW is its address, EXPERIMENT and MODEL are names of its own.
func setupMLflow(env *testscript.Env) error {
	server := os.Getenv("LPIPE_TEST_MLFLOW")
	if server == "" || server == "off" {
		return nil
	}
	proxy, err := trackingtest.StartProxy(server)
	if err != nil {
		return err
	}
	env.Defer(proxy.Close)
	env.Values[mlflowKey{}] = proxy
	name := fmt.Sprintf("%s-%d", filepath.Base(env.WorkDir), time.Now().UnixNano())
	env.Setenv("MLFLOW", proxy.URL)
	env.Setenv("MLFLOW_PYTHON", os.Getenv("LPIPE_TEST_MLFLOW_PYTHON"))
	env.Setenv("EXPERIMENT", name)
	env.Setenv("MODEL", name)
	return nil
}

// mlflow looks at the server, and plays with the way to it:
//
//	mlflow up | down | lose K | deny | old     the proxy passes on, drops all, loses each K-th answer, refuses credentials, is an old version
//	mlflow ask USER PASSWORD                   nobody else is let through
//	mlflow new NAME                            a run that lpipe does not know; $RUN is its id
//	mlflow keep URI                            make the experiment, with artifacts there
//	mlflow runs N                              the experiment has so many runs
//	mlflow run NAME STATUS [PARENT]            one run of this name ended so, below the other
//	mlflow param RUN NAME VALUE
//	mlflow metric RUN NAME ROWS LAST           so many rows of distinct steps, the last of this value; "-": any
//	mlflow tag RUN NAME VALUE
//	mlflow file RUN PATH                       an artifact of the run
//	mlflow delete | restore                    the experiment
func mlflow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: mlflow WHAT [ARGS...]")
	}
	proxy := ts.Value(mlflowKey{}).(*trackingtest.Proxy)
	switch args[0] {
	case "up":
		proxy.Set(nil)
	case "down":
		proxy.Set(trackingtest.Down)
	case "lose":
		k, err := strconv.Atoi(args[1])
		ts.Check(err)
		proxy.Set(trackingtest.Lose(k))
	case "deny":
		proxy.Set(trackingtest.Answer(http.StatusUnauthorized, "text/html", "<html>You are not authenticated.</html>"))
	case "old":
		proxy.Set(func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) bool {
			return r.URL.Path == "/version" && trackingtest.Answer(200, "text/plain", "1.30.1")(w, r, 0, nil)
		})
	case "ask":
		proxy.Set(func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) bool {
			user, password, _ := r.BasicAuth()
			return (user != args[1] || password != args[2]) && trackingtest.Answer(http.StatusUnauthorized, "text/plain", "You are not authenticated")(w, r, 0, nil)
		})
	case "keep":
		body, err := json.Marshal(map[string]string{"name": ts.Getenv("EXPERIMENT"), "artifact_location": args[1]})
		ts.Check(err)
		answer, err := http.Post(os.Getenv("LPIPE_TEST_MLFLOW")+"/api/2.0/mlflow/experiments/create", "application/json", bytes.NewReader(body))
		ts.Check(err)
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			ts.Fatalf("make the experiment: %s", answer.Status)
		}
	default:
		c, err := tracking.New(tracking.Options{URI: os.Getenv("LPIPE_TEST_MLFLOW")})
		ts.Check(err)
		(&mlflowLook{ts, c}).look(args)
	}
}

// mlflowLook reads what a script's experiment has at the server.
type mlflowLook struct {
	*testscript.TestScript
	c *tracking.Client
}

func (m *mlflowLook) look(args []string) {
	ctx := context.Background()
	experiment, err := m.c.ExperimentByName(ctx, m.Getenv("EXPERIMENT"))
	m.Check(err)
	switch args[0] {
	case "delete":
		m.Check(m.c.DeleteExperiment(ctx, experiment.ID))
		return
	case "new":
		info, err := m.c.CreateRun(ctx, tracking.NewRun{Experiment: experiment.ID, Name: args[1], Start: 1, Tags: []tracking.Tag{{Key: "a", Value: "b"}}}, false)
		m.Check(err)
		m.Setenv("RUN", info.ID)
		return
	case "restore":
		m.Check(m.c.RestoreExperiment(ctx, experiment.ID))
		return
	}
	runs, err := m.c.SearchRuns(ctx, experiment.ID, "", 1000)
	m.Check(err)
	if args[0] == "runs" {
		var names []string
		for _, run := range runs {
			names = append(names, run.Info.Name)
		}
		m.same("runs "+strings.Join(names, ", "), strconv.Itoa(len(runs)), args[1])
		return
	}
	runs = slices.DeleteFunc(runs, func(r tracking.Run) bool { return r.Info.Name != args[1] })
	if len(runs) != 1 {
		m.Fatalf("there are %d runs named %s", len(runs), args[1])
	}
	m.lookAt(args, &runs[0])
}

func (m *mlflowLook) lookAt(args []string, run *tracking.Run) {
	switch args[0] {
	case "run":
		m.same("status", run.Info.Status, args[2])
		if len(args) > 3 {
			parent, err := m.c.GetRun(context.Background(), run.Tag("mlflow.parentRunId"))
			m.Check(err)
			m.same("parent", parent.Info.Name, args[3])
		}
	case "param", "tag":
		list := run.Data.Params
		if args[0] == "tag" {
			list = run.Data.Tags
		}
		i := slices.IndexFunc(list, func(t tracking.Tag) bool { return t.Key == args[2] })
		if i < 0 {
			m.Fatalf("run %s has no %s %s, but %v", args[1], args[0], args[2], list)
		}
		m.same(args[2], list[i].Value, args[3])
	case "metric":
		m.metric(run, args)
	case "file":
		files, err := m.c.Artifacts(context.Background(), run.Info.ArtifactURI)
		m.Check(err)
		if !slices.ContainsFunc(files, func(f tracking.Artifact) bool { return f.Path == args[2] }) {
			m.Fatalf("run %s has no artifact %s, but %v", args[1], args[2], files)
		}
	default:
		m.Fatalf("mlflow %s is unknown", args[0])
	}
}

func (m *mlflowLook) metric(run *tracking.Run, args []string) {
	rows, err := m.c.History(context.Background(), run.Info.ID, args[2])
	m.Check(err)
	last, steps := tracking.Metric{Value: math.NaN(), Step: math.MinInt64}, map[int64]bool{}
	for _, row := range rows {
		steps[row.Step] = true
		if row.Step > last.Step {
			last = row
		}
	}
	m.same("rows of "+args[2], fmt.Sprintf("%d of %d steps", len(rows), len(steps)), args[3]+" of "+args[3]+" steps")
	if args[4] != "-" {
		m.same("the last of "+args[2], strconv.FormatFloat(last.Value, 'g', -1, 64), args[4])
	}
}

func (m *mlflowLook) same(what, got, want string) {
	if got != want {
		m.Fatalf("%s: %s, want %s", what, got, want)
	}
}
