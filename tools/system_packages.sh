#!/bin/sh
# Installs the Debian packages that Python packages need and a fresh machine may lack: `venv`, and the two
# libraries that OpenCV's wheel does not bring. Does nothing where they are there. Usage: system_packages.sh PYTHON ["FURTHER PACKAGES"]
set -eu
python=${1:-python3}
missing=
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
for library in libGL.so.1:libgl1 libglib-2.0.so.0:libglib2.0-0; do
    ldconfig -p 2>/dev/null | grep -q "${library%%:*}" || missing="$missing ${library##*:}"
done
if command -v dpkg-query >/dev/null 2>&1; then
    for package in ${2:-}; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing="$missing $package"
    done
fi
case " ${2:-}" in
*libgirepository*) # what compiles against it needs Python's own headers
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        missing="$missing python3-dev"
    ;;
esac
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "These Debian packages, or what they hold, may be missing:$missing" >&2
    exit 0
fi
echo "Installing:$missing"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing
