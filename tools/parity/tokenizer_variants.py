#!/usr/bin/env python3
"""Ids of Hugging Face tokenizers for other kinds of byte-level tokenizers, on texts of our own.

    tokenizer_variants.py            writes engine/tokenizer/testdata/variants/{variants,ids}.jsonl anew
    tokenizer_variants.py check N    compares bin/lpipe with the library on N random texts for each variant

Needs tokenizers (0.23.3 made what is committed). The vocabulary of every variant is testdata/variants/tokenizer.json, which
`go test ./engine/tokenizer -update` trains with a pattern that cuts at white space only: its tokens reach across what other
patterns cut, so that the ids show the cuts. A variant replaces members of that file.
"""
import json, random, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "engine" / "tokenizer" / "testdata" / "variants"

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(space=False, regex=False):
    return {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def added(id, content, **rules):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | rules


def variants(base):
    """(name, members of tokenizer.json, members of its model) of each variant."""
    n = max(base["model"]["vocab"].values()) + 1
    bos = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
           "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
           "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [n], "tokens": ["<|begin_of_text|>"]}}}
    llama = {"normalizer": None, "pre_tokenizer": sequence(split(LLAMA3), byte_level()), "added_tokens": [added(n, "<|begin_of_text|>"), added(n + 1, "<|eot_id|>")]}
    cutting = [added(n, "<s>"), added(n + 1, "<mask>", lstrip=True), added(n + 2, "<end>", rstrip=True, special=False),
               added(n + 3, "Anna", single_word=True, special=False), added(n + 4, "ÄPFEL", normalized=True, special=False),
               added(n + 5, "é!", normalized=True), added(n + 6, "<s", special=False)]
    return [
        ("qwen2", {"pre_tokenizer": sequence(split(QWEN2), byte_level())}, {}),
        ("llama3", llama | {"post_processor": {"type": "Sequence", "processors": [byte_level(), bos]}}, {}),
        ("llama3, ignore_merges", llama, {"ignore_merges": True}),
        ("gpt2", {"normalizer": None, "pre_tokenizer": byte_level(regex=True), "added_tokens": [added(n, "<|endoftext|>", normalized=True)]}, {}),
        ("gpt2, prefix space", {"normalizer": None, "pre_tokenizer": byte_level(space=True, regex=True), "added_tokens": [added(n, "<s>", normalized=True)]}, {"unk_token": "<s>"}),
        ("smollm", {"normalizer": None, "pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level(regex=True))}, {}),
        ("digits, prefix space", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, byte_level(space=True, regex=True))}, {}),
        ("no pattern", {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, byte_level())}, {}),
        ("qwen3.5", {"pre_tokenizer": sequence(split(QWEN35), byte_level())}, {}),
        ("o200k", {"normalizer": None, "pre_tokenizer": sequence(split(O200K), byte_level())}, {}),
        ("deepseek", {"normalizer": {"type": "Sequence", "normalizers": []}, "pre_tokenizer": sequence(
            split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEPSEEK), byte_level())}, {}),
        ("removed, inverted", {"pre_tokenizer": sequence(split(QWEN2, "Removed", True), byte_level())}, {}),
        ("gaps dropped", {"pre_tokenizer": sequence(split(r"\p{L}+|\d++", "Removed", True), byte_level())}, {}),
        ("a literal", {"pre_tokenizer": sequence(split("an", kind="String"), split(r"(?:ab|c)+|[\x61-d]?\.\u002e|(?=e)e.", "Isolated"), byte_level())}, {}),
        ("added tokens", {"added_tokens": cutting}, {}),
        ("added tokens, prefix space", {"added_tokens": cutting, "pre_tokenizer": byte_level(space=True, regex=True)}, {}),
    ]


PIECES = [" ", "  ", "\n", "\r\n", "\t", "\n\n ", "'", "'s", "'LL", "'ſ", "'re", "a", "an", "Anna", "Annas", "The", "apples", "HTTPServer", "iPhone", "DON'T", "1", "42",
          "123", "1234567", "٣١", "½", "Ⅻ", "²", "!", "...", "==", "/", "//\n", "é", "e\u0301", "é!", "e\u0301!", "ß", "日本", "語、", "カタ", "12个苹果", "\u3000", "\u00a0", "\u0085", "\u0300",
          "한국어", "😀", "👋🏽", "<s>", "<s", "<mask>", "<end>", "ÄPFEL", "A\u0308PFEL", "<|endoftext|>", "<|eot_id|>", "<", "я", "Привет", "नमस्ते", "สวัสดี", "abcdefgh", "\u200d", "ﬃ", "Ω", "\x00", "_",
          "(x)", "[0]", "$5", "ab", "cab", "a..", "ed"]


def random_texts(n, seed):
    r = random.Random(seed)
    for _ in range(n):
        yield "".join(r.choice(PIECES) for _ in range(r.randint(1, 25)))


def make(base, members, model):
    from tokenizers import Tokenizer
    file = base | members
    file["model"] = base["model"] | model
    return file, Tokenizer.from_str(json.dumps(file))


def main():
    base = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))
    lines = (FOLDER.parent / "wide.txt").read_text(encoding="utf-8").split("\n")
    if sys.argv[1:2] == ["check"]:
        sys.exit(check(base, int(sys.argv[2]), ROOT / "bin" / "lpipe"))
    texts = lines + ["\n".join(lines)] + list(random_texts(60, 1))
    rows = [{"text": text, "ids": {}} for text in texts]
    with open(FOLDER / "variants.jsonl", "w", encoding="utf-8") as out:
        for name, members, model in variants(base):
            out.write(json.dumps({"name": name, "members": members, "model": model}, ensure_ascii=False) + "\n")
            _, t = make(base, members, model)
            for row in rows:
                row["ids"][name] = t.encode(row["text"], add_special_tokens=False).ids
    with open(FOLDER / "ids.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def check(base, n, lpipe):
    """Prints what differs; returns the number of differing texts."""
    import tokenizers
    wrong = 0
    for name, members, model in variants(base):
        file, t = make(base, members, model)
        texts = list(random_texts(n, 2))
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "tokenizer.json").write_text(json.dumps(file), encoding="utf-8")
            rows = "".join(json.dumps({"text": x}) + "\n" for x in texts)
            got = subprocess.run([lpipe, "tokenize", "--parse-special", "--tokenizer", folder], input=rows, capture_output=True, text=True, check=True).stdout
        for text, line in zip(texts, got.splitlines(), strict=True):
            want = t.encode(text, add_special_tokens=False).ids
            if json.loads(line)["ids"] != want:
                wrong += 1
                print(f"{name}: {text!r}\n  lpipe {json.loads(line)['ids']}\n  tokenizers {want}")
    print(f"tokenizers {tokenizers.__version__}: {len(variants(base))} kinds of tokenizer, {n} texts each, {wrong} differ")
    return wrong


if __name__ == "__main__":
    main()
