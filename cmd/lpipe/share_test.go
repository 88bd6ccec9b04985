package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"lpipe/runner/sandbox"

	"lpipe/cache"
)

// What scripts about remotes need: the S3 server that tools/services/s3.sh started, as
//
//	[!s3] skip 'no S3 server'
//
// and, set for every script, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, S3_BUCKET, S3_PREFIX (its own), S3_ENDPOINT
// (the server), S3_PROXY (the server behind the proxy that `faults LIST` tells what to do), S3_CLOSED (where nobody listens).

// setupS3 sets a script's variables. No script reaches the instance metadata of the machine that it runs on.
func setupS3(env *testscript.Env) error {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer closed.Close()
	env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	env.Setenv("S3_CLOSED", "http://"+closed.Addr().String())
	env.Setenv("S3_PREFIX", fmt.Sprintf("%s-%d", filepath.Base(env.WorkDir), time.Now().UnixNano()))
	for name, from := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY": "AWS_SECRET_ACCESS_KEY", "AWS_REGION": "AWS_REGION",
		"S3_BUCKET": "LPIPE_TEST_S3_BUCKET", "S3_ENDPOINT": "LPIPE_TEST_S3_DIRECT", "S3_PROXY": "LPIPE_TEST_S3_ENDPOINT",
	} {
		env.Setenv(name, os.Getenv(from))
	}
	return nil
}

// condition knows [s3], [mlflow] and [landlock]. Where services are required (make test), a missing one is an error, not a reason to skip.
func condition(name string) (bool, error) {
	if name == "landlock" {
		return sandbox.Supported() == nil, nil
	}
	if name == "mlflow" {
		return hasMLflow()
	}
	if name != "s3" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if os.Getenv("LPIPE_TEST_S3_DIRECT") != "" {
		return true, nil
	}
	if os.Getenv("LPIPE_TEST_REQUIRE") != "" {
		return false, errors.New("LPIPE_TEST_REQUIRE is set, and LPIPE_TEST_S3_DIRECT is not: tools/services/s3.sh up --faults limit=0 DIR prints it")
	}
	return false, nil
}

// faults says what the proxy does to this script's requests from now on: faults slowdown@0.2,seed=1. The first call takes
// the proxy for this script, until it ends: other tests, of other packages too, wait.
func faults(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: faults LIST")
	}
	url := os.Getenv("LPIPE_TEST_S3_FAULTS")
	if ts.Getenv("HOLDS_PROXY") == "" {
		path := filepath.Join(os.TempDir(), "lpipe-test-"+strings.NewReplacer("/", "", ":", "-").Replace(url))
		lock, err := cache.LockFile(context.Background(), path, true, nil)
		ts.Check(err)
		ts.Setenv("HOLDS_PROXY", "1")
		ts.Defer(func() {
			if err := setFaults(url, "delay=0"); err != nil {
				ts.Logf("end the faults: %v", err)
			}
			lock.Release()
		})
	}
	list := args[0]
	if !strings.Contains(list, "match=") {
		list += ",match=" + ts.Getenv("S3_PREFIX")
	}
	ts.Check(setFaults(url, list))
}

func setFaults(url, list string) error {
	request, err := http.NewRequest(http.MethodPut, url, strings.NewReader(list))
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("faults %q: %s", list, answer.Status)
	}
	return nil
}

// damage changes a bit of every byte of the files below a folder.
func damage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: damage FOLDER")
	}
	done := 0
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i := range data {
			data[i] ^= 1
		}
		done++
		return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o644))
	})
	ts.Check(err)
	if done == 0 {
		ts.Fatalf("no file in %s", args[0])
	}
}
