"""The programs that `make bench-pipeline` measures beside lpipe: each found here or installed, pinned, into build/bench."""
import os, shutil, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "build" / "bench"
DUD = "github.com/kevin-hanselman/dud@v0.4.5"
PINS = {"ninja": ["ninja==1.13.0"], "dvc": ["dvc==3.63.0", "pathspec==0.12.1"]}  # DVC 3.63 cannot use pathspec 1


class Peers:
    """Paths and versions by name; `absent` says why a peer is not measured."""

    def __init__(self, names):
        BENCH.mkdir(parents=True, exist_ok=True)
        self.path, self.version, self.absent = {"lpipe": str(ROOT / "bin" / "lpipe")}, {}, {}
        for name in names:
            try:
                self.path[name] = find(name)
            except (OSError, subprocess.SubprocessError) as error:
                said = (getattr(error, "stderr", None) or str(error)).strip()
                self.absent[name] = said.splitlines()[-1].strip() if said else type(error).__name__
        for name, path in self.path.items():
            self.version[name] = version(name, path)

    def has(self, name):
        return name in self.path


def find(name):
    """The path of a peer. Raises OSError or SubprocessError where it is not here and cannot be installed."""
    if name == "limit":
        out = BENCH / "limit"
        do(["go", "build", "-o", out, "./cmd/bench-limit"])
        return str(out)
    if name == "dud":
        given = os.environ.get("LPIPE_BENCH_DUD")
        if given:
            return given
        if not (BENCH / "dud").exists():
            do(["go", "install", DUD], GOBIN=str(BENCH), GOFLAGS="-mod=mod")
        return str(BENCH / "dud")
    found = shutil.which(name)
    if found and name != "dvc":
        return found
    if name not in PINS:
        raise FileNotFoundError(f"{name} is not installed on this machine")
    venv = BENCH / f"{name}-venv"
    if not (venv / "bin" / name).exists():
        do([sys.executable, "-m", "venv", venv])
        do([venv / "bin" / "pip", "install", "-q", "--disable-pip-version-check", *PINS[name]])
    return str(venv / "bin" / name)


def do(command, **environ):
    subprocess.run([str(c) for c in command], cwd=ROOT, env=os.environ | environ, check=True, capture_output=True, text=True)


def version(name, path):
    if name == "limit":
        return "a bare Go loop"
    out = subprocess.run([path, "version" if name in ("dud", "lpipe") else "--version"], capture_output=True, text=True).stdout
    lines = [line for line in out.splitlines() if line.strip()]
    if name == "dud":
        return DUD.rpartition("@v")[2] if not lines or lines[-1] == "NONE" else lines[-1]
    return lines[0] if lines else "?"
