package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"lpipe/runner"
	"lpipe/tracking"
)

// trackingClient makes a client as MLflow's own would be: by the variables that all of its tools read.
func (p *program) trackingClient(_ context.Context, pipeline *runner.Pipeline, uri string, tries int) (*tracking.Client, error) {
	if p.offline {
		return nil, errors.New("--offline forbids to talk to a server")
	}
	from := ""
	if uri == "" {
		uri, from = p.trackingURI(pipeline)
	}
	if uri == "" {
		return nil, errNoServer
	}
	p.warnOfMLflow(pipeline)
	timeout, err := p.mlflowTimeout()
	if err != nil {
		return nil, err
	}
	fromFile := p.mlflowCredentials()
	client, err := tracking.New(tracking.Options{
		URI: uri, Token: p.getenv("MLFLOW_TRACKING_TOKEN"),
		Username:  cmp.Or(p.getenv("MLFLOW_TRACKING_USERNAME"), fromFile["mlflow_tracking_username"]),
		Password:  cmp.Or(p.getenv("MLFLOW_TRACKING_PASSWORD"), fromFile["mlflow_tracking_password"]),
		Workspace: p.getenv("MLFLOW_WORKSPACE"), Insecure: truthy(p.getenv("MLFLOW_TRACKING_INSECURE_TLS")),
		ServerCert: p.getenv("MLFLOW_TRACKING_SERVER_CERT_PATH"), ClientCert: p.getenv("MLFLOW_TRACKING_CLIENT_CERT_PATH"),
		Agent: "lpipe/" + release + " (" + runtime.GOOS + "; " + runtime.GOARCH + ")", Proxy: http.ProxyFromEnvironment,
		Tries: tries, Timeout: timeout, Store: artifactStore{p, pipeline},
	})
	if err != nil && from != "" {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return client, err
}

// mlflowTimeout is how long the server may take to answer; 0: the client's own.
func (p *program) mlflowTimeout() (time.Duration, error) {
	text := strings.TrimSpace(p.getenv("MLFLOW_HTTP_REQUEST_TIMEOUT"))
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds <= 0 {
		return 0, usagef("MLFLOW_HTTP_REQUEST_TIMEOUT is %q, which is no whole number of seconds", text)
	}
	return time.Duration(seconds) * time.Second, nil
}

// mlflowCredentials is the section [mlflow] of ~/.mlflow/credentials, whose names are in lower case; a variable of the environment
// goes before it (mlflow/utils/credentials.py).
func (p *program) mlflowCredentials() map[string]string {
	found := map[string]string{}
	f, err := os.Open(filepath.Join(p.getenv("HOME"), ".mlflow", "credentials"))
	if err != nil || p.getenv("HOME") == "" {
		return found
	}
	defer f.Close()
	section := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		at := strings.IndexAny(line, "=:")
		if section != "mlflow" || at < 0 || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		found[strings.ToLower(strings.TrimSpace(line[:at]))] = strings.TrimSpace(line[at+1:])
	}
	return found
}

// warnOfMLflow tells, once, of variables that MLflow's own client follows and this one does not.
func (p *program) warnOfMLflow(pipeline *runner.Pipeline) {
	if p.toldMLflow {
		return
	}
	p.toldMLflow = true
	warn := func(name, why string) { p.warn("tracking: %s is set, and not followed: %s", name, why) }
	if p.getenv("MLFLOW_EXPERIMENT_ID") != "" && p.getenv("MLFLOW_EXPERIMENT_NAME")+p.getenv("MLFLOW_RUN_ID") == "" && (pipeline.Tracking == nil || pipeline.Tracking.Experiment == "") {
		warn("MLFLOW_EXPERIMENT_ID", fmt.Sprintf("experiments go by their names, and this one is %q; another is named in the tracking block, or by MLFLOW_EXPERIMENT_NAME", p.trackingExperiment(pipeline)))
	}
	for _, name := range []string{"MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4"} {
		if value := strings.ToLower(p.getenv(name)); value != "" && value != "false" && value != "0" {
			warn(name, "requests are signed by a user name and a password, or by a token")
		}
	}
}
