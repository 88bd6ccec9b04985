package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"lpipe/remote"
	"lpipe/runner"
)

// remotes checks each remote block: credentials, then what is done with a bucket.
func (d *doctor) remotes(ctx context.Context) {
	if d.found && len(d.pipeline.Remotes) == 0 {
		d.add("remote", "none", works, "the pipeline has no remote; outputs and results stay on this machine", "")
	}
	for _, block := range d.pipeline.Remotes {
		area := "remote " + block.Name
		if block.Type == "s3" && !d.credentials(ctx, area, block) {
			continue
		}
		if d.p.offline {
			d.add(area, "access", warns, "not tried: --offline", "")
			continue
		}
		bucket, err := d.p.openBucket(ctx, d.pipeline, block, 0)
		if err != nil {
			d.trouble(area, "access", err)
			continue
		}
		d.probe(ctx, area, bucket)
	}
}

// credentials asks the chain who we are: the server is not asked yet.
func (d *doctor) credentials(ctx context.Context, area string, block *runner.RemoteBlock) bool {
	found, err := d.p.awsConfig(ctx, block)
	if err != nil {
		d.trouble(area, "credentials", err)
		return false
	}
	where := fmt.Sprintf("bucket %s, profile %s, region %s, endpoint %s", block.Bucket, orText(found.profile, "default"),
		orText(orText(block.Region, found.config.Region), "none"), orText(found.endpoint, "AWS"))
	if d.p.offline {
		d.add(area, "credentials", warns, "not asked: --offline; "+where, "")
		return true
	}
	keys, err := found.config.Credentials.Retrieve(ctx)
	if err != nil {
		d.add(area, "credentials", fails, "none found; "+where,
			"set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or profile in the remote block. The chain said: "+oneLine(err))
		return false
	}
	detail := fmt.Sprintf("from %s; %s", keys.Source, where)
	if keys.CanExpire {
		detail += ", valid until " + keys.Expires.Local().Format("2006-01-02 15:04:05")
	}
	d.add(area, "credentials", works, detail, "")
	return true
}

func orText(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// trouble adds an error; the remedy of one of the remote's errors gets a line of its own.
func (d *doctor) trouble(area, name string, err error) {
	var e *remote.Error
	if errors.As(err, &e) {
		bare := *e
		bare.Remedy = ""
		d.add(area, name, fails, oneLine(&bare), e.Remedy)
		return
	}
	d.add(area, name, fails, oneLine(err), "")
}

// probe lists, stores, reads and removes a small object that no other command looks at.
func (d *doctor) probe(ctx context.Context, area string, bucket remote.Bucket) {
	name, content := "probe/"+strings.ToLower(rand.Text()), []byte("lpipe doctor stores this and removes it again\n")
	steps := []struct {
		name string
		do   func() error
	}{
		{"list", func() error { return listSome(ctx, bucket) }},
		{"put", func() error { return bucket.Put(ctx, name, bytes.NewReader(content)) }},
		{"get", func() error { return getBack(ctx, bucket, name, content) }},
		{"delete", func() error { return bucket.Delete(ctx, name) }},
	}
	for i, step := range steps {
		start := time.Now()
		err := step.do()
		var e *remote.Error
		switch {
		case err == nil:
			d.add(area, step.name, works, fmt.Sprintf("%s in %.1f ms", bucket, time.Since(start).Seconds()*1000), "")
		case i == 1 && errors.As(err, &e) && e.Kind == remote.Credentials:
			d.add(area, step.name, warns, oneLine(err), "pull and repro work with the right to read alone; push does not")
			return
		case i == 3:
			d.add(area, step.name, warns, oneLine(err), fmt.Sprintf("remove %s by hand; lpipe gc needs the right to delete", name))
		default:
			d.trouble(area, step.name, err)
			return
		}
	}
}

// listSome reads the beginning of the listing that every push and fetch starts with.
func listSome(ctx context.Context, bucket remote.Bucket) error {
	for _, err := range bucket.List(ctx, "index/") {
		return err
	}
	return nil
}

func getBack(ctx context.Context, bucket remote.Bucket, name string, want []byte) error {
	body, err := bucket.Get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(io.LimitReader(body, 1<<16))
	if err == nil && !bytes.Equal(got, want) {
		return fmt.Errorf("what was stored as %s came back different: %d bytes instead of %d", name, len(got), len(want))
	}
	return err
}
