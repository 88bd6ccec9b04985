package runner

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func stepNames(p *Pipeline) string {
	var names []string
	for _, step := range p.Steps {
		names = append(names, step.Name)
	}
	return strings.Join(names, " ")
}

func commandOf(step *Step) string {
	return strings.Join(step.Stage.(*fakeShell).Command.Words[2:], " ")
}

// spaced is fmt.Sprint with a blank between all.
func spaced(values ...any) string { return strings.TrimSuffix(fmt.Sprintln(values...), "\n") }

func variableShown(p *Pipeline, name string) string {
	for _, v := range p.Variables {
		if v.Name == name {
			return v.Value + " from " + v.From
		}
	}
	return "none"
}

func TestValuesOfVariables(t *testing.T) {
	// Each place wins over those before it.
	places := []string{"default", "vars.auto.hcl", "profile prod", "LPIPE_VAR_n", "--var-file more.hcl", "--var", "experiment"}
	for last := range places {
		dt := pipelineOf("variable \"n\" {\n  type = number\n  default = 0\n}\nprofile \"prod\" {\n  set = { n = 2 }\n}\n")
		dt.env = map[string]string{}
		if last == 2 {
			dt.opts.Profile = "prod"
		} else if last > 2 {
			dt.opts.Profile = "prod"
		}
		if last >= 1 {
			dt.files["vars.auto.hcl"] = "n = 1"
		}
		if last >= 3 {
			dt.env["LPIPE_VAR_n"] = "3"
		}
		if last >= 4 {
			dt.files["more.hcl"] = "n = 4"
			dt.opts.VarFiles = []string{"more.hcl"}
		}
		if last >= 5 {
			dt.opts.Vars = []string{"n=9", "n=5"}
		}
		if last >= 6 {
			dt.opts.Experiment = map[string]string{"n": "6"}
		}
		equal(t, places[last], variableShown(dt.ok(t), "n"), fmt.Sprintf("%d from %s", last, places[last]))
	}
}

func TestTypesOfVariables(t *testing.T) {
	cases := []struct{ declared, given, want string }{
		{`type = string`, `a, b = "c"`, `"a, b = \"c\""`},
		{`type = string`, `8`, `"8"`},
		{`type = number`, `1e-4`, `0.0001`},
		{`type = number`, `0.1 + 0.2`, `0.3`},
		{`type = list(number)`, `[8, 16]`, `[8,16]`},
		{`type = set(string)`, `["b", "a", "b"]`, `["a","b"]`},
		{`type = map(number)`, `{ b = 1, a = 2 }`, `{"a":2,"b":1}`},
		{`type = object({ a = number, b = optional(string, "x"), c = optional(bool) })`, `{ a = 1 }`, `{"a":1,"b":"x","c":null}`},
		{`type = list(object({ a = optional(number, 3) }))`, `[{}, { a = 4 }]`, `[{"a":3},{"a":4}]`},
		{`default = 16`, `8`, `8`},
		{`default = "x"`, `8`, `"8"`},
		{`default = true`, `false`, `false`},
		{`default = [1]`, `[1, "a"]`, `[1,"a"]`},
		{``, `8`, `8`},
		{``, `some text`, `"some text"`},
		{``, `text`, `"text"`},
		{`default = null`, `null`, `null`},
	}
	for _, c := range cases {
		dt := pipelineOf("variable \"v\" {\n" + c.declared + "\n}")
		dt.opts.Vars = []string{"v=" + c.given}
		equal(t, c.declared+" given "+c.given, variableShown(dt.ok(t), "v"), c.want+" from --var")
	}
}

func TestLocalsInAnyOrder(t *testing.T) {
	p := pipelineOf(`
locals { c = "${local.b}!" }
variable "x" { default = "hi" }
locals {
  b = upper(local.a)
  a = var.x
}
stage "shell" "s" { command = local.c }`).ok(t)
	equal(t, "command", commandOf(stepNamed(t, p, "s")), "HI!")
}

