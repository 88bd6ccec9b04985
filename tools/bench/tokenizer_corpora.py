#!/usr/bin/env python3
"""Writes the three texts that the tokenizer benches read, into a folder: reasoning.txt (50 MB), python.txt (21 MB), scripts.txt (19 MB).

    tokenizer_corpora.py FOLDER [SHARE]    SHARE, such as 0.1, makes them smaller

reasoning  real rows of word problems with reasoning (../shared/data/gsm8k), again and again; from the second time on, one word in
           thirty is another English word, drawn by its frequency, so that new words keep coming as in real text
python     the .py files of this Python and of its packages, in a fixed order, as many as it takes
scripts    paragraphs in 36 languages, words drawn by their frequency; ten of them are written without spaces or in scripts of their own

Word frequencies are wordfreq's (PyPI). The same machine gives the same texts; nothing of them is committed.
"""
import json, os, random, sys, sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LPIPE_SHARED", ROOT.parent / "shared"))
LANGUAGES = "ar bg bn ca cs da de el en es fa fi fil fr he hi hu id is it ja ko lt lv mk ms nl pl pt ro ru sv ta tr uk zh".split()


def drawing(language, r):
    """A function that draws n words by frequency."""
    from wordfreq import get_frequency_dict
    words = get_frequency_dict(language, wordlist="best")
    names = sorted(words)
    weights, total = [], 0.0
    for w in names:
        total += words[w]
        weights.append(total)
    return lambda n: r.choices(names, cum_weights=weights, k=n)


def reasoning(size):
    rows = []
    for name in ("r1-sample.jsonl", "train.jsonl", "test.jsonl"):
        for line in open(SHARED / "data" / "gsm8k" / name, encoding="utf-8"):
            row = json.loads(line)
            texts = [m["content"] for m in row["messages"]] if "messages" in row else [v for v in row.values() if isinstance(v, str)]
            rows.append("\n".join(texts))
    r = random.Random(1)
    draw = drawing("en", r)
    out, done = [], 0
    while done < size:
        for row in rows:
            if done >= size:
                break
            if len(out) >= len(rows):
                words = row.split(" ")
                for new in draw(len(words) // 30):
                    words[r.randrange(len(words))] = new
                row = " ".join(words)
            out.append(row + "\n\n")
            done += len(row.encode()) + 2
    return "".join(out)


def python_source(size):
    out, done = [], 0
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")):
        for path in sorted(Path(folder).rglob("*.py")):
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError:
                continue
            out.append(text)
            done += len(text.encode())
            if done >= size:
                return "\n".join(out)
    return "\n".join(out)


def scripts(size):
    r = random.Random(2)
    draws = {l: drawing(l, r) for l in LANGUAGES}
    out, done = [], 0
    while done < size:
        for language, draw in draws.items():
            joined = language in ("ja", "zh")
            sentences = []
            for _ in range(r.randint(3, 8)):
                words = draw(r.randint(5, 20))
                end = {"ja": "。", "zh": "。", "hi": "। ", "fa": ". ", "ar": "، "}.get(language, ". ")
                text = ("" if joined else " ").join(words)
                sentences.append((text if joined else text[:1].upper() + text[1:]) + end)
            if r.random() < 0.2:
                sentences.append(str(r.randrange(10000)))
            paragraph = "".join(sentences) + "\n\n"
            out.append(paragraph)
            done += len(paragraph.encode())
    return "".join(out)


def main():
    folder, share = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    folder.mkdir(parents=True, exist_ok=True)
    for name, make, megabytes in (("reasoning", reasoning, 50), ("python", python_source, 21), ("scripts", scripts, 19)):
        file = folder / f"{name}.txt"
        if not file.exists():
            part = file.with_suffix(".part")
            # Line ends are cut to \n and NFC is left to the tokenizers, but one character: tiktoken's and gigatoken's counts must
            # be those of text that is NFC already.
            import unicodedata
            part.write_bytes(unicodedata.normalize("NFC", make(int(megabytes * share * 1e6))).encode())
            part.rename(file)
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
