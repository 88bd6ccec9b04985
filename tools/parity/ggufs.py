"""GGUF files that lpipe wrote, read by the gguf package of llama.cpp and, whole models, by transformers."""
import gguf, numpy, torch
from gguf.quants import dequantize, quantize
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from common import difference, lpipe
from forward import STRETCHED, drawn
from training import base, folder

KINDS = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16, "bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}


def compare(project, report):
    model, adapter = project / "model", folder(project, "lora", "adapter")
    weights = {n: t.float() for n, t in load_file(model / "model.safetensors").items()}
    config = base(project).config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for kind in KINDS:
        out = project / f"{kind}.gguf"
        lpipe("gguf", "--model", model, "--type", kind, "--out", out)
        reader = gguf.GGUFReader(out)
        wanted = {names.get_name(n, try_suffixes=(".weight", ".bias")): t.numpy() for n, t in weights.items() if n != "lm_head.weight" or not config.tie_word_embeddings}
        report.add(f"GGUF {kind}: tensors missing, unknown or of other bytes", bytes_apart(reader, wanted, kind), 0)
    settings(gguf.GGUFReader(project / "f32.gguf"), model, config, report)
    whole(project, adapter, report)
    for name in ("lora", "drawn"):
        alone(project, name, names, report)
    for family, arch, more in (("qwen3", gguf.MODEL_ARCH.QWEN3, dict(head_dim=128)), ("llama", gguf.MODEL_ARCH.LLAMA, {}), ("llama", gguf.MODEL_ARCH.LLAMA, dict(rope_parameters=STRETCHED))):
        other(project, family, arch, more, report)


def other(project, family, arch, more, report):
    """A random model of another family with the demo's tokenizer: bytes and settings, and transformers' logits of the file."""
    one = project / f"{family}-{len(more)}"
    vocabulary = base(project).config.vocab_size
    torch.manual_seed(41)
    model = drawn(family, hidden_size=96, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, intermediate_size=160, vocab_size=vocabulary, tie_word_embeddings=False, **more)
    model.save_pretrained(one)
    for path in (project / "model").iterdir():
        if not (one / path.name).exists():
            (one / path.name).write_bytes(path.read_bytes())
    lpipe("gguf", "--model", one, "--type", "f32", "--out", one / "f32.gguf")
    reader, c = gguf.GGUFReader(one / "f32.gguf"), model.config
    names = gguf.get_tensor_name_map(arch, c.num_hidden_layers)
    wanted = {}
    for name, t in model.state_dict().items():
        heads = {"q_proj": c.num_attention_heads, "k_proj": c.num_key_value_heads}.get(name.split(".")[-2]) if family == "llama" else None
        if heads:  # permute of convert_hf_to_gguf.py
            t = t.reshape(heads, 2, t.shape[0] // heads // 2, *t.shape[1:]).swapaxes(1, 2).reshape(t.shape)
        wanted[names.get_name(name, try_suffixes=(".weight", ".bias"))] = t.contiguous().numpy()
    stretched = "rope_parameters" in more
    if stretched:
        plain = 1 / STRETCHED["rope_theta"] ** (torch.arange(0, 16, 2).float() / 16)
        wanted["rope_freqs.weight"] = (plain / model.model.rotary_emb.inv_freq).float().numpy()
        near = {t.name: t.data for t in reader.tensors}["rope_freqs.weight"]
        report.add("GGUF llama, stretched: what frequencies are divided by", difference(torch.tensor(near.copy()), torch.tensor(wanted["rope_freqs.weight"])), 1e-6)
        wanted["rope_freqs.weight"] = near.copy()
    what = f"GGUF {family}{', stretched' if stretched else ''}"
    report.add(f"{what}: tensors missing, unknown or of other bytes", bytes_apart(reader, wanted, "f32"), 0)
    report.add(f"{what}: settings that differ", sum(value(reader, n) != v for n, v in {
        "general.architecture": family, f"{family}.block_count": 2, f"{family}.attention.head_count_kv": 2, f"{family}.embedding_length": 96,
        f"{family}.rope.dimension_count": 128 if family == "qwen3" else 16, f"{family}.rope.freq_base": 5e5 if stretched else 1e6,
        f"{family}.vocab_size": vocabulary if family == "llama" else None, f"{family}.attention.key_length": 128 if family == "qwen3" else None}.items()), 0)
    if stretched:
        return  # transformers' reader does not know rope_freqs
    ids = torch.arange(40).reshape(2, 20) + 60
    with torch.no_grad():
        have = AutoModelForCausalLM.from_pretrained(one, gguf_file="f32.gguf", dtype=torch.float32).eval()(input_ids=ids).logits
        report.add(f"{what}: logits, transformers with the file and with the model", difference(have, model(input_ids=ids).logits), 2e-5)


def bytes_apart(reader, wanted, kind):
    """How many tensors are not what gguf itself makes of the weights."""
    have = {t.name: t for t in reader.tensors}
    wrong = len(set(have) ^ set(wanted))
    for name in set(have) & set(wanted):
        t, w = have[name], wanted[name]
        as_kind = KINDS[kind] if w.ndim > 1 else KINDS["f32"]
        if as_kind == KINDS["q8_0"] and w.shape[-1] % 32:
            as_kind = KINDS["f16"]
        same = t.tensor_type == as_kind and [int(d) for d in reversed(t.shape)] == list(w.shape)
        wrong += not (same and numpy.array_equal(numpy.asarray(t.data).view(numpy.uint8).ravel(), quantize(w, as_kind).view(numpy.uint8).ravel()))
    return wrong


def value(reader, name):
    field = reader.get_field(name)
    return None if field is None else field.contents()


def settings(reader, model, config, report):
    tok = AutoTokenizer.from_pretrained(model)
    special = gguf.SpecialVocab(model, load_merges=True, n_vocab=config.vocab_size)
    added, by_id = tok.get_added_vocab(), {i: t for t, i in tok.get_vocab().items()}
    tokens = [by_id.get(i, f"[PAD{i}]") for i in range(config.vocab_size)]
    control = lambda i, t: tok.added_tokens_decoder[i].special or (t.startswith("<|") and t.endswith("|>"))
    kinds = [
        gguf.TokenType.UNUSED if i not in by_id else gguf.TokenType.NORMAL if t not in added else gguf.TokenType.CONTROL if control(i, t) else gguf.TokenType.USER_DEFINED
        for i, t in enumerate(tokens)
    ]
    want = {
        "general.architecture": "qwen2", "general.type": "model", "qwen2.block_count": config.num_hidden_layers, "qwen2.context_length": config.max_position_embeddings,
        "qwen2.embedding_length": config.hidden_size, "qwen2.feed_forward_length": config.intermediate_size, "qwen2.attention.head_count": config.num_attention_heads,
        "qwen2.attention.head_count_kv": config.num_key_value_heads, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(k) for k in kinds], "tokenizer.ggml.merges": special.merges, "tokenizer.chat_template": special.chat_template.rstrip(),  # blanks at the end mean nothing to Jinja
       
        "general.file_type": int(gguf.LlamaFileType.ALL_F32), "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "tokenizer.ggml.add_bos_token": special.add_special_token.get("bos", False),
    } | {f"tokenizer.ggml.{ {'pad': 'padding', 'unk': 'unknown'}.get(k, k) }_token_id": v for k, v in special.special_token_ids.items()}
    for name, v in want.items():
        if value(reader, name) != v:
            print(f"{name}: {str(value(reader, name))[:200]} where {str(v)[:200]} is wanted")
    report.add(f"GGUF: settings that differ, of {len(want)}", sum(value(reader, n) != v for n, v in want.items()), 0)


