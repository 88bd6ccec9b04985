"""Compares bin/lpipe with torch, transformers and PEFT; ends with exit code 1 if anything differs by more than it may.

forward.py     random models of every family and adapters saved by PEFT: logits, loss, gradients
quantised.py   4-bit models of bitsandbytes and of lpipe quantize
training.py    whole training runs on the demo's model, step by step; PEFT and transformers load what lpipe saved
preference.py  a run of method dpo beside TRL
ggufs.py       GGUF files, read by the gguf package and by transformers
"""
import shutil, sys, time, warnings
from pathlib import Path

import torch, transformers, peft

import forward, ggufs, preference, quantised, training
from common import ROOT, Report


def main():
    warnings.simplefilter("ignore", FutureWarning)  # of transformers, about PEFT's calls
    torch.manual_seed(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    folder = ROOT / "build" / "parity"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}\n")
    report, began = Report(), time.time()
    forward.compare(folder, report)
    quantised.compare(folder, report)
    training.compare(folder / "project", report)
    preference.compare(folder / "project", report)
    ggufs.compare(folder / "project", report)
    print(f"\n{report.rows} comparisons, {report.wrong} beyond their tolerance, {time.time() - began:.0f} s")
    sys.exit(report.wrong > 0)


if __name__ == "__main__":
    main()