func TestNumbersInNamesAndTexts(t *testing.T) {
	p := pipelineOf(`
stage "shell" "s" {
  matrix  = { lr = [1e-4, 0.00002, 1e-7], big = [1e21, 16] }
  command = "x ${each.value.lr} ${1 / 3} ${0.1 + 0.2} ${0.1 + 0.2 == 0.3} ${tostring(2e-7)} ${format("%v", 1 / 3)}"
}`).ok(t)
	equal(t, "steps", stepNames(p), "s@big=16,lr=0.00002 s@big=16,lr=0.0001 s@big=16,lr=1e-7 "+
		"s@big=1e+21,lr=0.00002 s@big=1e+21,lr=0.0001 s@big=1e+21,lr=1e-7")
	equal(t, "command", commandOf(p.Steps[2]), "x 1e-7 0.3333333333333333 0.3 true 2e-7 0.3333333333333333")
}

func TestFilesOfAPipeline(t *testing.T) {
	stage := func(name string) string { return fmt.Sprintf("stage \"shell\" %q { command = \"true\" }\n", name) }
	dt := decodeTest{files: map[string]string{
		"pipeline.hcl":   stage("a") + "lpipe {\n cache = \"shared\"\n device = \"cpu\"\n}\nremote \"dir\" \"r\" { path = \"x\" }\n",
		"b.pipeline.hcl": stage("b"), "other.hcl": stage("other"),
		"pipeline.local.hcl": "lpipe { cache = \"/mine\" }\nremote \"dir\" \"r\" { path = \"y\" }\ntracking \"mlflow\" {}",
		"sub/p.hcl":          stage("sub") + "variable \"v\" {}", "sub/vars.auto.hcl": "v = 1",
	}}
	p := dt.ok(t)
	equal(t, "all", stepNames(p), "a b")
	equal(t, "files", spaced(p.Files), "[pipeline.hcl b.pipeline.hcl pipeline.local.hcl]")
	equal(t, "local settings win", spaced(p.Settings.Cache, p.Settings.Device, p.Remotes[0].Path, len(p.Remotes), p.Tracking != nil, p.Settings.Remote), "/mine cpu y 1 true r")

	dt.opts.Files = []string{"other.hcl"}
	equal(t, "--file", stepNames(dt.ok(t)), "other")

	dt.opts.Files = []string{"sub/p.hcl", "other.hcl"}
	p = dt.ok(t)
	equal(t, "two --file", stepNames(p), "sub other")
	equal(t, "workspace", filepath.Base(p.Dir), "sub")
}

func TestDefaultOutputsOfProfiles(t *testing.T) {
	dt := pipelineOf(`
profile "prod" {}
stage "convert" "qa" { in = { raw = "a" } }
stage "shell" "s" {
  for_each = toset(["x"])
  out      = ["table", "folder/"]
  command  = "true"
}`)
	equal(t, "without", outputs(stepNamed(t, dt.ok(t), "qa")), "data=build/qa/data.jsonl report=build/qa/report.json")
	dt.opts.Profile = "prod"
	p := dt.ok(t)
	equal(t, "profile", p.Profile, "prod")
	equal(t, "with", outputs(stepNamed(t, p, "qa")), "data=build/prod/qa/data.jsonl report=build/prod/qa/report.json")
	equal(t, "shell", outputs(stepNamed(t, p, "s@x")), "table=build/prod/s/x/table folder=build/prod/s/x/folder/")
}

func TestFormsOfOutputs(t *testing.T) {
	p := pipelineOf(`
stage "convert" "one" {
  in  = { raw = "a" }
  out = { data = { path = "d.parquet", push = false } }
}
stage "convert" "two" {
  in  = { raw = "a" }
  out = { report = "r.json", data = null }
}
stage "convert" "three" {
  in  = { raw = "a" }
  out = { data = { cache = false } }
}
stage "shell" "s" {
  out     = { dir = "./x//y/", file = "z", gone = null }
  command = "true"
}
stage "train" "full" {
  in     = { model = "m", train = "t" }
  method = "full"
}
stage "shell" "use" { command = "x ${stage.full.model} ${stage.s.dir}/a" }`).ok(t)
	one := stepNamed(t, p, "one").Out
	equal(t, "object", spaced(len(one), one[0].Path, one[0].Cache, one[0].Push, one[0].File), "1 d.parquet true false true")
	equal(t, "optional one named, required one default", outputs(stepNamed(t, p, "two")), "data=build/two/data.jsonl report=r.json")
	three := stepNamed(t, p, "three").Out[0]
	equal(t, "not cached", spaced(three.Path, three.Cache, three.Push), "build/three/data.jsonl false false")
	equal(t, "shell", outputs(stepNamed(t, p, "s")), "dir=x/y/ file=z")
	equal(t, "ports by setting", outputs(stepNamed(t, p, "full")), "model=build/full/model/ metrics=build/full/metrics.json curve=build/full/curve.jsonl")
	equal(t, "marked outputs", spaced(stepNamed(t, p, "full").Metrics, stepNamed(t, p, "full").Plots), "[metrics] [curve]")
	equal(t, "in a setting", inputs(stepNamed(t, p, "use")), "ref[0]=build/full/model ref[1]=x/y")
}