def whole(project, adapter, report):
    """transformers computes with the file what PEFT computes with the adapter."""
    lpipe("gguf", "--model", project / "model", "--adapter", adapter, "--type", "f32", "--out", project / "whole.gguf")
    ids = torch.arange(40).reshape(2, 20) + 60
    with torch.no_grad():
        want = PeftModel.from_pretrained(base(project), adapter).eval()(input_ids=ids).logits
        have = AutoModelForCausalLM.from_pretrained(project, gguf_file="whole.gguf", dtype=torch.float32).eval()(input_ids=ids).logits
    report.add("GGUF with the adapter added: logits, transformers and PEFT", difference(have, want), 2e-5)


def alone(project, name, names, report):
    """scale·B A of the file, as llama.cpp computes it (alpha over the rank of lora_b), and as PEFT does."""
    adapter = folder(project, name, "adapter")
    lpipe("gguf", "--model", project / "model", "--adapter", adapter, "--alone", "--type", "f32", "--out", project / "alone.gguf")
    reader = gguf.GGUFReader(project / "alone.gguf")
    have = {t.name: torch.from_numpy(dequantize(t.data, t.tensor_type).copy()) for t in reader.tensors}
    alpha = value(reader, "adapter.lora.alpha")
    kind = value(reader, "general.type"), value(reader, "adapter.type"), value(reader, "general.architecture")
    worst, modules = 0.0 if kind == ("adapter", "lora", "qwen2") else 1.0, 0
    for module, layer in PeftModel.from_pretrained(base(project), adapter).named_modules():
        if hasattr(layer, "get_delta_weight"):
            own = names.get_name(module.removeprefix("base_model.model."), try_suffixes=()) + ".weight"
            a, b = have.pop(own + ".lora_a"), have.pop(own + ".lora_b")
            worst = max(worst, difference(alpha / b.shape[1] * (b @ a), layer.get_delta_weight("default").detach()))
            modules += 1
    report.add(f"GGUF of adapter {name}: scale·BA of {modules} modules, gguf and PEFT", worst + len(have), 1e-6)
