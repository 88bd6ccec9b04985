"""Whole runs of pipeline.hcl beside a plain torch loop, and what lpipe saved as transformers and PEFT load it."""
import json, math, shutil, struct
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from common import IGNORED, ROOT, Documents, difference, dump, lpipe

ROWS = 60
HERE = Path(__file__).resolve().parent


def compare(project, report):
    documents = prepare(project)
    batch = sum(len(ids) for ids, _ in documents.documents)
    lpipe("repro", "--var", f"batch={batch}", cwd=project)
    lora_run(project, documents, report)
    full_run(project, documents, report)
    for name in ("lora", "drawn"):
        saved(project, name, documents, report)


def prepare(project):
    """Makes the project, with a new adapter of PEFT's to start from, and returns its tokenised rows."""
    project.mkdir()
    shutil.copy(HERE / "pipeline.hcl", project)
    shutil.copytree(ROOT / "cmd" / "lpipe" / "demo" / "model", project / "model")
    lpipe("init", "--demo", project / "demo")
    rows = (project / "demo" / "data" / "rows.jsonl").read_text().splitlines(keepends=True)
    (project / "rows.jsonl").write_text("".join(rows[:ROWS]))
    torch.manual_seed(1)
    get_peft_model(base(project), LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(project / "start")
    lpipe("repro", "tokens", cwd=project)
    return Documents(list(read_tokens(next((project / "build" / "tokens").glob("**/tokens.bin")).parent)), "packed")


def read_tokens(folder):
    """The ids and labels of a token folder's rows, cut behind the last target: what follows teaches nothing."""
    tokens, mask, index = ((folder / name).read_bytes() for name in ("tokens.bin", "mask.bits", "seq.idx"))
    for at, _, n, _ in struct.iter_unpack("<QQII", index):
        ids = list(struct.unpack_from(f"<{n}I", tokens, 4 * at))
        trained = [mask[(at + i) // 8] >> ((at + i) % 8) & 1 for i in range(n)]
        end = max((i + 1 for i in range(1, n) if trained[i]), default=0)
        if end:
            yield ids[:end], [i if t else IGNORED for i, t in zip(ids[:end], trained)]


def base(project):
    return AutoModelForCausalLM.from_pretrained(project / "model", dtype=torch.float32)


def torch_run(model, documents, groups, lr, schedule, warmup, steps):
    """The loss before each step."""
    parameters = [p for g in groups for p in g["params"]]
    optimizer = torch.optim.AdamW(groups, lr=lr)
    rate = schedule(optimizer, warmup, steps)
    losses = []
    for _ in range(steps):
        loss = documents.forward(model).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def lpipe_losses(project, name):
    lines = map(json.loads, next((project / "build" / name).glob("**/curve.jsonl")).read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


def lora_run(project, documents, report):
    model = PeftModel.from_pretrained(base(project), project / "start", is_trainable=True).eval()
    groups = [dict(params=[p for p in model.parameters() if p.requires_grad], weight_decay=0.01)]
    losses = torch_run(model, documents, groups, 0.003, get_cosine_schedule_with_warmup, 4, 40)
    steps("LoRA", lpipe_losses(project, "lora"), losses, report)


def full_run(project, documents, report):
    model = base(project).eval()
    plain = [p for n, p in model.named_parameters() if n.endswith("bias") or "norm" in n]
    decayed = [p for n, p in model.named_parameters() if not (n.endswith("bias") or "norm" in n)]
    groups = [dict(params=decayed, weight_decay=0.1), dict(params=plain, weight_decay=0.0)]
    losses = torch_run(model, documents, groups, 0.001, get_linear_schedule_with_warmup, 4, 20)
    steps("all weights", lpipe_losses(project, "full"), losses, report)
    trained = folder(project, "full", "model")
    with torch.no_grad():
        want, have = documents.forward(model), documents.forward(AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32).eval())
    report.add("all weights: loss after the run, lpipe's model in transformers", difference(have.loss, want.loss), 2e-4)
    own = dump(trained, None, documents, project)["logits"]
    report.add("all weights: logits of the saved model, lpipe and transformers", difference(documents.flat(own), documents.flat(have.logits)), 2e-5)


def steps(name, have, want, report):
    apart = [abs(h - w) / w for h, w in zip(have, want, strict=True)]
    report.add(f"{name}: loss of {len(want)} steps, from {want[0]:.3f} to {want[-1]:.3f}, lpipe's to {have[-1]:.3f}", max(apart), 2e-4)


def folder(project, stage, port):
    found = [f.parent for f in (project / "build" / stage).glob("**/*.json") if f.name == ("adapter_config.json" if port == "adapter" else "config.json")]
    return found[0]


def saved(project, name, documents, report):
    """PEFT loads the adapter, transformers the merged model: logits as lpipe computes them, and the same answers."""
    adapter, merged = folder(project, name, "adapter"), folder(project, name + "_merged", "model")
    own = documents.flat(dump(project / "model", adapter, documents, project)["logits"])
    peft = PeftModel.from_pretrained(base(project), adapter).eval()
    alone = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    with torch.no_grad():
        want = documents.flat(documents.forward(peft).logits)
        report.add(f"adapter {name}: logits, lpipe and PEFT", difference(own, want), 2e-5)
        report.add(f"adapter {name}: logits, merged model in transformers and PEFT", difference(documents.flat(documents.forward(alone).logits), want), 2e-5)
        answers(project, adapter, peft, name, documents, report)
        unmerged = peft.merge_and_unload().state_dict()
    weights = alone.state_dict()
    worst = max(unmerged, key=lambda n: difference(weights[n], unmerged[n]))
    report.add(f"adapter {name}: weights merged by lpipe and by PEFT, worst {worst.removeprefix('model.')}", difference(weights[worst], unmerged[worst]), 1e-6)


def answers(project, adapter, model, name, documents, report):
    """Greedy answers to the first prompts, token by token."""
    prompts = [[i for i, label in zip(ids, labels) if label == IGNORED] for ids, labels in documents.documents[:5]]
    (project / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    out = lpipe("generate", "--model", project / "model", "--adapter", adapter, "--ids", project / "prompts.jsonl", "--max-tokens", 24, "--json")
    wrong = 0
    for prompt, line in zip(prompts, out.splitlines(), strict=True):
        ids = torch.tensor([prompt])
        want = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0)[0, len(prompt):].tolist()
        have = json.loads(line)["ids"]
        wrong += have != want[: len(have)] or len(want) - len(have) > 1  # torch keeps the token that ends it
    report.add(f"adapter {name}: greedy answers that differ, of {len(prompts)}", wrong, 0)
