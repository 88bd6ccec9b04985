package main

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"

	"lpipe/cache"
	"lpipe/remote"
	"lpipe/runner"
)

// chooseRemote finds the remote block that a command means: the one named, else the pipeline's default, else
// the only one. Without any it returns nil when none was named.
func chooseRemote(pipeline *runner.Pipeline, name string) (*runner.RemoteBlock, error) {
	asked := name != ""
	if !asked {
		name = pipeline.Settings.Remote
	}
	var names []string
	for _, r := range pipeline.Remotes {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	switch {
	case name != "":
		if len(names) == 0 {
			return nil, usagef("there is no remote %q: the pipeline has no remote block", name)
		}
		return nil, usagef("there is no remote %q%s; there are %s", name, didYouMean(name, names), joinNames(names))
	case len(pipeline.Remotes) == 1:
		return pipeline.Remotes[0], nil
	case len(names) > 1:
		return nil, usagef("there are several remotes (%s): name one with --remote, or a default in lpipe { remote = … }", joinNames(names))
	}
	return nil, nil
}

// openRemote joins a remote block and the project's cache. It makes no request.
func (p *program) openRemote(ctx context.Context, pr *project, block *runner.RemoteBlock, connect time.Duration, jobs int) (*remote.Remote, error) {
	bucket, err := p.openBucket(ctx, pr.pipeline, block, connect)
	if err != nil {
		return nil, err
	}
	trust, err := p.trust(pr.pipeline, block)
	if err != nil {
		return nil, err
	}
	o := remote.Options{Host: hostName(), Jobs: jobs, Trust: trust}
	if connect > 0 {
		o.Retry.Attempts = 4 // half a second: whoever has little time to connect has little for a failing server
	}
	return remote.New(bucket, pr.cache, o), nil
}

// openBucket makes the bucket of a remote block. It makes no request; connect is how long a connection may take, 0: as the remote has it.
func (p *program) openBucket(ctx context.Context, pipeline *runner.Pipeline, block *runner.RemoteBlock, connect time.Duration) (remote.Bucket, error) {
	if block.Type == "dir" {
		path := filepath.FromSlash(block.Path)
		if !filepath.IsAbs(path) {
			path = filepath.Join(pipeline.Dir, path)
		}
		bucket, err := remote.NewDir(path)
		if err != nil {
			return nil, fmt.Errorf("remote %s: %w", block.Name, err)
		}
		return bucket, nil
	}
	found, err := p.awsConfig(ctx, block)
	if err != nil {
		return nil, err
	}
	return remote.NewS3(remote.S3Options{
		Config: found.config, Bucket: block.Bucket, Prefix: block.Prefix, Region: block.Region, Endpoint: found.endpoint, Profile: found.profile,
		ConnectTimeout: connect,
	}), nil
}

// awsFound is what the standard AWS chain says about a remote block.
type awsFound struct {
	config            aws.Config
	profile, endpoint string // "": the default
}

// awsConfig loads the standard AWS configuration: environment, shared files, SSO, web identity, instance roles.
func (p *program) awsConfig(ctx context.Context, block *runner.RemoteBlock) (found awsFound, err error) {
	load := []func(*config.LoadOptions) error{config.WithLogger(logging.Nop{})} // it prints what is no news to users
	if found.profile = block.AWSProfile; found.profile != "" {
		load = append(load, config.WithSharedConfigProfile(found.profile))
	} else {
		found.profile = p.getenv("AWS_PROFILE")
	}
	if block.Region != "" {
		load = append(load, config.WithRegion(block.Region))
	}
	if found.config, err = config.LoadDefaultConfig(ctx, load...); err != nil {
		return found, &remote.Error{Kind: remote.Credentials, Op: "load the AWS configuration", Err: err,
			Where: fmt.Sprintf("remote %s (profile %s, region %s, endpoint %s)", block.Name, orText(found.profile, "default"),
				orText(block.Region, "of the profile"), orText(block.Endpoint, "AWS")),
			Remedy: "look at ~/.aws/config, or at AWS_PROFILE"}
	}
	if found.endpoint = block.Endpoint; found.endpoint == "" {
		found.endpoint = p.orEnv(p.getenv("AWS_ENDPOINT_URL_S3"), "AWS_ENDPOINT_URL")
	}
	return found, nil
}

// lookupConnect is how long repro waits for a connection to the remote before it goes on without.
const lookupConnect = 2 * time.Second

// fetcher is who repro asks for results that the cache does not have: nil without a remote, or where its results are off.
func (p *program) fetcher(ctx context.Context, pr *project) runner.Fetcher {
	block, err := chooseRemote(pr.pipeline, "")
	if err != nil {
		// nothing of repro depends on a remote
		p.warn("there are several remotes, so that results are looked up in none: name the default in lpipe { remote = … }")
	}
	if block == nil || block.Results == "off" {
		return nil
	}
	r, err := p.openRemote(ctx, pr, block, lookupConnect, 0)
	if err != nil {
		p.warn("%v; going on without the remote", err)
		return nil
	}
	return r
}

// elsewhere tells whether the default remote had a result when it was last asked. It makes no request.
func (p *program) elsewhere(ctx context.Context, pr *project) func(cache.Key) string {
	seen := sync.OnceValues(func() (map[cache.Key]bool, string) {
		block, err := chooseRemote(pr.pipeline, "")
		if err != nil || block == nil || block.Results == "off" || p.offline {
			return nil, ""
		}
		r, err := p.openRemote(ctx, pr, block, lookupConnect, 0)
		if err != nil {
			return nil, ""
		}
		return r.Seen(), block.Name
	})
	return func(key cache.Key) string {
		if results, name := seen(); results[key] {
			return name
		}
		return ""
	}
}

// needRemote is chooseRemote for commands that cannot do without one.
func (p *program) needRemote(ctx context.Context, pr *project, name string, jobs int) (*remote.Remote, *runner.RemoteBlock, error) {
	if p.offline {
		return nil, nil, usagef("--offline forbids what this command is for: to talk to a remote")
	}
	block, err := chooseRemote(pr.pipeline, name)
	if err != nil {
		return nil, nil, err
	}
	if block == nil {
		return nil, nil, usagef("the pipeline has no remote; add one:\n\n  remote \"s3\" \"origin\" {\n    bucket = \"my-bucket\"\n  }")
	}
	r, err := p.openRemote(ctx, pr, block, 0, jobs)
	return r, block, err
}

// lsRemote lists the results that the default remote holds, newest first, and how much there is in all.
func (p *program) lsRemote(ctx context.Context, pr *project) error {
	r, _, err := p.needRemote(ctx, pr, "", 0)
	if err != nil {
		return err
	}
	listing, err := r.List(ctx)
	if err != nil {
		return err
	}
	described, err := r.Describe(ctx, listing.Results)
	if err != nil {
		return err
	}
	all := remoteRows(described)
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "results": all, "objects": listing.Objects, "packs": listing.Packs, "bytes": listing.Bytes})
	}
	rows := [][]string{}
	for _, one := range all {
		who := "by " + one.User + " on " + one.Host
		if one.Problem != "" {
			who += "; not used: " + one.Problem
		}
		rows = append(rows, []string{one.Stage, one.Key.String()[:16], one.Time.Local().Format("2006-01-02 15:04:05"),
			durationText(time.Duration(one.Seconds * float64(time.Second))), who})
	}
	table(p.stdout, rows)
	p.result("%s, %s in %s, %s at %s", countText(len(all), "result"), countText(listing.Objects, "object"), countText(listing.Packs, "pack"),
		bytesText(listing.Bytes), r)
	return nil
}

// remoteRow is a result at a remote: who made it, when, where, how long it took, and who signed it.
type remoteRow struct {
	Key     cache.Key `json:"key"`
	Stage   string    `json:"stage"`
	User    string    `json:"user"`
	Host    string    `json:"host"`
	Time    time.Time `json:"time"`
	Seconds float64   `json:"seconds"`
	Signers []string  `json:"signers"`
	Problem string    `json:"problem,omitempty"` // why it is not used
}

func remoteRows(described []remote.Described) []remoteRow {
	all := []remoteRow{}
	for _, d := range described {
		row := remoteRow{Key: d.Key, Time: d.Time, Signers: []string{}}
		if d.Result != nil {
			row.Stage, row.User, row.Host, row.Seconds = d.Result.Record.Stage, d.Result.Record.User, d.Result.Record.Host, d.Result.Record.Seconds
			for _, s := range d.Result.Signatures {
				row.Signers = append(row.Signers, s.Key)
			}
		}
		if d.Problem != nil {
			row.Problem = d.Problem.Error()
		}
		all = append(all, row)
	}
	return all
}
