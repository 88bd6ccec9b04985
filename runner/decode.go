package runner

// DecodeOptions say what to decode and with which values.
type DecodeOptions struct {
	// Dir is where relative Files are looked up; without Files it is the workspace. "" means the current folder.
	Dir string
	// Files replace pipeline.hcl and *.pipeline.hcl; the first one's folder is the workspace.
	Files []string
	// Profile chooses a profile block; "" chooses none.
	Profile string
	// Vars are NAME=VALUE of --var; a VALUE is HCL unless the variable is a string.
	Vars []string
	// VarFiles are the files of --var-file, relative to Dir.
	VarFiles []string
	// Experiment values, NAME=VALUE as in Vars, win over all others.
	Experiment []string
	// Getenv reads the environment for env() and LPIPE_VAR_; nil is an empty one.
	Getenv func(string) (string, bool)
	// Environ lists the names of the environment, to find an LPIPE_VAR_ of no variable; nil skips that check.
	Environ []string
	// Version is the program's, to hold against required_version; "" skips that check.
	Version string
	// Kinds are those that a stage block may name.
	Kinds []*Kind
}
