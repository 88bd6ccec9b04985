package runner_test

import (
	"strings"
	"testing"
)

// Without a helper, or a kernel with Landlock, sandbox = true is as "warn", and that is said once for all stages.
func TestSandboxThatCannotBeEnforced(t *testing.T) {
	w := newWorkspace(t, `
stage "shell" "one" {
  out     = { o = "build/one" }
  sandbox = true
  command = "cat secret > build/one; echo x > stray"
}
stage "shell" "two" {
  out     = { o = "build/two" }
  sandbox = true
  command = "cat ${stage.one.o} > build/two"
}
`, "secret", "x")
	equal(t, "run", w.repro(), "one:ran two:ran")
	messages := w.messages()
	if strings.Count(messages, "sandbox = true cannot be enforced") != 1 {
		t.Errorf("want one warning that nothing is enforced:\n%s", messages)
	}
	contains(t, "warnings", messages, "files were written that are not its outputs: stray")
}

// What no sandbox is asked for is not even looked at.
func TestSandboxIsInNoKey(t *testing.T) {
	const pipeline = `
stage "shell" "one" {
  out     = { o = "build/one" }
  command = "echo x > build/one; echo x >> stray"
  SANDBOX
}
`
	w := newWorkspace(t, strings.Replace(pipeline, "SANDBOX", "", 1))
	equal(t, "without", w.repro(), "one:ran")
	equal(t, "warnings", w.messages(), "")
	for _, sandbox := range []string{`sandbox = true`, `sandbox = "warn"`} {
		w.write("pipeline.hcl", strings.Replace(pipeline, "SANDBOX", sandbox, 1))
		equal(t, sandbox, w.repro(), "one:workspace")
	}
}
