"""The data chain of a fine-tuning, beside Hugging Face: rows of R1-Distill-SFT's schema from Parquet to token ids, the same rows
through `lpipe repro` and through `datasets` and `tokenizers` with num_proc=2.

Both do: messages, NFC, control characters out, blanks together; exact duplicates out; think tags, boxed answer against the
reference, repetition out; near duplicates of prompts out by MinHash (112 permutations of word 5-grams, Jaccard 0.8); Qwen2.5's chat
template and tokens, none longer than 4,096. The rows are those of shared/data/gsm8k, repeated with other numbers in each copy.

    python tools/bench/data.py LPIPE SHARED WORK [ROWS]

Prints seconds, processor seconds (of all processes), rows a second, and what came out of each: the sequences must be the same
number within 0.5 %, and so must the tokens.
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import unicodedata

import numpy
import pyarrow
import pyarrow.parquet

lpipe, shared, work = (pathlib.Path(p).resolve() for p in sys.argv[1:4])
wanted = int(sys.argv[4]) if len(sys.argv) > 4 else 8000


def rows():
    """Copies of the sample: each changes every number of the prompt, and the names that begin sentences stay."""
    base = pyarrow.parquet.read_table(shared / "data/gsm8k/r1-sample.parquet")
    seen, parts, copy = 0, [], 0
    while seen < wanted:
        part = base.to_pylist()
        for i, row in enumerate(part):
            row["id"] = f"{row['id']}-{copy}"
            if copy:
                for column in ("reannotated_messages", "messages"):
                    for message in row[column] or []:
                        if message["role"] == "user":
                            words = (message["content"] or "").split(" ")
                            words[:: 3] = [f"{w}{chr(97 + copy % 26)}{(i * 7919 + copy) % 97}" for w in words[:: 3]]
                            message["content"] = " ".join(words)
        parts.append(pyarrow.Table.from_pylist(part, schema=base.schema))
        seen += len(part)
        copy += 1
    return pyarrow.concat_tables(parts).slice(0, wanted)


CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")
BLANKS = re.compile(r"(?<=\S)[ \t\u00a0]+(?=\S)")
LINES = re.compile(r"\n{3,}")
BOXED = re.compile(r"\\boxed\s*\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
LOOP = re.compile(r"(.{20,200}?)\1{7,}", re.S)
FOREIGN = re.compile("[\u0400-\u04ff\u0600-\u06ff\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]")
MOJIBAKE = re.compile("Ã[\x80-\xbf]|â€")
WORD = re.compile(r"[0-9a-z]+|[^\s0-9a-z]")


def clean(text):
    text = unicodedata.normalize("NFC", CONTROL.sub("", (text or "").replace("\r\n", "\n")))
    return LINES.sub("\n\n", BLANKS.sub(" ", text)).strip()


def boxed(text):
    found = BOXED.findall(text)
    return found[-1].replace(",", "").replace("$", "").replace(" ", "") if found else ""


def convert(row):
    messages = [{"role": m["role"], "content": clean(m["content"])} for m in row["reannotated_messages"] or []]
    reference = boxed(" ".join(m["content"] or "" for m in row["messages"] or [] if m["role"] == "assistant"))
    return {"id": row["id"], "messages": messages, "answer": reference}


def good(row):
    roles = [m["role"] for m in row["messages"]]
    if roles != ["user", "assistant"] or not all(m["content"] for m in row["messages"]):
        return False
    text = row["messages"][1]["content"]
    if text.count("<think>") != 1 or text.count("</think>") != 1 or any(mark in text for mark in ("<|im_", "\ufffd")):
        return False
    if any(MOJIBAKE.search(m["content"]) or "\ufffd" in m["content"] or "<|im_" in m["content"] for m in row["messages"]):
        return False
    if len(FOREIGN.findall(text)) > max(10, 0.02 * len(text)):
        return False
    thought, answer = text.split("</think>")
    if not thought.replace("<think>", "").strip() or not answer.strip() or thought.replace("<think>", "").strip() == answer.strip():
        return False
    given = boxed(answer)
    return bool(given) and (not row["answer"] or given == row["answer"]) and not LOOP.search(text)


RNG = numpy.random.RandomState(1)
MUL, ADD = RNG.randint(1, 2**31, 112).astype(numpy.uint64), RNG.randint(0, 2**31, 112).astype(numpy.uint64)


def sign(batch):
    signs = []
    for messages in batch["messages"]:
        words = WORD.findall(messages[0]["content"].lower())
        grams = {hash(tuple(words[i : i + 5])) & 0x7FFFFFFF for i in range(max(1, len(words) - 4))}
        values = numpy.fromiter(grams, numpy.uint64)[:, None] * MUL + ADD & numpy.uint64(0xFFFFFFFF)
        signs.append(values.min(axis=0).astype(numpy.uint32).tobytes())
    return {"sign": signs}


def near_duplicates(signs):
    """The rows that share a band of 7 with an earlier one and are alike."""
    first, drop = {}, set()
    for row, raw in enumerate(signs):
        sign = numpy.frombuffer(raw, numpy.uint32)
        for band in range(16):
            key = (band, sign[7 * band : 7 * band + 7].tobytes())
            other = first.setdefault(key, row)
            if other != row and (numpy.frombuffer(signs[other], numpy.uint32) == sign).mean() >= 0.8:
                drop.add(row)
    return drop


def tokenizer():
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    folder = shared / "data/qwen2.5"
    tok = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tok.normalizer = normalizers.NFC()
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    added = json.loads((folder / "added_tokens.json").read_text())
    tok.add_special_tokens([AddedToken(t, special=True) for t, _ in sorted(added.items(), key=lambda item: item[1])])
    return tok


SYSTEM = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"


def theirs(path):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    data = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(work / "hf"))
    data = data.map(convert, num_proc=2, remove_columns=data.column_names)
    seen = set()
    keys = [" ".join(m[0]["content"].lower().split()) if m else str(i) for i, m in enumerate(data["messages"])]
    data = data.select([i for i, key in enumerate(keys) if not (key in seen or seen.add(key))])
    data = data.filter(good, num_proc=2)
    data = data.map(sign, batched=True, num_proc=2)
    drop = near_duplicates(data["sign"])
    data = data.select([i for i in range(len(data)) if i not in drop]).remove_columns("sign")
    tok = tokenizer()

    def encode(batch):
        texts = [SYSTEM + "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages) for messages in batch["messages"]]
        return {"input_ids": [e.ids for e in tok.encode_batch(texts)]}

    data = data.map(encode, batched=True, num_proc=2)
    data = data.filter(lambda row: len(row["input_ids"]) <= 4096, num_proc=2)
    data.save_to_disk(str(work / "theirs"))
    return {"sequences": len(data), "tokens": sum(len(ids) for ids in data["input_ids"])}


PIPELINE = """
stage "convert" "qa" {{
  in     = {{ raw = "{raw}" }}
  format = "r1-distill-sft"
}}
stage "preprocess" "clean" {{ in = {{ data = stage.qa.data }} }}
stage "validate" "checked" {{
  in              = {{ data = stage.clean.data }}
  near_duplicates = true
  checks = {{
    think = {{ required = true }}
    boxed = {{ required = true }}
    roles = {{ system = false }}
  }}
}}
stage "tokenize" "tokens" {{ in = {{ data = stage.checked.data, tokenizer = "{tokenizer}" }} }}
"""


def ours(path):
    project = work / "project"
    project.mkdir()
    (project / "pipeline.hcl").write_text(PIPELINE.format(raw=path, tokenizer=shared / "data/qwen2.5"))
    subprocess.run([lpipe, "-C", project, "-q", "repro"], check=True)
    manifest = json.loads((project / "build/tokens/tokens/manifest.json").read_text())
    return {"sequences": manifest["sequences"], "tokens": manifest["tokens"]}


def measured(what, path):
    def used():
        return sum(u.ru_utime + u.ru_stime for u in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))

    before, start = used(), time.time()
    out = what(path)
    out["seconds"], out["cpu"] = time.time() - start, used() - before
    return out


def main():
    path = work / "rows.parquet"
    pyarrow.parquet.write_table(rows(), path, row_group_size=1000)
    got = {"lpipe": measured(ours, path), "datasets": measured(theirs, path)}
    import datasets
    import tokenizers

    print(f"{wanted} rows; datasets {datasets.__version__}, tokenizers {tokenizers.__version__}, num_proc=2; load {os.getloadavg()[0]:.1f}")
    for name, one in got.items():
        print(f"{name:9} {one['seconds']:7.2f} s {one['cpu']:7.2f} CPU s {wanted / one['seconds']:9.0f} rows/s {wanted / one['cpu']:9.0f} rows/CPU s"
              f" {one['sequences']:7} sequences {one['tokens']:9} tokens")
    a, b = got["lpipe"], got["datasets"]
    print(f"lpipe is {b['seconds'] / a['seconds']:.0f} x as fast by the clock, {b['cpu'] / a['cpu']:.0f} x by processor time")
    for what in ("sequences", "tokens"):
        if abs(a[what] - b[what]) > 0.005 * b[what]:
            sys.exit(f"the {what} differ: {a[what]} and {b[what]}")


main()
