package main

import (
	"context"
	"io"
	"strings"

	"lpipe/remote"
	"lpipe/runner"
	"lpipe/tracking"
)

// artifactStore keeps artifacts of a server that has them in S3 and does not pass them on, as MLflow's own clients do: by the
// standard AWS chain and MLFLOW_S3_ENDPOINT_URL. A remote block of the same bucket adds its region, endpoint and profile.
type artifactStore struct {
	p        *program
	pipeline *runner.Pipeline
}

var _ tracking.Store = artifactStore{}

// bucket opens the bucket of s3://BUCKET/KEY and returns the key.
func (s artifactStore) bucket(ctx context.Context, uri string) (*remote.S3, string, error) {
	name, key, _ := strings.Cut(strings.TrimPrefix(uri, "s3://"), "/")
	block := &runner.RemoteBlock{Type: "s3", Name: "s3://" + name, Bucket: name}
	for _, one := range s.pipeline.Remotes {
		if one.Type == "s3" && one.Bucket == name {
			block.Region, block.Endpoint, block.AWSProfile = one.Region, one.Endpoint, one.AWSProfile
			break
		}
	}
	if endpoint := s.p.getenv("MLFLOW_S3_ENDPOINT_URL"); endpoint != "" {
		block.Endpoint = endpoint
	}
	found, err := s.p.awsConfig(ctx, block)
	if err != nil {
		return nil, "", err
	}
	return remote.NewS3(remote.S3Options{Config: found.config, Bucket: name, Region: block.Region, Endpoint: found.endpoint, Profile: found.profile}), key, nil
}

// Put implements tracking.Store; large files go up in parts.
func (s artifactStore) Put(ctx context.Context, uri string, r io.ReadSeeker) error {
	bucket, key, err := s.bucket(ctx, uri)
	if err != nil {
		return err
	}
	return bucket.Put(ctx, key, r)
}

// Get implements tracking.Store.
func (s artifactStore) Get(ctx context.Context, uri string) (io.ReadCloser, error) {
	bucket, key, err := s.bucket(ctx, uri)
	if err != nil {
		return nil, err
	}
	return bucket.Get(ctx, key, 0, -1)
}

// List implements tracking.Store.
func (s artifactStore) List(ctx context.Context, uri string) ([]tracking.Artifact, error) {
	bucket, key, err := s.bucket(ctx, uri)
	if err != nil {
		return nil, err
	}
	prefix := strings.TrimSuffix(key, "/") + "/"
	var all []tracking.Artifact
	for item, err := range bucket.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		all = append(all, tracking.Artifact{Path: strings.TrimPrefix(item.Name, prefix), Size: item.Size})
	}
	return all, nil
}