func TestFormsOfInputs(t *testing.T) {
	p := pipelineOf(`
source "raw" { path = "data/../raw.jsonl" }
source "abs" { path = "/data/x" }
variable "none" { default = null }
stage "convert" "qa" { in = { raw = [source.raw.path, source.abs.path, null] } }
stage "train" "t" {
  in = { model = "./m/", train = stage.qa.data, validation = { b = "v1", a = stage.qa.data } }
}
stage "train" "less" {
  in = { model = "m", train = "t", validation = var.none }
}
stage "shell" "s" {
  in      = { file = "${stage.t.adapter}/adapter_config.json", list = [for s in ["q", "p"] : "${s}.txt"], none = null }
  command = "cat ${stage.qa.data} ${stage.t.metrics} ${stage.qa.data}"
  env     = { FIRST = stage.t.curve }
}`).ok(t)
	equal(t, "list", inputs(stepNamed(t, p, "qa")), "raw[0]=raw.jsonl raw[1]=/data/x")
	equal(t, "map", inputs(stepNamed(t, p, "t")), "model=m train=build/qa/data.jsonl validation.a=build/qa/data.jsonl validation.b=v1")
	equal(t, "null", inputs(stepNamed(t, p, "less")), "model=m train=t")
	equal(t, "shell", inputs(stepNamed(t, p, "s")), "file=build/t/adapter/adapter_config.json list[0]=q.txt list[1]=p.txt "+
		"ref[0]=build/qa/data.jsonl ref[1]=build/t/metrics.json ref[2]=build/t/curve.jsonl")
}

func TestReferencesThatMakeNoInput(t *testing.T) {
	p := pipelineOf(`
stage "shell" "a" {
  out     = ["x"]
  command = "true"
}
stage "shell" "i" {
  for_each = toset(["1", "2"])
  out      = ["x"]
  command  = "true"
}
stage "shell" "b" {
  for_each   = stage.i
  when       = stage.a.x != null && endswith(each.value.x, "x")
  depends_on = [stage.a, stage.i[each.key]]
  out        = { y = "${each.value.x}.copy" }
  command    = "true"
}
stage "shell" "c" {
  for_each = stage.b
  command  = "cat ${each.value.y}"
}
stage "shell" "d" { command = "cat ${stage.i["2"].x}" }
stage "shell" "e" {
  command    = "true"
  depends_on = [stage.i, stage.i["1"]]
}`).ok(t)
	b := stepNamed(t, p, "b@1")
	equal(t, "no input", inputs(b), "")
	equal(t, "order only", spaced(b.DependsOn), "[a i@1]")
	equal(t, "output", outputs(b), "y=build/i/1/x.copy")
	equal(t, "chained instance is one edge", inputs(stepNamed(t, p, "c@2")), "ref[0]=build/i/2/x.copy")
	equal(t, "one instance", inputs(stepNamed(t, p, "d")), "ref[0]=build/i/2/x")
	equal(t, "all instances", spaced(stepNamed(t, p, "e").DependsOn), "[i@1 i@2]")
}

func TestWhen(t *testing.T) {
	p := pipelineOf(`
stage "shell" "off" {
  when    = false
  out     = ["x"]
  command = "true"
}
stage "train" "some" {
  for_each = toset(["a", "b"])
  when     = each.key == "a"
  in       = { model = "m", train = "t", validation = stage.off.x }
}
stage "convert" "list" { in = { raw = [stage.off.x, "a"] } }
stage "shell" "left" {
  in      = { one = stage.off.x, all = [for key, one in stage.some : one.metrics] }
  command = ["cat", stage.off.x, stage.off.x == null ? "nothing" : stage.off.x]
}
stage "shell" "chain" {
  for_each = { off = stage.off.x, on = stage.list.data }
  command  = "cat ${each.value}"
}
stage "shell" "after" {
  depends_on = [stage.off, stage.some]
  command    = "true"
}`).ok(t)
	equal(t, "steps", stepNames(p), "some@a list left chain@on after")
	equal(t, "off", spaced(p.Off), "[off some@b]")
	equal(t, "optional input", inputs(stepNamed(t, p, "some@a")), "model=m train=t")
	equal(t, "nulls in lists", inputs(stepNamed(t, p, "list")), "raw[0]=a")
	equal(t, "nulls in a command", fmt.Sprint(stepNamed(t, p, "left").Stage.(*fakeShell).Command.Words), "[cat nothing]")
	equal(t, "absent instances", inputs(stepNamed(t, p, "left")), "all[0]=build/some/a/metrics.json")
	equal(t, "order", spaced(stepNamed(t, p, "after").DependsOn), "[some@a]")
}

