"""A run of stage "train" with method dpo beside TRL's DPOTrainer: numbers of each step, and the adapter behind them in PEFT."""
import json

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from common import Documents, difference, lpipe
from training import base, folder

STEPS, BETA, RATE = 12, 0.2, 5e-4
PIPELINE = """
source "model" { path = "model" }
source "first" { path = "first" }
stage "train" "preferred" {
  in              = { model = source.model.path, pairs = "pairs.jsonl", from = source.first.path }
  method          = "dpo"
  beta            = %g
  rank            = 8
  alpha           = 16
  lr              = %g
  schedule        = "linear"
  warmup          = 0
  weight_decay    = 0.01
  steps           = %d
  batch_tokens    = %d
  sequence_length = 512
  precision       = "fp32"
}
"""


def compare(project, report):
    rows = preferences(project)
    model, trainer = trl(project, rows)
    tokens = sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in trainer.train_dataset)
    (project / "preferred.pipeline.hcl").write_text(PIPELINE % (BETA, RATE, STEPS, tokens))
    lpipe("--file", "preferred.pipeline.hcl", "repro", cwd=project)
    trainer.train()
    want = [log for log in trainer.state.log_history if "loss" in log]
    lines = map(json.loads, next((project / "build" / "preferred").glob("**/curve.jsonl")).read_text().splitlines())
    have = [line for line in lines if "train/loss" in line]
    assert len(have) == len(want) == STEPS
    for name in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"):
        values = [[float(log[key]) for log in logs] for logs, key in ((have, f"train/{name}"), (want, name))]
        report.add(f"DPO: {name} of {STEPS} steps, to {values[1][-1]:.3f}", difference(*values), 5e-4)
    documents = Documents([(r["prompt_ids"] + r["chosen_ids"],) * 2 for r in trainer.train_dataset], "padded")
    with torch.no_grad():
        expected = documents.flat(documents.forward(model.eval()).logits)
        loaded = PeftModel.from_pretrained(base(project), folder(project, "preferred", "adapter")).eval()
        report.add("DPO: logits after the run, lpipe's adapter in PEFT", difference(documents.flat(documents.forward(loaded).logits), expected), 1e-3)


def preferences(project):
    """The demo's problems with their own answer and the next one's, and two plain texts are left to the fixtures."""
    rows = [json.loads(line) for line in next((project / "build" / "qa").glob("**/*.jsonl")).read_text().splitlines()][:13]
    turn = lambda role, text: [{"role": role, "content": text}]
    part = lambda row, role: next(m["content"] for m in row["messages"] if m["role"] == role)
    pairs = [dict(prompt=turn("user", part(a, "user")), chosen=turn("assistant", part(a, "assistant")), rejected=turn("assistant", part(b, "assistant")))
             for a, b in zip(rows, rows[1:])]
    (project / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    return pairs


def trl(project, rows):
    torch.manual_seed(31)
    model = get_peft_model(base(project), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.save_pretrained(project / "first")
    settings = DPOConfig(output_dir=project / "trl", beta=BETA, max_length=None, per_device_train_batch_size=len(rows), max_steps=STEPS,
                         learning_rate=RATE, lr_scheduler_type="linear", warmup_steps=0, weight_decay=0.01, max_grad_norm=1.0, logging_steps=1,
                         report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True)
    trainer = DPOTrainer(model=model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(project / "model"))
    # lpipe's reference is the base without any adapter; TRL takes a copy of one that is there before.
    if "ref" in model.peft_config:
        model.delete_adapter("ref")
        model.set_adapter("default")
    return model, trainer
