lpipe {                                        # optional; nothing in it counts in keys
  required_version = ">= 0.1"
  cache  = ".lpipe/cache"
  link   = ["reflink", "hardlink", "symlink", "copy"]
  remote = "origin"
  pools  = { gpu = 2, disk = 1 }
}

variable "rank" {
  type        = number
  default     = 16
  description = "LoRA rank"
  validation {
    condition     = var.rank >= 1 && var.rank <= 512
    error_message = "rank must be 1..512."
  }
}
variable "token" {
  type      = string
  default   = "hush"
  sensitive = true
}
variable "size" { default = "7B" }
variable "quantize" { default = "none" }
variable "epochs" { default = 2 }
variable "lr" { default = 1e-4 }

locals { answer_file = "build/answers.json" }

profile "prod" {
  set    = { size = "72B", quantize = "nf4" }
  remote = "nas"
}

source "raw" { path = "data/r1-sample.parquet" }
source "model" {
  hf       = "Qwen/Qwen2.5-7B-Instruct"
  revision = "a09a35458c702b33eeacc393d103063234e8bc28"
  include  = ["*.json", "*.safetensors"]
}
source "faq" {
  url      = "https://example.com/faq.csv"
  checksum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

stage "convert" "qa" {
  in     = { raw = source.raw.path }
  out    = { data = "build/qa.jsonl" }
  format = "r1-distill-sft"
}

stage "shell" "stats" {
  out        = { report = "build/stats.json" }
  command    = "python3 stats.py ${stage.qa.data} > ${self.out.report}"
  code       = ["stats.py", "lib/**/*.py"]
  tools      = ["python3"]
  env        = { SEED = "1" }
  pass_env   = ["HTTPS_PROXY"]
  secret_env = { HF_TOKEN = var.token }
}

stage "convert" "sets" {
  in = { raw = stage.qa.data }
}

stage "train" "lora" {
  for_each = toset(["8", "16"])
  when     = var.size != "72B"
  in       = { model = source.model.path, train = stage.sets.data, validation = stage.sets.report }
  rank     = each.value
  resources = { gpu = 1, ram = "40GiB" }
  timeout   = "6h"
  retries   = 2
}

stage "shell" "table" {
  in      = { all = [for key, one in stage.lora : one.metrics] }
  out     = { table = "build/table.md" }
  command = ["python3", "table.py", self.out.table]
}

experiment "ranks" {
  targets = ["lora"]
  set     = { epochs = 1 }
  matrix  = { rank = [8, 16, 32], lr = [1e-4, 2e-4] }
  exclude = [{ rank = 32, lr = 2e-4 }]
  metric  = "lora.accuracy"
  goal    = "max"
}

remote "s3" "origin" {
  bucket   = "team-artifacts"
  prefix   = "llm"
  region   = "eu-west-1"
  endpoint = "http://127.0.0.1:7070"
  results  = "read-write"
}
remote "dir" "nas" { path = "/mnt/nas/lpipe" }

tracking "mlflow" { experiment = "qwen-lora" }
