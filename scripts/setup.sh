#!/usr/bin/env bash
# Make or refresh .venv: torch first, so that nothing else picks its build, then this package, editable, with `dev`.
# Called by `make setup`, which runs it only where pyproject.toml, constraints.txt or this file has changed.
# PYTHON chooses the interpreter: make setup PYTHON=python3.12
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
version=$(sed -n 's/^torch==//p' constraints.txt)
cpu_index=https://download.pytorch.org/whl/cpu
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! recent .venv/bin/python; then
    command -v "$python" >/dev/null || fail "'$python' was not found. Install Python 3.11 or later, or name one: make setup PYTHON=/path/to/python3.12"
    recent "$python" || fail "'$python' is $("$python" --version 2>&1); this needs Python 3.11 or later. Name one: make setup PYTHON=/path/to/python3.12"
    "$python" -m venv --clear .venv || fail "'$python' cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv"
fi
pip() { .venv/bin/python -m pip install -qq "$@"; }

# Attempts are quiet: each may fail where another works. What they said is shown if none does.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
attempt() {
    printf 'setup: trying %s\n' "$*"
    pip "$@" >>"$said" 2>&1
}

has_torch() { .venv/bin/python -c "import sys, torch; sys.exit(torch.__version__.split('+')[0] != '$version' or ($1))" 2>/dev/null; }

if [ "$(uname -s)" = Darwin ]; then
    has_torch False || attempt "torch==$version" || torch=missing
elif nvidia-smi -L >/dev/null 2>&1; then
    # Three equals signs: the ordinary build, even where pip is also offered a CPU build, which counts as newer.
    has_torch 'torch.version.cuda is None' || attempt "torch===$version" || attempt "torch==$version" || torch=missing
elif ! has_torch False; then
    # PyPI's build for Linux brings gigabytes of CUDA libraries, so the CPU build is looked for first: where pip is
    # told to look, then at PyTorch's own index.
    attempt "torch==$version+cpu" ||
        attempt --timeout 15 --retries 1 --index-url "$cpu_index" "torch==$version+cpu" ||
        { printf 'setup: no CPU build of torch within reach; taking the ordinary one (large: it holds CUDA)\n' &&
            attempt "torch==$version"; } || torch=missing
fi
if [ "${torch:-}" = missing ]; then
    cat "$said" >&2
    fail "torch $version could not be installed; pip's messages are above."
fi

printf 'setup: installing unseen and its tools (a minute or two)\n'
pip --constraint constraints.txt --editable '.[dev]'

.venv/bin/python - <<'PYTHON'
import importlib.util, sys, torch

if importlib.util.find_spec("torchvision") is not None:
    sys.exit("setup: torchvision is in .venv. It must stay out: beside a CPU build of torch it breaks lightning. "
             "Find what depends on it, or start again: rm -r .venv && make setup")
device = "CUDA" if torch.cuda.is_available() else "CPU"
print(f"setup: ready, with torch {torch.__version__} ({device}) on Python {sys.version.split()[0]}")
PYTHON
