package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// arrange is a command line as program.run gives it to urfave/cli.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return args, nil
	}
	line, err := readLine(app, args[1:])
	if err != nil {
		return nil, err
	}
	return line.assemble(args[0], flagTable(app.Flags)), nil
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	app := &cli.App{
		Flags: globalFlags(),
		Commands: []*cli.Command{
			{Name: "repro", Aliases: []string{"run"}, Flags: []cli.Flag{
				&cli.IntFlag{Name: "jobs", Aliases: []string{"j"}}, &cli.BoolFlag{Name: "force"}}},
			{Name: "ls", Flags: []cli.Flag{&cli.BoolFlag{Name: "remote"}}},
			{Name: "push", Flags: []cli.Flag{&cli.StringFlag{Name: "remote"}}},
			{Name: "engine", Subcommands: []*cli.Command{{Name: "bench", Flags: []cli.Flag{&cli.StringFlag{Name: "model"}}}}},
		},
	}
	for _, c := range []struct{ line, want string }{
		{"repro", "repro"},
		{"repro a b", "repro -- a b"},
		{"--profile p repro", "--profile p repro"},
		{"repro a --profile p b", "--profile p repro -- a b"},
		{"repro a --force b -j 4", "repro --force -j 4 -- a b"},
		{"--force repro a", "repro --force -- a"},
		{"-j4 run a", "run -j 4 -- a"},
		{"repro --jobs=3 a --json", "--json repro --jobs=3 -- a"},
		{"repro -- --force -j", "repro -- --force -j"},
		{"repro --var x=[1,2] --var y=2 a", "--var x=[1,2] --var y=2 repro -- a"},
		{"-C dir repro -q", "-C dir -q repro"},
		{"engine --model m bench", "engine bench --model m"},
		{"repro -", "repro -- -"},
		{"ls --remote a", "ls --remote -- a"},
		{"--remote ls", "ls --remote"},
		{"--remote r push a", "push --remote r -- a"},
		{"push a --remote r", "push --remote r -- a"},
	} {
		got, err := arrange(app, append([]string{"lpipe"}, strings.Fields(c.line)...))
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if want := append([]string{"lpipe"}, strings.Fields(c.want)...); !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", c.line, got, want)
		}
	}
}

func TestUnknownFlagsAreNamed(t *testing.T) {
	p := &program{lookupEnv: func(string) (string, bool) { return "", false }}
	_, err := arrange(p.app(), []string{"lpipe", "repro", "--profle", "x"})
	if err == nil || !strings.Contains(err.Error(), `did you mean "--profile"`) {
		t.Errorf("got %v", err)
	}
}

// Every command can be tried with a global flag at each of its places.
func TestEveryGlobalFlagAtEveryPlace(t *testing.T) {
	p := &program{lookupEnv: func(string) (string, bool) { return "", false }}
	for _, flag := range globalFlags() {
		use := []string{"--" + flag.Names()[0]}
		if len(flag.Names()[0]) == 1 {
			use[0] = "-" + flag.Names()[0]
		}
		if flag.(cli.DocGenerationFlag).TakesValue() {
			use = append(use, "value")
		}
		line := []string{"repro", "a", "b"}
		for place := range len(line) + 1 {
			args := slices.Concat([]string{"lpipe"}, line[:place], use, line[place:])
			got, err := arrange(p.app(), args)
			want := slices.Concat([]string{"lpipe"}, use, []string{"repro", "--", "a", "b"})
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: got %q, %v", args, got, err)
			}
		}
	}
}
