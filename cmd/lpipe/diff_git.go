package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"lpipe/runner"
	"lpipe/stages"
)

// gitSide is the lock that a Git revision holds, with the variables that its pipeline files give. Git is asked only
// here: nothing else needs it.
func (p *program) gitSide(ctx context.Context, pr *project, rev string) (runner.Snapshot, error) {
	git, err := p.findGit()
	if err != nil {
		return runner.Snapshot{}, usagef("%s is no lock file and no profile with a lock; and git, which could know it as a revision, is not in PATH", rev)
	}
	dir := pr.pipeline.Dir
	ask := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, git, append([]string{"-C", dir}, args...)...)
		cmd.Env = p.environ()
		return cmd.Output()
	}
	if _, err := ask("rev-parse", "--git-dir"); err != nil {
		return runner.Snapshot{}, usagef("%s is no lock file and no profile with a lock, and %s is not in a Git repository: %s", rev, dir, gitSays(err))
	}
	commit, err := ask("rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return runner.Snapshot{}, usagef("%s is no lock file, no profile with a lock, and no Git revision", rev)
	}
	hash, name := strings.TrimSpace(string(commit)), filepath.Base(runner.LockPath(dir, pr.pipeline.Profile))
	data, err := ask("show", hash+":./"+name)
	if err != nil {
		return runner.Snapshot{}, usagef("Git revision %s holds no %s: %s", rev, name, gitSays(err))
	}
	lock, err := runner.ParseLock(rev+":"+name, data)
	if err != nil {
		return runner.Snapshot{}, err
	}
	s := pr.runner.LockSnapshot(rev, lock)
	s.Variables, err = p.gitVariables(pr, hash, ask)
	return s, err
}

// findGit looks in the PATH that we were given.
func (p *program) findGit() (string, error) {
	for _, dir := range filepath.SplitList(p.getenv("PATH")) {
		at := filepath.Join(dir, "git")
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return at, nil
		}
	}
	return "", exec.ErrNotFound
}

// gitVariables decodes a revision's pipeline files in a folder of their own. A pipeline that cannot be decoded there –
// it reads other files, or is of another time – has no known values: that is no error.
func (p *program) gitVariables(pr *project, hash string, ask func(...string) ([]byte, error)) ([]runner.Variable, error) {
	if len(p.files) > 0 {
		return nil, nil
	}
	listed, err := ask("ls-tree", "-z", "--name-only", hash, "./")
	if err != nil {
		return nil, nil
	}
	temp, err := os.MkdirTemp(p.getenv("TMPDIR"), "lpipe-diff-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	for _, name := range strings.Split(strings.TrimRight(string(listed), "\x00"), "\x00") {
		if name != "pipeline.hcl" && name != "vars.auto.hcl" && !strings.HasSuffix(name, ".pipeline.hcl") || strings.Contains(name, "/") {
			continue
		}
		data, err := ask("show", hash+":./"+name)
		if err != nil {
			return nil, nil
		}
		if err := os.WriteFile(filepath.Join(temp, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	then, diags := runner.Decode(runner.DecodeOptions{
		Dir: temp, Profile: pr.pipeline.Profile, Getenv: p.lookupEnv, Environ: p.envNames(), Version: release, Kinds: stages.Kinds(),
	})
	if diags.HasErrors() || then == nil {
		return nil, nil
	}
	return then.Variables, nil
}

// gitSays is the first line of what git printed, or the error.
func gitSays(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		line, _, _ := bytes.Cut(exit.Stderr, []byte("\n"))
		return string(line)
	}
	return err.Error()
}
