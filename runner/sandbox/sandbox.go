// Package sandbox confines a command to the files that it was promised, by Landlock: the kernel refuses every other open
// with EACCES, without privileges, for the command and all its children.
//
// A process can only confine itself, so Wrap makes a command start a helper first: Main, in a program of ours, reads the
// rules, confines itself and becomes the command. Nothing else than files is confined.
package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// Word is the argument by which a program of ours knows that it is to be the helper, and has to call Main.
const Word = "__sandbox"

// ErrUnsupported says that this system cannot confine.
var ErrUnsupported = errors.New("this system has no Landlock (Linux 5.13 and later have, unless it is switched off)")

// Rules are absolute paths of files, or of folders with all below them. What does not exist is passed over. Symbolic
// links are followed: a rule is about what they lead to.
type Rules struct {
	Read  []string `json:"read"`  // read, list, execute
	List  []string `json:"list"`  // list folders
	Write []string `json:"write"` // all that may be done with files
	Make  []string `json:"make"`  // make, write and remove files, without reading them
}

// Wrap makes cmd start confined: helper is the path of a program that calls Main. done must be called once cmd has
// started, or will not.
func Wrap(cmd *exec.Cmd, helper string, rules Rules) (done func(), err error) {
	text, err := json.Marshal(rules)
	if err != nil {
		return nil, err
	}
	f, err := anonymous(text)
	if err != nil {
		return nil, fmt.Errorf("pass on the sandbox's rules: %w", err)
	}
	fd := 3 + len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	cmd.Args = append([]string{"lpipe", Word, strconv.Itoa(fd), cmd.Path}, cmd.Args...)
	cmd.Path = helper
	return func() { f.Close() }, nil
}

// Main is the helper: its arguments are those after Word. It returns only if that went wrong.
func Main(args, environ []string) error {
	if len(args) < 3 {
		return errors.New("lpipe calls this by itself")
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "rules")
	var rules Rules
	if err := json.NewDecoder(f).Decode(&rules); err != nil {
		return fmt.Errorf("read the rules: %w", err)
	}
	f.Close()
	return become(rules, args[1], args[2:], environ)
}
