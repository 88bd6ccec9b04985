#!/usr/bin/env python3
"""The table of `make bench-pipeline`: lpipe beside ninja, make, git, dud, DVC and a bare Go loop (limit), in one run.

  ROWS="start noop"   these groups alone: start, stages, stages20k, files, million, big, s3
  REPEAT=5            how often short work is measured; the median counts (3)
  LARGE=1             million files, and files of 1 and 4 GiB, too (also --large)
  LPIPE_BENCH=quick   smaller sizes, without DVC and s3
  LPIPE_BENCH_DIR     where the work is done; LPIPE_BENCH_DUD: a dud that is here already

Prints Markdown; --json FILE writes every figure. Peers are installed, pinned, into build/bench; one that cannot be is
named with the reason. What was made is deleted at the end of all, where the disk has room: for five minutes ext4 without a journal
looks at each inode that was given up whenever it makes one, and all rows after a deletion would pay for it. Peak memory is that of the largest process of a command.
"""
import argparse, json, os, random, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from peers import ROOT, Peers
import work

GROUPS = ["start", "stages", "stages20k", "files", "million", "big", "s3"]
TOOLS = ["limit", "ninja", "make", "git", "dud", "dvc"]


class Bench:
    """What all groups share: the peers, a folder, sizes, and the figures so far."""

    def __init__(self, quick, repeat):
        self.quick, self.repeat = quick, repeat
        self.peers = Peers([tool for tool in TOOLS if not (quick and tool == "dvc")])
        self.base = Path(tempfile.mkdtemp(prefix="lpipe-bench-", dir=os.environ.get("LPIPE_BENCH_DIR")))
        self.rows = {}  # work -> {"reach": text, "met": function, "tools": {name: [figures]}, "notes": {name: text}}
        self.left_out = []
        self.dropped = 0
        self.least = self.least_memory()

    def least_memory(self):
        """What Linux gives as the peak of a program that takes next to nothing: that of this process, of which it is born."""
        child = subprocess.Popen(["true"])
        usage = os.wait4(child.pid, 0)[2]
        child.returncode = 0
        return usage.ru_maxrss / 1024 + 1

    def row(self, name, reach="", met=None):
        return self.rows.setdefault(name, {"reach": reach, "met": met, "tools": {}, "notes": {}})

    def measure(self, row, who, command, cwd, note=""):
        """Runs a command that must succeed, and notes wall seconds, CPU seconds and peak memory."""
        with tempfile.TemporaryFile() as out:
            start = time.perf_counter()
            child = subprocess.Popen([str(c) for c in command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            took = time.perf_counter() - start
            child.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            text = out.read().decode(errors="replace")
        if child.returncode:
            raise RuntimeError(f"{' '.join(str(c) for c in command)} in {cwd}: exit {child.returncode}\n{text[-2000:]}")
        if row is None:
            return text
        figures = {"seconds": took, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
        self.rows[row]["tools"].setdefault(who, []).append(figures)
        if note:
            self.rows[row]["notes"][who] = note
        print(f"  {row}: {who} {took:.4f} s, CPU {figures['cpu']:.3f} s, {figures['peak_mb']:.0f} MB {note}", file=sys.stderr)
        return text

    def run(self, command, cwd):
        """Runs a command that must succeed and is not measured."""
        return self.measure(None, "", command, cwd)

    def folder(self, name):
        path = self.base / name
        path.mkdir(parents=True)
        return path

    def drop(self, path):
        """Takes away what a peer made, to be deleted at the end, and waits until the disk is done with it."""
        self.dropped += 1
        path.rename(self.base / f"done-{self.dropped}")
        if shutil.disk_usage(self.base).free < 22e9:
            self.delete(self.base / f"done-{self.dropped}")
        os.sync()

    def delete(self, path):
        """Deletes at once what is of few files."""
        shutil.rmtree(path)
        os.sync()

    def room(self, size, what):
        """Whether the disk has room; else the group is named as left out."""
        free = shutil.disk_usage(self.base).free
        if free < size:
            self.left_out.append(f"{what}: needs {size / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free")
        return free >= size

    def value(self, row, who, figure="seconds"):
        """The median of a figure (of memory the most); None where it was not measured."""
        runs = self.rows[row]["tools"].get(who)
        if not runs:
            return None
        pick = max if figure == "peak_mb" else statistics.median
        return pick(run[figure] for run in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--large", action="store_true", default=os.environ.get("LARGE", "") not in ("", "0"))
    args = parser.parse_args()
    quick = os.environ.get("LPIPE_BENCH") == "quick"
    wanted = os.environ.get("ROWS", "").replace(",", " ").split()
    if unknown := set(wanted) - set(GROUPS):
        sys.exit(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    if not wanted:
        wanted = [g for g in GROUPS if (args.large or g not in ("million", "big")) and not (quick and g == "s3")]
    bench = Bench(quick, int(os.environ.get("REPEAT", "3")))
    load = os.getloadavg()
    try:
        for group in wanted:
            getattr(work, group)(bench)
    finally:
        shutil.rmtree(bench.base, ignore_errors=True)
    show(bench, load)
    if args.json:
        args.json.write_text(json.dumps(figures(bench, load), indent=1))


def verdict(bench, row):
    """Whether a row reaches what it is to reach; "" where something that it is compared with is missing."""
    met = bench.rows[row]["met"]
    if met is None:
        return ""
    of = lambda who, figure="seconds": bench.value(row, who, figure)
    try:
        return "yes" if met(of) else "no"
    except TypeError:
        return ""


def cell(bench, row, who):
    seconds = bench.value(row, who)
    if seconds is None:
        return ""
    note = bench.rows[row]["notes"].get(who)
    text = f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.2f}"
    peak = bench.value(row, who, "peak_mb")
    memory = f"{peak:.0f} MB" if peak > bench.least else f"< {bench.least:.0f} MB"
    return f"{text} ({memory})" + (f" {note}" if note else "")


def show(bench, load):
    who = ["lpipe"] + [tool for tool in TOOLS if any(tool in row["tools"] for row in bench.rows.values())]
    print("| work: seconds (peak memory) | " + " | ".join(who) + " | to reach | reached |")
    print("|---" * (len(who) + 3) + "|")
    for name, row in bench.rows.items():
        print(f"| {name} | " + " | ".join(cell(bench, name, tool) for tool in who) + f" | {row['reach']} | {verdict(bench, name)} |")
    print("\n" + ", ".join(f"{name}: {text}" for name, text in bench.peers.version.items()))
    for name, why in bench.peers.absent.items():
        print(f"{name} could not be installed and is not in the table: {why}")
    for why in bench.left_out:
        print(f"left out: {why}")
    print(f"{os.cpu_count()} processors; load average {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after; median of up to {bench.repeat} runs")


def figures(bench, load):
    rows = [{"work": name, "reach": row["reach"], "reached": verdict(bench, name), "notes": row["notes"], "runs": row["tools"],
             "median": {who: {f: bench.value(name, who, f) for f in ("seconds", "cpu", "peak_mb")} for who in row["tools"]}}
            for name, row in bench.rows.items()]
    return {"rows": rows, "versions": bench.peers.version, "absent": bench.peers.absent, "left_out": bench.left_out,
            "processors": os.cpu_count(), "load": [load[0], os.getloadavg()[0]]}


if __name__ == "__main__":
    main()
