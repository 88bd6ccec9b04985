package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"lpipe/runner"
	"lpipe/stages"
)

func (p *program) kindsCommand() *cli.Command {
	return &cli.Command{
		Name: "kinds", Category: categoryLook, Usage: "list the built-in stages, or all settings of some", ArgsUsage: "[KIND...]",
		Action: p.kinds,
	}
}

func (p *program) kinds(c *cli.Context) error {
	all := stages.Kinds()
	chosen := all
	if c.Args().Len() > 0 {
		chosen = nil
		for _, name := range c.Args().Slice() {
			kind, err := findKind(all, name)
			if err != nil {
				return err
			}
			chosen = append(chosen, kind)
		}
	}
	var docs []runner.KindDoc
	for _, kind := range chosen {
		docs = append(docs, kind.Describe())
	}
	if p.json {
		return p.printJSON(map[string]any{"schema": 1, "kinds": docs})
	}
	if c.Args().Len() == 0 {
		var rows [][]string
		for _, d := range docs {
			rows = append(rows, []string{p.paintResult(bold, d.Name), d.Doc})
		}
		table(p.stdout, rows)
		return nil
	}
	for i, d := range docs {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		p.printKind(d)
	}
	return nil
}

func findKind(all []*runner.Kind, name string) (*runner.Kind, error) {
	var names []string
	for _, kind := range all {
		if kind.Name == name {
			return kind, nil
		}
		names = append(names, kind.Name)
	}
	return nil, usagef("there is no stage kind %q%s; there are %s", name, didYouMean(name, names), joinNames(names))
}

func (p *program) printKind(d runner.KindDoc) {
	p.result("%s (version %d): %s", p.paintResult(bold, d.Name), d.Version, d.Doc)
	if d.InPlace {
		p.result("\n  in, out: any names")
	}
	p.printPorts("in", d.In)
	p.printPorts("out", d.Out)
	if len(d.Settings) == 0 {
		return
	}
	p.result("\n  settings")
	rows := settingRows(d.Settings, "    ")
	table(p.stdout, rows)
}

func (p *program) printPorts(title string, ports []runner.Port) {
	if len(ports) == 0 {
		return
	}
	p.result("\n  %s", title)
	var rows [][]string
	for _, port := range ports {
		name := port.Name
		if port.Optional {
			name = "[" + name + "]"
		}
		var form []string
		if port.Folder {
			form = append(form, "folder")
		}
		if port.List {
			form = append(form, "one or a list")
		}
		if port.Map {
			form = append(form, "one or a map")
		}
		if port.Ext != "" {
			form = append(form, port.Ext)
		}
		rows = append(rows, []string{"    " + name, strings.Join(form, ", "), port.Doc})
	}
	table(p.stdout, rows)
}

// settingRows lists settings, those of objects below their owner. A star marks what does not count in the key.
func settingRows(settings []runner.SettingDoc, indent string) [][]string {
	var rows [][]string
	for _, s := range settings {
		value := "= " + s.Default
		if s.Required {
			value = "required"
		}
		doc := s.Doc
		if s.Unit != "" {
			doc = strings.TrimSpace(doc + " (" + s.Unit + ")")
		}
		if !s.InKey {
			doc += " [not in the key]"
		}
		if len(s.Fields) > 0 {
			value = ""
		}
		rows = append(rows, []string{indent + s.Name, s.Type, value, doc})
		rows = append(rows, settingRows(s.Fields, indent+"  ")...)
	}
	return rows
}