func TestSettingsOfAKind(t *testing.T) {
	p := pipelineOf(`
stage "train" "default" { in = { model = "m", train = "t" } }
stage "train" "written" {
  in       = { model = "m", train = "t" }
  rank     = 16
  method   = "lora"
  lr       = 0.0002
  generate = { greedy = true }
  epochs   = null
  checkpoint_every = "1m"
}
stage "train" "all" {
  in         = { model = "m", train = "t" }
  rank       = "8"
  lr         = 1 / 3
  epochs     = 0.5
  targets    = ["q", null, "v"]
  rslora     = true
  generate   = { max_tokens = 2 }
  early_stop = { metric = "loss" }
  weights    = { b = 1, a = 0.5 }
}`).ok(t)
	equal(t, "writing a default changes nothing", settings(stepNamed(t, p, "written")), settings(stepNamed(t, p, "default")))
	equal(t, "all", settings(stepNamed(t, p, "all")), `early_stop={"metric":"loss","patience":0} epochs=0.5 generate={"greedy":true,"max_tokens":2} `+
		`lr=0.3333333333333333 method="lora" rank=8 rslora=true targets=["q","v"] weights={"a":0.5,"b":1}`)
}

func TestPathsInAFolder(t *testing.T) {
	p := pipelineOf(`
source "raw" { path = "data/raw.txt" }
source "abs" { path = "/abs/raw.txt" }
stage "shell" "a" {
  for_each = toset(["1"])
  out      = ["x"]
  command  = "true"
}
stage "shell" "b" {
  for_each = stage.a
  dir      = "tools"
  out      = { y = "build/y.txt" }
  in       = { first = each.value.x }
  command  = "./run ${source.raw.path} ${source.abs.path} ${each.value.x} ${stage.a["1"].x} > ${self.out.y}"
}`).ok(t)
	b := stepNamed(t, p, "b@1")
	equal(t, "command", commandOf(b), "./run ../data/raw.txt /abs/raw.txt ../build/a/1/x ../build/a/1/x > ../build/y.txt")
	equal(t, "in", inputs(b), "first=build/a/1/x ref[0]=data/raw.txt ref[1]=/abs/raw.txt")
	equal(t, "out", outputs(b), "y=build/y.txt")
}

func TestSecretsAndEnvironment(t *testing.T) {
	dt := pipelineOf(`
variable "token" { sensitive = true }
variable "home" { default = env("HOME", "none") }
locals { header = "Bearer ${var.token}" }
stage "shell" "s" {
  secret_env = { TOKEN = var.token, HEADER = local.header }
  env        = { USER = env("USER"), MODE = env("MODE", "fast"), N = 1e-7 }
  command    = "echo ${env("USER")}"
}
stage "shell" "plain" { command = "true" }`)
	dt.env = map[string]string{"LPIPE_VAR_token": "hunter2", "USER": "anna", "HOME": "/home/anna"}
	p := dt.ok(t)
	s := stepNamed(t, p, "s")
	equal(t, "secrets", spaced(s.SecretEnv), "map[HEADER:Bearer hunter2 TOKEN:hunter2]")
	equal(t, "env", spaced(s.Env, s.EnvHidden), "map[MODE:fast N:1e-7 USER:anna] map[USER:true]")
	equal(t, "sensitive setting", spaced(s.Settings[0].Name, s.Settings[0].Sensitive, s.Settings[1].Sensitive), "command true false")
	equal(t, "other stage", spaced(stepNamed(t, p, "plain").Settings[0].Sensitive), "false")
	equal(t, "names read", spaced(p.EnvNames), "[HOME LPIPE_VAR_home LPIPE_VAR_token MODE USER]")
	equal(t, "hidden variables", variableShown(p, "token")+variableShown(p, "home"), " from LPIPE_VAR_token from default")
	if text := fmt.Sprintf("%+v", p.Variables); strings.Contains(text, "hunter2") {
		t.Error("the secret is shown:", text)
	}
}

