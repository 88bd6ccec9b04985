"""4-bit models: lpipe reads what transformers and bitsandbytes save and computes what torch does with the values that bitsandbytes
dequantises; lpipe quantize writes what bitsandbytes does."""
import random

import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from common import Documents, difference, dump, lpipe
from forward import adapted, drawn, gradients

SHAPE = dict(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=256, vocab_size=401, tie_word_embeddings=True)


def compare(folder, report):
    for double in (False, True):
        name = "NF4, double" if double else "NF4"
        one = folder / f"nf4-{double}"
        one.mkdir()
        torch.manual_seed(21)
        plain = drawn("qwen2", **SHAPE)
        plain.save_pretrained(one / "plain")
        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double, bnb_4bit_compute_dtype=torch.float32)
        quantised = load(one / "plain", quantization_config=settings)
        quantised.save_pretrained(one / "model")
        lpipe("quantize", "--model", one / "plain", "--out", one / "ours", *(["--double"] if double else []))
        written(name, one, double, report)
        restore(plain, quantised)
        read = drawn("qwen2", **SHAPE)
        restore(read, load(one / "ours"))
        worst = max(difference(p, q) for p, q in zip(read.state_dict().values(), plain.state_dict().values()) if p.dim() == 2 and p.shape[0] != SHAPE["vocab_size"])
        report.add(f"{name}: what transformers and bitsandbytes read of lpipe quantize", worst, 1e-2 if double else 0)

        documents = Documents.random(random.Random(21), SHAPE["vocab_size"], [40, 25, 61], "padded")
        model = adapted(plain, one / "adapter", r=8, lora_alpha=16, target_modules="all-linear")
        have = dump(one / "model", one / "adapter", documents, one, gradients=True)
        out = documents.forward(model)
        out.loss.backward()
        report.add(f"{name}: logits", difference(documents.flat(have.pop("logits")), documents.flat(out.logits.detach())), 2e-5)
        report.add(f"{name}: loss", difference(have.pop("loss"), out.loss.detach()), 2e-6)
        have.pop("tokens")
        gradients(name, have, model, report)


def load(path, **more):
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, device_map="cpu", **more).eval()


def restore(plain, quantised):
    """Puts into plain what the codes stand for. bitsandbytes' own passes on a processor round to bfloat16, so they are no measure."""
    with torch.no_grad():
        for name, layer in plain.named_modules():
            if isinstance(layer, torch.nn.Linear) and name != "lm_head":
                weight = quantised.get_submodule(name).weight
                layer.weight.copy_(dequantize_4bit(weight.data, weight.quant_state).reshape(layer.weight.shape))


def written(name, one, double, report):
    """lpipe's file beside bitsandbytes': codes of weights are the same; its search for the nested scales' codes misses the nearest now and then."""
    ours, theirs = load_file(one / "ours" / "model.safetensors"), load_file(one / "model" / "model.safetensors")
    report.add(f"{name}: tensors that only one of both writes", len(ours.keys() ^ theirs.keys()), 0)
    weights = [n for n in theirs if theirs[n].dtype == torch.uint8 and "absmax" not in n and "quant_state" not in n]
    report.add(f"{name}: codes that differ in {len(weights)} weights", sum((ours[n] != theirs[n]).sum().item() for n in weights), 0)
    scales = [n for n in theirs if n.endswith(".weight.absmax")]
    if not double:
        report.add(f"{name}: scales that differ", sum((ours[n] != theirs[n]).sum().item() for n in scales), 0)
        return
    apart = torch.cat([(ours[n].int() - theirs[n].int()).abs().flatten() for n in scales])
    report.add(f"{name}: largest distance of a nested code", apart.max().item(), 1)
    report.add(f"{name}: share of nested codes that differ, of {apart.numel()}", (apart > 0).float().mean().item(), 0.01)
