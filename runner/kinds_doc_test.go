package runner

import (
	"slices"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	doc := fakeKinds()[2].Describe()
	find := func(name string) SettingDoc {
		return doc.Settings[slices.IndexFunc(doc.Settings, func(s SettingDoc) bool { return s.Name == name })]
	}
	rank, every, generate, stop := find("rank"), find("checkpoint_every"), find("generate"), find("early_stop")
	equal(t, "rank", spaced(rank.Type, rank.Default, rank.Doc, rank.InKey), "whole number 16 rank of the update true")
	equal(t, "every", spaced(every.Default, every.Unit, every.InKey), `"15m" time false`)
	equal(t, "generate", spaced(generate.Type, generate.Fields[1].Name, generate.Fields[1].Default, generate.Fields[1].Unit), "object max_tokens 8 tokens")
	equal(t, "stop", spaced(stop.Default, stop.Fields[0].Required), "null true")
	command := fakeKinds()[0].Describe().Settings[0]
	equal(t, "command", spaced(command.Required, command.Default == ""), "true true")
}

func TestFormatFile(t *testing.T) {
	equal(t, "formatted", string(FormatFile([]byte("stage \"a\"  \"b\"{\nx=1\n  long =2\n}\n"))), "stage \"a\" \"b\" {\n  x    = 1\n  long = 2\n}\n")
}

func TestColor(t *testing.T) {
	p, diags := pipelineOf("stage \"nope\" \"x\" {}").run(t)
	var b strings.Builder
	if err := FormatDiagnostics(&b, diags, p.HCL, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "\x1b[1;31mError:") || !strings.Contains(b.String(), "\x1b[4m\"nope\"\x1b[0m") {
		t.Errorf("%q", b.String())
	}
}
