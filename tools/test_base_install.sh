#!/bin/sh
# Proves that an install without extras, hence without torch, can evaluate and stream a bundle.
# Makes a tiny bundle in the full environment, then uses it from a fresh one. Usage: test_base_install.sh PYTHON
set -eu
python=${1:-python3}
base=${VENV:-.venv-base}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python tools/make_tiny_bundle.py "$work"
[ -x "$base/bin/python" ] || "$python" -m venv "$base"
"$base/bin/python" -m pip install --quiet --upgrade pip
"$base/bin/python" -m pip install --quiet .
"$base/bin/python" -m pip install --quiet --force-reinstall --no-deps .
if "$base/bin/python" -c 'import torch' 2>/dev/null; then
    echo "torch must not be installed in $base" >&2
    exit 1
fi
root=$(pwd)
cd "$work"
edgead="$root/$base/bin/edgead"
"$edgead" --help >/dev/null
"$edgead" build-engine bundle
"$edgead" eval bundle --data data --json metrics.json
"$edgead" stream bundle --source data/test --alerts alerts
"$edgead" stream bundle --source synthetic:disc --max-frames 20 --alerts alerts
"$edgead" doctor bundle
# what needs torch names the extra, before any work
refused() {
    status=0
    "$edgead" "$@" 2>refusal.txt || status=$?
    [ $status -eq 1 ] && grep -q 'edgead\[train,demo\]' refusal.txt || {
        echo "edgead $*: exit $status: $(cat refusal.txt)" >&2
        exit 1
    }
}
refused train --data data
refused train --data data --dry-run
refused train --resume
refused demo --out demo
refused export run
refused eval bundle --data data --alignment
[ ! -e demo ]
"$base/bin/python" --version >/dev/null 2>&1 || true
echo "The base install evaluates and streams without torch."
