"""Random models and adapters: what torch computes, and what lpipe computes from the folders saved by transformers and PEFT."""
import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from common import Documents, difference, dump

STRETCHED = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# `family` is Qwen2 where it is left out. Ranks of 40 and 96 are above the width of keys and values, 36 and 64. `lora` is None where all weights are trained.
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
    dict(name="DoRA, all linear, padded", seed=8, layout="padded", lengths=[33, 70, 12],
         model=dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, intermediate_size=173, vocab_size=401, tie_word_embeddings=True),
         lora=dict(r=12, lora_alpha=24, target_modules="all-linear", use_dora=True)),
    dict(name="Qwen3, all linear, packed", family="qwen3", seed=9, layout="packed", lengths=[77, 130, 2, 41],
         model=dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=32, intermediate_size=173, vocab_size=401, tie_word_embeddings=True),
         lora=dict(r=16, lora_alpha=32, target_modules="all-linear")),
    dict(name="Qwen3, all weights, padded", family="qwen3", seed=10, layout="padded", lengths=[40, 111, 64],
         model=dict(hidden_size=72, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=1, head_dim=24, intermediate_size=104, vocab_size=301, tie_word_embeddings=False), lora=None),
    dict(name="Llama 3, rslora, packed", family="llama", seed=11, layout="packed", lengths=[301, 150, 61],
         model=dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, intermediate_size=173, vocab_size=401, tie_word_embeddings=False, rope_parameters=STRETCHED),
         lora=dict(r=16, lora_alpha=8, target_modules="all-linear", use_rslora=True)),
    dict(name="Llama 3, all weights, whole rows", family="llama", seed=12, layout="whole", lengths=[200] * 2,
         model=dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=176, vocab_size=320, tie_word_embeddings=True, rope_parameters=STRETCHED), lora=None),
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
    own = lambda n: n.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")
    want = {own(n): p.grad for n, p in model.named_parameters() if p.requires_grad}
    if have.keys() != want.keys():
        raise SystemExit(f"{name}: gradients of other tensors: {sorted(have.keys() ^ want.keys())[:6]}")
    worst = max(want, key=lambda n: difference(have[n], want[n]))
    report.add(f"{name}: gradients of {len(want)} tensors, worst {worst.removeprefix('base_model.model.model.')}", difference(have[worst], want[worst]), 5e-5)


def make(case, folder):
    """Saves a random model and a random adapter and returns torch's model with it."""
    torch.manual_seed(case["seed"])
    model = drawn(case.get("family", "qwen2"), **case["model"])
    model.save_pretrained(folder / "model")
    if case["lora"] is None:
        return model, None
    return adapted(model, folder / "adapter", **case["lora"]), folder / "adapter"


def drawn(family, **shape):
    """A random model."""
    shape = dict(max_position_embeddings=1024, rope_theta=1e6) | shape
    if "rope_parameters" in shape:
        shape.pop("rope_theta")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape)).float()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.3 * torch.randn_like(p))
            elif name.endswith("bias"):
                p.copy_(0.3 * torch.randn_like(p))
            else:  # sharp attention: with the usual 0.02 a wrong rotation would hardly show
                p.copy_(1.2 / p.shape[1] ** 0.5 * torch.randn_like(p))
    return model.eval()


def adapted(model, folder, **settings):
    """The model with a random adapter, which is saved."""
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_B." in name:
                p.copy_(0.1 * torch.randn_like(p))
    model.save_pretrained(folder)
    return model.eval()
