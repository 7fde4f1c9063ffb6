#!/bin/sh
# Builds the source distribution and, from it, the wheel; installs each into a fresh environment with the base
# dependencies and uses it from another folder. Usage: dist_check.sh PYTHON
set -eu
python=${1:-python3}
root=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/build"
"$work/build/bin/python" -m pip install --quiet build
rm -rf "$root/build/dist"
"$work/build/bin/python" -m build --outdir "$root/build/dist" "$root" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
"$python" -m venv "$work/venv"
cd "$work"
for file in "$root"/build/dist/*.whl "$root"/build/dist/*.tar.gz; do
    venv/bin/python -m pip install --quiet --force-reinstall --no-deps "$file"
    venv/bin/python -m pip install --quiet "$file"
    venv/bin/python -m pip check
    venv/bin/edgead --version
    venv/bin/edgead --help >/dev/null
    venv/bin/python - <<'CHECK'
import importlib.util, sys
from importlib.metadata import files, metadata
from pathlib import Path

import edgead

for name in set(edgead.__all__) - {"register_family"}:  # which needs torch
    getattr(edgead, name)
assert "torch" not in sys.modules and importlib.util.find_spec("torch") is None
home = Path(edgead.__file__).parent
assert "site-packages" in home.parts, home
for data in ("py.typed", "web/static/index.html"):
    assert (home / data).is_file(), f"{data} is missing"
assert {path.parts[0] for path in files("edgead")} <= {"edgead", "..", metadata("edgead")["Name"] + "-" + edgead.__version__ + ".dist-info"}
CHECK
done
ls -sh "$root/build/dist"
echo "Wheel and source distribution build, install and run."
