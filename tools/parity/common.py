"""What the comparisons share: running lpipe, batches, and the table of differences."""
import subprocess, sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
IGNORED = -100


class Report:
    """Prints a row for each comparison: the largest difference, relative to the largest value expected."""

    def __init__(self):
        self.rows = self.wrong = 0
        print("| compared | difference | may be | |\n|---|---|---|---|")

    def add(self, what, difference, limit):
        ok = difference <= limit  # false for NaN
        self.rows, self.wrong = self.rows + 1, self.wrong + (not ok)
        print(f"| {what} | {difference:.1e} | {limit:.0e} | {'ok' if ok else 'DIFFERS'} |", flush=True)


def difference(have, want):
    """The largest difference of two tensors or lists, relative to the largest value wanted."""
    have, want = torch.as_tensor(have).double(), torch.as_tensor(want).double()
    if have.shape != want.shape:
        raise SystemExit(f"shape {tuple(have.shape)} instead of {tuple(want.shape)}")
    return ((have - want).abs().max() / want.abs().max().clamp_min(1e-30)).item()


def lpipe(*args, cwd=ROOT):
    done = subprocess.run([str(ROOT / "bin" / "lpipe"), *map(str, args)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"lpipe {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout


class Documents:
    """Token ids and labels of some documents, for lpipe laid out in one of three ways, for torch always one a row.

    whole   rows of equal length
    padded  rows of the longest one's length, and an attention mask
    packed  one behind the other in a single row, told apart by sequence_ids
    """

    def __init__(self, documents, layout):
        self.documents, self.layout = documents, layout
        longest = max(len(ids) for ids, _ in documents)
        self.ids = torch.zeros(len(documents), longest, dtype=torch.long)
        self.labels = torch.full_like(self.ids, IGNORED)
        self.mask = torch.zeros_like(self.ids)
        for row, (ids, labels) in enumerate(documents):
            self.ids[row, : len(ids)] = torch.tensor(ids)
            self.labels[row, : len(ids)] = torch.tensor(labels)
            self.mask[row, : len(ids)] = 1

    @staticmethod
    def random(rng, vocabulary, lengths, layout):
        documents = []
        for n in lengths:
            ids = [rng.randrange(vocabulary) for _ in range(n)]
            labels = [i if rng.random() < 0.6 else IGNORED for i in ids]
            labels[1] = ids[1]
            documents.append((ids, labels))
        return Documents(documents, layout)

    def save(self, path):
        """Writes what `lpipe engine dump` reads."""
        if self.layout != "packed":
            tensors = {"input_ids": self.ids, "labels": self.labels}
            if self.layout == "padded":
                tensors["attention_mask"] = self.mask
        else:
            row = lambda values: torch.tensor([values])
            tensors = {
                "input_ids": row([i for ids, _ in self.documents for i in ids]),
                "labels": row([l for _, labels in self.documents for l in labels]),
                "position_ids": row([p for ids, _ in self.documents for p in range(len(ids))]),
                "sequence_ids": row([n for n, (ids, _) in enumerate(self.documents) for _ in ids]),
            }
        save_file(tensors, path)

    def flat(self, by_token):
        """The rows [documents, time, …] of torch, or lpipe's [batch, time, …], as [token, …] without padding."""
        if self.layout == "packed" and by_token.shape[0] == 1:
            return by_token[0]
        return by_token[self.mask.bool()]

    def forward(self, model):
        return model(input_ids=self.ids, attention_mask=self.mask, labels=self.labels)


def dump(model, adapter, documents, folder, gradients=False):
    """What lpipe computes for documents: a dictionary of logits, loss, tokens, and gradients by name."""
    documents.save(folder / "batch.safetensors")
    extra = ["--adapter", adapter] if adapter else []
    extra += ["--gradients"] if gradients else []
    lpipe("engine", "dump", "--model", model, "--batch", folder / "batch.safetensors", "--out", folder / "dump.safetensors", *extra)
    return load_file(folder / "dump.safetensors")
