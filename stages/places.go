package stages

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"lpipe/runner"
)

// places tells the set of each row.
type places struct {
	split     *Split
	joined    *clusters  // by cluster
	near      *clusterer // by cluster: keys of the clusters' first rows
	elsewhere rowSet     // by column: rows whose prompt belongs to another set
	share     float64    // of the stage's work that finding out was
}

func (p *places) close() {
	if p.near != nil {
		p.near.close()
	}
}

// promptKey is a prompt's hash, blind for case and blanks. Rows without a prompt go by their id.
func promptKey(item splitItem) (hi, lo uint64) {
	if strings.TrimSpace(item.prompt) == "" {
		return textHash("id\x00" + item.id)
	}
	return promptHash(item.prompt)
}

// of is the set of a row, -1 if it has to go.
func (p *places) of(item splitItem) (int, error) {
	switch p.split.By {
	case "row":
		key, _ := promptKey(item)
		return p.split.set(key), nil
	case "cluster":
		if root := p.joined.root(uint64(item.number)); root != uint64(item.number) {
			key, err := p.near.key(root)
			return p.split.set(key), err
		}
		key, _ := promptKey(item)
		return p.split.set(key), nil
	}
	if p.elsewhere.has(item.number) {
		return -1, nil
	}
	key, _, err := p.columnKey(item)
	return p.split.set(key), err
}

func (p *places) columnKey(item splitItem) (hi, lo uint64, err error) {
	value, ok := item.column(p.split.By)
	if !ok {
		return 0, 0, fmt.Errorf("%s has no column %q to split by; it has %s (convert's keep carries others along)", item.where(), p.split.By, strings.Join(item.columns(), ", "))
	}
	hi, lo = textHash(value)
	return hi, lo, nil
}

// places looks at all rows first where a row's set depends on others.
func (s *Split) places(ctx context.Context, env *runner.Env, from splitSource) (*places, error) {
	p := &places{split: s}
	switch s.By {
	case "row":
		return p, nil
	case "cluster":
		return p, p.cluster(ctx, env, from)
	}
	return p, p.columns(ctx, env, from)
}

// cluster joins like prompts. A cluster goes where its first row alone would go, so that rows added behind
// move no earlier one, unless they join two clusters that were apart.
func (p *places) cluster(ctx context.Context, env *runner.Env, from splitSource) error {
	near := NearDuplicates{On: true, Threshold: p.split.Similarity, Shingle: defaultNear().Shingle}
	hasher := newMinHasher(near)
	var err error
	if p.near, err = newClusterer(near, env.Scratch); err != nil {
		return err
	}
	p.share = 0.5
	err = from.each(ctx, "looking for like prompts", 0, p.share,
		func(b *splitBatch) (any, error) {
			signs := make([]signature, 0, b.len())
			for i := range b.len() {
				item := b.item(i)
				if sign, ok := hasher.sign(item.prompt, item.number); ok {
					sign.key, _ = promptKey(item)
					signs = append(signs, sign)
				}
			}
			return signs, nil
		},
		func(v any) error {
			for _, sign := range v.([]signature) {
				if err := p.near.add(sign); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		return err
	}
	if p.joined, err = p.near.cluster(ctx); err != nil {
		return err
	}
	members := 0
	for _, parent := range p.joined.parent {
		if parent != 0 {
			members++
		}
	}
	logf(env, "%d %s join the cluster of an earlier one with a like prompt", members, from.unit())
	return nil
}

// columns finds prompts that stand in more than one set when rows go by a column. Of those the test set keeps
// its rows, else validation, and the others lose theirs.
func (p *places) columns(ctx context.Context, env *runner.Env, from splitSource) error {
	sorted := newSorter(env.Scratch)
	defer sorted.close()
	p.share = 0.4
	err := from.each(ctx, "looking for prompts in several sets", 0, p.share,
		func(b *splitBatch) (any, error) {
			pairs := make([]pair, 0, b.len())
			for i := range b.len() {
				item := b.item(i)
				key, _, err := p.columnKey(item)
				if err != nil {
					return nil, err
				}
				hi, lo := promptKey(item)
				pairs = append(pairs, pair{hi, lo, uint64(item.number)<<2 | uint64(p.split.set(key))})
			}
			return pairs, nil
		},
		func(v any) error {
			for _, one := range v.([]pair) {
				if err := sorted.add(one); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		return err
	}
	for same, err := range sorted.groups() {
		if err != nil {
			return err
		}
		keeps := uint64(setTrain)
		for _, row := range same {
			keeps = max(keeps, row&3)
		}
		for _, row := range same {
			if row&3 != keeps {
				p.elsewhere.set(int64(row >> 2))
			}
		}
	}
	return nil
}

// columns names what a row can be split by.
func (i splitItem) columns() []string {
	names := []string{"id", "source", "license", "answer"}
	for _, m := range i.meta {
		names = append(names, m.Name)
	}
	sort.Strings(names)
	return names
}