func TestCommonSettings(t *testing.T) {
	p := pipelineOf(`
lpipe { pools = { disk = 2 } }
stage "train" "t" {
  in        = { model = "m", train = "t" }
  desc      = "rank ${1 + 1}"
  resources = { ram = 1.5, disk = 1 }
  timeout   = "1h30m"
  retries   = 2
  always    = true
  frozen    = true
  sandbox   = "warn"
}
stage "shell" "s" {
  out     = ["a", "b"]
  metrics = ["a"]
  plots   = ["b"]
  sandbox = true
  command = "true"
}`).ok(t)
	step := stepNamed(t, p, "t")
	equal(t, "common", spaced(step.Desc, step.Timeout, step.Retries, step.Always, step.Frozen, step.Sandbox), "rank 2 1h30m0s 2 true true warn")
	equal(t, "resources", fmt.Sprintf("%+v", *step.Resources), "{CPU:2 GPU:1 RAM:1 Pool:map[disk:1]}")
	s := stepNamed(t, p, "s")
	equal(t, "shell", spaced(s.Metrics, s.Plots, s.Sandbox, s.Resources), "[a] [b] true <nil>")
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"40GiB": 40 << 30, "1.5GB": 1500000000, "512 MiB": 512 << 20, "7": 7, "3k": 3000, "2TiB": 2 << 40, "1B": 1} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "GB", "1.GB", "-1", "1QB", "99999999TiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%s: %d", text, got)
		}
	}
}

func TestBlocksOfLaterIssues(t *testing.T) {
	p := pipelineOf(`
variable "lr" { default = 1e-4 }
variable "rank" { default = 8 }
stage "shell" "tuned" { command = "true" }
experiment "ranks" {
  targets = ["tuned", "tu*"]
  set     = { rank = "4" }
  matrix  = { lr = logspace(1e-5, 1e-3, 3), rank = [8, 16] }
  exclude = [{ rank = 16, lr = 1e-4 }]
  include = [{ rank = 32 }]
  metric  = "tuned.accuracy"
  goal    = "min"
  desc    = "which"
}
source "hf" {
  hf      = "datasets/openai/gsm8k"
  include = ["*.json"]
  dir     = "data/gsm8k"
}
source "csv" { url = "https://example.com/a/faq.csv.gz?x=1" }
tracking "mlflow" { uri = "http://127.0.0.1:5000" }`).ok(t)
	e := p.Experiments[0]
	equal(t, "experiment", spaced(e.Targets, e.Set, e.Matrix, e.Exclude, e.Include, e.Metric, e.Goal, e.Desc),
		"[tuned tu*] map[rank:4] map[lr:[0.00001 0.0001 0.001] rank:[8 16]] [map[lr:0.0001 rank:16]] [map[rank:32]] tuned.accuracy min which")
	equal(t, "hf", spaced(p.Sources[0].Download, p.Sources[0].Path, p.Sources[0].Settings[0].Name), "hf data/gsm8k hf")
	equal(t, "url", p.Sources[1].Path, ".lpipe/sources/csv.csv.gz")
	equal(t, "tracking", p.Tracking.URI, "http://127.0.0.1:5000")
}

func TestVersionBounds(t *testing.T) {
	for bound, fits := range map[string]bool{">= 0.1": true, ">= 0.2, < 1": true, "~> 0.2": true, "~> 0.1.0": false, "= 0.2.0": true,
		"!= 0.2": false, "> 0.2": false, "<= 0.2": true, "1": false} {
		dt := pipelineOf(fmt.Sprintf("lpipe { required_version = %q }", bound))
		dt.opts.Version = "v0.2.0-rc1"
		if _, diags := dt.run(t); diags.HasErrors() == fits {
			t.Errorf("%s: %v", bound, diags)
		}
	}
}

func TestNearestName(t *testing.T) {
	known := []string{"train", "convert", "tokenize", "validate", "lr"}
	for name, want := range map[string]string{"trian": "train", "Train": "train", "tokenise": "tokenize", "valdiate": "validate", "zzz": "", "x": "", "convertt": "convert"} {
		equal(t, name, nearestName(name, known), want)
	}
}
