#!/usr/bin/env bash
# hub_python.sh DIR
# Prints the path of a Python that has huggingface_hub, datasets and pyarrow, installed, pinned, from PyPI into DIR: the tests that
# we and the Python tools share one download cache, and that they read what export writes, run it. It asks no hub but a test's own.
set -euo pipefail
WANTED="huggingface_hub==2.4.0 datasets==5.2.0 pyarrow==26.0.1"
if ! "$1/bin/python" -c 'import huggingface_hub, datasets, pyarrow' 2>/dev/null; then
  echo "installing $WANTED" >&2
  python3 -m venv "$1" >&2
  "$1/bin/pip" install -q --disable-pip-version-check $WANTED >&2
fi
printf '%s\n' "$1/bin/python"
