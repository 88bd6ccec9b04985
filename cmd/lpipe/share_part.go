package main

import (
	"context"
	"errors"
	"fmt"

	"lpipe/cache"
	"lpipe/remote"
	"lpipe/runner"
)

// pull and fetch of a file, or a folder, within a recorded folder.

// part is what lies at a path within a folder that the lock names.
type part struct {
	folder runner.NamedContent
	rel    string
}

// splitParts tells targets that lie within recorded folders from stages, outputs and sources.
func splitParts(pr *project, all []string) (targets []string, parts []part, err error) {
	for _, target := range all {
		folder, rel, ok, err := pr.runner.Within(target)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			parts = append(parts, part{folder, rel})
		} else {
			targets = append(targets, target)
		}
	}
	return targets, parts, nil
}

// bringParts fetches them with nothing else of their folders but the trees on the way.
func (p *program) bringParts(ctx context.Context, pr *project, r *remote.Remote, parts []part, place bool) error {
	found := make([]cache.Content, len(parts))
	return p.transfer("fetched from "+r.String(), func(progress func(remote.Progress)) (stats remote.Stats, err error) {
		for i, one := range parts {
			found[i], err = r.Find(ctx, one.folder.Content, one.rel)
			if errors.Is(err, remote.ErrNoEntry) {
				return stats, usagef("the recorded %s: %w", one.folder.Path, err)
			}
			if err != nil {
				return stats, err
			}
		}
		stats, err = r.Fetch(ctx, found, progress)
		stats.Requests = r.Requests()
		if err != nil || !place {
			return stats, err
		}
		for i, one := range parts {
			if err := pr.runner.PlacePart(ctx, one.folder.Path+"/"+one.rel, found[i]); err != nil {
				return stats, fmt.Errorf("pull %s: %w", one.folder.Path+"/"+one.rel, err)
			}
		}
		return stats, nil
	})
}
