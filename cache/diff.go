package cache

import (
	"context"
	"fmt"
	pathpkg "path"
)

// Difference is a file that two folders do not have in common, by slash-separated path. Before or After is zero where
// it was not, or is not, there.
type Difference struct {
	Path          string
	Before, After Content
}

// Diff lists the files in which folder now differs from folder before, in order of their paths; links and empty folders
// are not files. Only trees that differ are read. Those of now may come from a scan, which may be nil. A tree that is not at
// hand is ErrNotFound.
func (c *Cache) Diff(ctx context.Context, before, now ID, scan *Scan) ([]Difference, error) {
	d := differ{c: c}
	var root *node
	if scan != nil && scan.Dir && scan.ID == now {
		root = &scan.root
	}
	if err := d.folders(ctx, "", before, now, root); err != nil {
		return nil, fmt.Errorf("compare folders %s and %s: %w", before, now, err)
	}
	return d.list, nil
}

type differ struct {
	c    *Cache
	list []Difference
}

// folders compares two folders at a path. A zero ID is none; n is the later one, if it was scanned.
func (d *differ) folders(ctx context.Context, at string, before, now ID, n *node) error {
	if before == now {
		return nil
	}
	old, err := d.tree(ctx, before, nil)
	if err != nil {
		return err
	}
	fresh, err := d.tree(ctx, now, n)
	if err != nil {
		return err
	}
	var kids []node // in the order of fresh
	if n != nil {
		kids = n.children()
	}
	for i, k := 0, 0; i < len(old) || k < len(fresh); {
		var was, is Entry
		var kid *node
		name := nextName(old[i:], fresh[k:])
		if i < len(old) && old[i].Name == name {
			was = old[i]
			i++
		}
		if k < len(fresh) && fresh[k].Name == name {
			is = fresh[k]
			if kids != nil {
				kid = &kids[k]
			}
			k++
		}
		path := pathpkg.Join(at, name)
		if b, a := was.fileOnly(), is.fileOnly(); b != a {
			d.list = append(d.list, Difference{path, b, a})
		}
		if err := d.folders(ctx, path, was.folderOnly(), is.folderOnly(), kid); err != nil {
			return err
		}
	}
	return nil
}

// nextName is the first of the names in two sorted lists, of which one may be empty.
func nextName(a, b []Entry) string {
	switch {
	case len(a) == 0:
		return b[0].Name
	case len(b) == 0:
		return a[0].Name
	}
	return min(a[0].Name, b[0].Name)
}

// fileOnly is the content of a file, none of anything else.
func (e Entry) fileOnly() Content {
	if e.Name == "" || e.Type == Dir {
		return Content{}
	}
	return e.Content()
}

// folderOnly is the tree of a folder, none of anything else.
func (e Entry) folderOnly() ID {
	if e.Type != Dir {
		return ID{}
	}
	return e.ID
}

func (d *differ) tree(ctx context.Context, id ID, n *node) ([]Entry, error) {
	switch {
	case id.IsZero():
		return nil, ctx.Err()
	case n != nil:
		return n.tree().Entries, ctx.Err()
	}
	t, err := d.c.readTree(id)
	if err != nil {
		return nil, err
	}
	return t.Entries, ctx.Err()
}
