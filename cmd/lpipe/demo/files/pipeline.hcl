# A whole fine-tuning project that runs offline: from raw rows to a tuned, evaluated, merged model.
#
#   lpipe repro               bring everything up to date
#   lpipe metrics             accuracy before and after
#   lpipe status              what is fresh, what is not
#   lpipe why lora            what changed since the recorded run
#   lpipe repro --var rank=4  another rank: only lora, tuned and merged run again

variable "rank" {
  type        = number
  default     = 16
  description = "LoRA rank"
  validation {
    condition     = var.rank >= 1 && var.rank <= 128
    error_message = "rank must be 1..128."
  }
}

# Word problems in the schema of ServiceNow-AI/R1-Distill-SFT, some of them dirty on purpose.
source "raw" { path = "data/rows.jsonl" }

# A tiny Qwen2-architecture model with its own tokenizer. It can calculate, but has never seen a chat.
source "model" { path = "model" }

stage "convert" "qa" {
  in     = { raw = source.raw.path }
  format = "r1-distill-sft"
}

stage "preprocess" "clean" {
  in         = { data = stage.qa.data }
  strip_html = true
  dedupe     = true
}

stage "validate" "checked" {
  in      = { data = stage.clean.data }
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
  ratios = { train = 0.86, validation = 0.04, test = 0.1 }
  by     = "row"
}

stage "train" "lora" {
  in              = { model = source.model.path, train = stage.sets.train, validation = stage.sets.validation }
  rank            = var.rank
  alpha           = 32
  lr              = 0.003
  warmup          = 0.1
  steps           = 280
  batch_tokens    = 2048
  sequence_length = 512
  precision       = "fp32"
}

stage "evaluate" "base" {
  in       = { model = source.model.path, data = stage.sets.test }
  generate = { greedy = true, max_tokens = 48 }
  answer   = "boxed"
}

stage "evaluate" "tuned" {
  in       = { model = source.model.path, adapter = stage.lora.adapter, data = stage.sets.test }
  generate = { greedy = true, max_tokens = 48 }
  answer   = "boxed"
}

stage "merge" "merged" {
  in = { model = source.model.path, adapter = stage.lora.adapter }
}
