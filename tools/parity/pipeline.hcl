# The project of tools/parity/training.py. A step holds every row, so that the order of rows, which is lpipe's own,
# makes no difference.

variable "batch" {
  type    = number
  default = 4096
}

source "model" { path = "model" }
source "raw" { path = "rows.jsonl" }
source "start" { path = "start" }

stage "convert" "qa" {
  in     = { raw = source.raw.path }
  format = "r1-distill-sft"
}

stage "tokenize" "tokens" {
  in          = { data = stage.qa.data, tokenizer = source.model.path }
  system_mode = "none"
  max_tokens  = 128
}

stage "train" "lora" {
  in              = { model = source.model.path, train = stage.tokens.tokens, from = source.start.path }
  rank            = 16
  alpha           = 32
  lr              = 0.003
  warmup          = 0.1
  weight_decay    = 0.01
  steps           = 40
  batch_tokens    = var.batch
  sequence_length = 512
  precision       = "fp32"
}

stage "train" "full" {
  in              = { model = source.model.path, train = stage.tokens.tokens }
  method          = "full"
  lr              = 0.001
  schedule        = "linear"
  warmup          = 4
  weight_decay    = 0.1
  steps           = 20
  batch_tokens    = var.batch
  sequence_length = 512
  precision       = "fp32"
}

stage "train" "drawn" {
  in              = { model = source.model.path, train = stage.tokens.tokens }
  rank            = 80
  alpha           = 24
  rslora          = true
  dropout         = 0.1
  lora_plus       = 2
  targets         = ["q_proj", "k_proj", "mlp.down_proj"]
  rank_pattern    = { "layers.2.self_attn.k_proj" = 5 }
  alpha_pattern   = { down_proj = 9 }
  lr              = 0.003
  steps           = 12
  batch_tokens    = 2048
  sequence_length = 512
}

stage "merge" "lora_merged" {
  in = { model = source.model.path, adapter = stage.lora.adapter }
}

stage "merge" "drawn_merged" {
  in         = { model = source.model.path, adapter = stage.drawn.adapter }
  shard_size = "1MB"
}
