package stages

import (
	"path/filepath"
	"slices"
	"strings"

	"lpipe/runner"
)

// direct is what a shell would make of a line that needs none: words between blanks, the first of which names a
// program. It is nil for every other line. A shell that only starts one program costs as much as a short program does;
// make(1) has left it out for the same lines since the seventies.
func (s *shell) direct(env *runner.Env) []string {
	if s.Command.args != nil || !slices.Equal(s.Shell, standardShell()) || env.Confine != nil {
		return nil
	}
	line := strings.Trim(s.Command.line, " \t\n")
	if strings.IndexFunc(line, special) >= 0 {
		return nil
	}
	words := strings.Fields(line)
	if len(words) == 0 || strings.Contains(words[0], "=") || slices.Contains(shellWords(), words[0]) {
		return nil
	}
	for _, pair := range env.Environ {
		// bash, where it is /bin/sh, takes functions from here, which go before programs.
		if strings.HasPrefix(pair, "BASH_FUNC_") {
			return nil
		}
		// A shell looks in such a folder from where it runs.
		path, is := strings.CutPrefix(pair, "PATH=")
		if is && slices.ContainsFunc(filepath.SplitList(path), func(at string) bool { return !filepath.IsAbs(at) }) {
			return nil
		}
	}
	return words
}

// standardShell ends at the first command that fails.
func standardShell() []string { return []string{"/bin/sh", "-e", "-c"} }

// special tells the characters that may mean something to some shell. What is left are letters, digits, blanks, and a
// few signs that mean themselves in every place of a word.
func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("_@%+=:,./- \t", r)
}

// shellWords are what dash, bash, ksh and busybox do themselves when a command begins so, and the words of their
// grammar.
func shellWords() []string {
	return []string{
		".", ":", "[", "alias", "autoload", "bg", "bind", "break", "builtin", "caller", "case", "cd", "chdir", "command", "compgen",
		"complete", "compopt", "continue", "coproc", "declare", "dirs", "disown", "do", "done", "echo", "elif", "else", "enable",
		"esac", "eval", "exec", "exit", "export", "false", "fc", "fg", "fi", "float", "for", "function", "functions", "getopts",
		"hash", "help", "hist", "history", "if", "in", "integer", "jobs", "kill", "let", "local", "login", "logout", "mapfile",
		"nameref", "newgrp", "popd", "print", "printf", "pushd", "pwd", "read", "readarray", "readonly", "redirect", "return",
		"select", "set", "shift", "shopt", "sleep", "source", "stop", "suspend", "test", "then", "time", "times", "trap", "true",
		"type", "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait", "whence", "while",
	}
}
