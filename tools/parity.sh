#!/usr/bin/env bash
# make parity: lpipe beside torch, transformers and PEFT (tools/parity/parity.py says what is compared). The Python with
# them is LPIPE_PARITY_PYTHON, or build/parity-venv, made from PyPI the first time (about 3 GB).
set -euo pipefail
cd "$(dirname "$0")/.."
python=${LPIPE_PARITY_PYTHON:-}
if [ -z "$python" ]; then
  venv=build/parity-venv
  [ -d "$venv" ] || python3 -m venv "$venv"
  "$venv/bin/pip" install -q -r tools/parity/requirements.txt
  python=$venv/bin/python
fi
"$python" tools/parity/tokenizer_variants.py check 500
"$python" tools/parity/chat_templates.py check
exec "$python" tools/parity/parity.py
