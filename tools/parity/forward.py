"""Random models and adapters: what torch computes, and what lpipe computes from the folders saved by transformers and PEFT."""
import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from common import Documents, difference, dump

# Ranks of 40 and 96 are above the width of keys and values, 36 and 64. `lora` is None where all weights are trained.
CASES = [
    dict(name="tied, all linear, padded", seed=1, layout="padded", lengths=[57, 31, 64, 12],
         model=dict(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=352, vocab_size=491, tie_word_embeddings=True),
         lora=dict(r=16, lora_alpha=32, target_modules="all-linear")),
    dict(name="untied, rank above keys' width, rslora, packed", seed=2, layout="packed", lengths=[5, 77, 130, 2, 41, 96, 33],
         model=dict(hidden_size=72, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3, intermediate_size=104, vocab_size=301, tie_word_embeddings=False),
         lora=dict(r=40, lora_alpha=16, target_modules="all-linear", use_rslora=True)),
    dict(name="head_dim, some modules, patterns, packed", seed=3, layout="packed", lengths=[301, 150, 61],
         model=dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=24, intermediate_size=173, vocab_size=700, tie_word_embeddings=False),
         lora=dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"layers.1.self_attn.q_proj": 3, "down_proj": 12}, alpha_pattern={"v_proj": 7})),
    dict(name="wide, all linear, rank 96, whole rows", seed=4, layout="whole", lengths=[160] * 4,
         model=dict(hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, intermediate_size=688, vocab_size=2048, tie_word_embeddings=True),
         lora=dict(r=96, lora_alpha=32, target_modules="all-linear")),
    dict(name="a pack of 4176 tokens", seed=7, layout="packed", lengths=[900, 512, 700, 1024, 640, 400],
         model=dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=80, vocab_size=333, tie_word_embeddings=True),
         lora=dict(r=8, lora_alpha=16, target_modules="all-linear")),
    dict(name="tied, all weights, packed", seed=5, layout="packed", lengths=[40, 3, 120, 64],
         model=dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1, intermediate_size=256, vocab_size=515, tie_word_embeddings=True), lora=None),
    dict(name="untied, all weights, padded", seed=6, layout="padded", lengths=[20, 100, 63],
         model=dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=176, vocab_size=320, tie_word_embeddings=False), lora=None),
]


def compare(folder, report):
    for case in CASES:
        one = folder / f"case-{case['seed']}"
        one.mkdir()
        documents = Documents.random(random.Random(case["seed"]), case["model"]["vocab_size"], case["lengths"], case["layout"])
        model, adapter = make(case, one)
        have = dump(one / "model", adapter, documents, one, gradients=True)
        out = documents.forward(model)
        out.loss.backward()
        report.add(f"{case['name']}: logits", difference(documents.flat(have.pop("logits")), documents.flat(out.logits.detach())), 2e-5)
        report.add(f"{case['name']}: loss", difference(have.pop("loss"), out.loss.detach()), 2e-6)
        have.pop("tokens")
        gradients(case["name"], have, model, report)


def gradients(name, have, model, report):
    want = {n.replace(".default", ""): p.grad for n, p in model.named_parameters() if p.requires_grad}
    if have.keys() != want.keys():
        raise SystemExit(f"{name}: gradients of other tensors: {sorted(have.keys() ^ want.keys())[:6]}")
    worst = max(want, key=lambda n: difference(have[n], want[n]))
    report.add(f"{name}: gradients of {len(want)} tensors, worst {worst.removeprefix('base_model.model.model.')}", difference(have[worst], want[worst]), 5e-5)


def make(case, folder):
    """Saves a random model and a random adapter and returns torch's model with it."""
    torch.manual_seed(case["seed"])
    model = Qwen2ForCausalLM(Qwen2Config(max_position_embeddings=1024, rope_theta=1e6, **case["model"])).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.3 * torch.randn_like(p))
            else:  # sharp attention: with the usual 0.02 a wrong rotation would hardly show
                p.copy_(1.2 / p.shape[1] ** 0.5 * torch.randn_like(p))
    model.save_pretrained(folder / "model")
    if case["lora"] is None:
        return model, None
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_B." in name:
                p.copy_(0.1 * torch.randn_like(p))
    model.save_pretrained(folder / "adapter")
    return model.eval(), folder / "adapter"
