package main

import (
	"fmt"
	"slices"
	"strings"

	"lpipe/plot"
	"lpipe/runner"
)

// groupCurves puts the curves of finished instances together that agree in some variables: a side for each group, with
// the mean of the curves of each stage and name. Sides that are no instances are in none.
func groupCurves(sides []sided, curves []runCurve, by []string) ([]sided, []runCurve, error) {
	var records []*runner.ExperimentRecord
	for _, side := range sides {
		if side.record != nil {
			records = append(records, side.record)
		}
	}
	if len(records) == 0 {
		return nil, nil, usagef("--group-by needs instances of an experiment: lpipe plots --of EXPERIMENT --group-by %s", by[0])
	}
	groups, err := runner.GroupExperiments(records, by)
	if err != nil {
		return nil, nil, err
	}
	var means []runCurve
	sidesOf := make([]sided, len(groups))
	for i, group := range groups {
		var parts []string
		for _, name := range by {
			parts = append(parts, name+"="+runner.ValueText(string(group.Vars[name])))
		}
		sidesOf[i].Name = fmt.Sprintf("%s (%d)", strings.Join(parts, ","), group.Count)
		means = append(means, groupMeans(i, group, sides, curves)...)
	}
	return sidesOf, means, nil
}

// groupMeans are the means of one group, in the order in which the curves come up.
func groupMeans(index int, group runner.ExperimentGroup, sides []sided, curves []runCurve) (means []runCurve) {
	members := map[[2]string][]plot.Curve{}
	var order [][2]string
	for _, one := range curves {
		if r := sides[one.side].record; r == nil || !slices.Contains(group.Records, r) {
			continue
		}
		name := [2]string{one.stage, one.Name}
		if members[name] == nil {
			order = append(order, name)
		}
		members[name] = append(members[name], one.Curve)
	}
	for _, name := range order {
		mean, spread := plot.Mean(members[name])
		if len(mean.X) > 0 {
			means = append(means, runCurve{index, name[0], mean, spread})
		}
	}
	return means
}
