// Package runner turns pipeline files into a plan and the plan into finished, locked outputs.
//
// Read kind.go for what a stage is and pipeline.go for what a decoded file is. decode.go makes the one from the other.
// plan.go draws the edges. Then step.go does the work, for one stage from top to bottom: inputs to key (inputs.go,
// key.go), key to result, result to workspace; produce.go and collect.go run a stage and take in what it wrote.
// confine.go keeps a stage to what it declares. schedule.go starts steps, pools.go holds what they share. journal.go and lockfile.go keep what was finished, recover.go
// cleans up after a kill, guard.go sees to it that no child process survives one. status.go and why.go say what is to do
// and why; sources.go has the commands that touch the workspace by hand.
//
// What it promises: a stage that was told as finished is on record and never runs again for the same key; whatever
// happens to a run, the workspace holds no half-written output when the next command has begun; what a person wrote
// is never lost. doc/format-runner.md specifies key, lock and journal.
package runner
