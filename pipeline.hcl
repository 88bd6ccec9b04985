# A longer example: two ranks side by side, a table of what came out, a profile that trains longer.
# It uses the demo's tiny model and 600 of its rows, so it runs offline in half a minute:
#
#   lpipe repro
#   lpipe repro --profile long
#   lpipe graph --format mermaid

lpipe {
  required_version = ">= 0.1"
}

variable "steps" {
  type        = number
  default     = 100
  description = "optimiser steps of each adapter"
  validation {
    condition     = var.steps > 0
    error_message = "steps must be above 0."
  }
}

variable "ranks" {
  type    = set(number)
  default = [4, 16]
}

locals {
  answer = { greedy = true, max_tokens = 48 }
}

profile "long" {
  set = { steps = 300 }
}

source "raw" { path = "example/rows.jsonl" }
source "model" { path = "cmd/lpipe/demo/model" }

stage "convert" "qa" {
  in     = { raw = source.raw.path }
  format = "r1-distill-sft"
}

stage "preprocess" "clean" {
  desc       = "markup out, doubles out"
  in         = { data = stage.qa.data }
  strip_html = true
  dedupe     = true
}

stage "validate" "checked" {
  in      = { data = stage.clean.data, tokenizer = source.model.path }
  checks  = { think = { required = true }, boxed = { required = true } }
  on_fail = "drop"
}

stage "tokenize" "tokens" {
  in          = { data = stage.checked.data, tokenizer = source.model.path }
  system_mode = "none"
  max_tokens  = 128
}

stage "split" "sets" {
  in     = { tokens = stage.tokens.tokens }
  ratios = { train = 0.85, validation = 0.05, test = 0.1 }
  by     = "row"
}

stage "train" "lora" {
  matrix          = { rank = var.ranks }
  in              = { model = source.model.path, train = stage.sets.train, validation = stage.sets.validation }
  rank            = each.value.rank
  lr              = 0.003
  warmup          = 0.1
  steps           = var.steps
  batch_tokens    = 2048
  sequence_length = 512
  precision       = "fp32"
}

stage "evaluate" "tuned" {
  for_each = stage.lora
  in       = { model = source.model.path, adapter = each.value.adapter, data = stage.sets.test }
  generate = local.answer
  answer   = "boxed"
}

# A shell stage: what it reads is what it refers to, and the code that it runs.
stage "shell" "table" {
  in      = { results = [for key, one in stage.tuned : one.metrics] }
  out     = { table = "build/table.md" }
  code    = ["example/table.sh"]
  command = "sh example/table.sh $LPIPE_IN_results > ${self.out.table}"
}
