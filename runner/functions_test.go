package runner

import (
	"strings"
	"testing"
)

func TestFunctions(t *testing.T) {
	cases := map[string]string{
		`shquote("it's")`:                              `'it'"'"'s'`,
		`shquote(["a b", "c", 1e-7])`:                  `'a b' c 1e-7`,
		`join(",", logspace(1, 1000, 4))`:              `1,10,100,1000`,
		`jsonencode({ a = 1 / 3 })`:                    `{"a":0.3333333333333333}`,
		`basename("a/b.c")`:                            `b.c`,
		`dirname("a/b.c")`:                             `a`,
		`replace("abc", "/[ab]/", "x")`:                `xxc`,
		`replace("a.c", ".", "x")`:                     `axc`,
		`length("äöü")`:                                `3`,
		`length({ a = 1, b = 2 })`:                     `2`,
		`index(["a", "b"], "b")`:                       `1`,
		`sum([1, 2.5])`:                                `3.5`,
		`one([for x in [1, 2] : x if x > 1])`:          `2`,
		`try(tonumber("x"), 7)`:                        `7`,
		`can(tonumber("x"))`:                           `false`,
		`alltrue([true, 1 < 2])`:                       `true`,
		`anytrue([])`:                                  `false`,
		`startswith("abc", "ab")`:                      `true`,
		`join(",", sort(fileset("d", "**/*.txt")))`:    `a.txt,e/b.txt`,
		`join(",", sort(fileset("d/*.txt")))`:          `d/a.txt`,
		`join(",", fileset("d/e", "b.txt"))`:           `b.txt`,
		`join(",", fileset("none", "*"))`:              ``,
		`trimspace(file("d/a.txt"))`:                   `hello`,
		`env("UNSET", 5)`:                              `5`,
		`upper(env("SET"))`:                            `VALUE`,
		`merge({ a = 1 }, { b = 2 }).b`:                `2`,
		`formatdate("YYYY", "2026-01-02T03:04:05Z")`:   `2026`,
		`setproduct(["a"], ["b"])[0][1]`:               `b`,
		`csvdecode("a,b\n1,2")[0].b`:                   `2`,
		`contains([0.1 + 0.2], 0.3) ? "in" : "not in"`: `in`,
	}
	for expr, want := range cases {
		dt := pipelineOf("stage \"shell\" \"s\" { command = \"=${" + expr + "}\" }")
		dt.files["d/a.txt"], dt.files["d/e/b.txt"], dt.files["d/c.md"] = "hello\n", "", ""
		dt.env = map[string]string{"SET": "value"}
		p, diags := dt.run(t)
		if diags.HasErrors() {
			t.Errorf("%s: %s", expr, printed(p, diags))
			continue
		}
		equal(t, expr, strings.TrimPrefix(commandOf(p.Steps[0]), "="), want)
	}
}

// Every function of cty's standard library that Terraform has too goes by Terraform's name.
func TestFunctionNames(t *testing.T) {
	d := newDecoder(DecodeOptions{})
	for _, name := range strings.Fields(`abs ceil floor log max min parseint pow signum chomp endswith format formatlist indent join lower
		regex regexall replace split startswith strcontains strrev substr title trim trimprefix trimspace trimsuffix upper alltrue anytrue
		chunklist coalesce coalescelist compact concat contains distinct element flatten index keys length lookup merge one range
		reverse setintersection setproduct setsubtract setunion slice sort sum values zipmap csvdecode jsondecode jsonencode formatdate
		timeadd basename dirname can try tobool tolist tomap tonumber toset tostring file fileset env shquote logspace`) {
		if _, ok := d.funcs[name]; !ok {
			t.Errorf("there is no function %s", name)
		}
	}
}
