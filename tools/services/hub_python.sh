#!/usr/bin/env bash
# hub_python.sh DIR
# Prints the path of a Python that has huggingface_hub, installed, pinned, from PyPI into DIR: the test that we and the
# Python tools share one download cache runs it. It asks no hub but the test's own.
set -euo pipefail
HUB=huggingface_hub==2.4.0
if ! "$1/bin/python" -c 'import huggingface_hub' 2>/dev/null; then
  echo "installing $HUB" >&2
  python3 -m venv "$1" >&2
  "$1/bin/pip" install -q --disable-pip-version-check "$HUB" >&2
fi
printf '%s\n' "$1/bin/python"
