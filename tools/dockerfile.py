"""Run the steps of docker/Dockerfile without a container engine: `sudo python -m tools.dockerfile [WORK]`.

Makes a fresh Debian root with debootstrap, runs ARG, ENV, RUN, COPY, WORKDIR and USER in it as they are written, then
ENTRYPOINT and CMD as the image's user, without capabilities, on a read-only root, in namespaces without a network, and
asks HEALTHCHECK until it answers. Shows that the steps work on Debian; it does not show that an engine builds the image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = REPOSITORY / "docker" / "Dockerfile"
BUNDLE = REPOSITORY / "tests" / "fixtures" / "bundle-schema-1"
SUITES = {"debian:bookworm-slim": "bookworm"}
NEEDED = ("debootstrap", "unshare", "chroot", "setpriv", "mount", "ip")
_KNOWN = {
    *("ARG", "FROM", "ENV", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "EXPOSE"),
    *("HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
}
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


@dataclass
class Image:
    """State of the image between two steps.

    Attributes:
        base: Image of FROM.
        arguments: Build arguments, with which RUN is called but not the container.
        environment: Environment of RUN and of the container.
        folder: Working directory.
        user: Name of the user.
        volumes: Folders that stay writable.
        entrypoint, command, health: Words that are run.
    """

    base: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        return {**self.arguments, **self.environment}


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments, lines joined.

    Raises:
        ValueError: For an instruction that this tool does not know.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        if name.upper() not in _KNOWN:
            raise ValueError(f"unknown instruction: {line}")
        found.append((name.upper(), rest.strip()))
    return found


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Text with `$NAME` and `${NAME}` replaced; unknown names are empty, as in a Dockerfile."""
    return _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], ""), text)


def words(text: str) -> list[str]:
    """Words of the JSON form; the shell form is not used here because it hides signals from the program."""
    parsed = json.loads(text)
    if not isinstance(parsed, list) or not all(isinstance(word, str) for word in parsed):
        raise ValueError(f"not a list of words: {text}")
    return parsed


class Root:
    """A folder that stands for the image's file system.

    Args:
        path: The folder, with a Debian system in it.
        context: Folder that COPY copies from.
    """

    def __init__(self, path: Path, context: Path) -> None:
        self.path = path
        self.context = context

    def apply(self, image: Image, name: str, rest: str) -> None:
        """Carry out one instruction on the root and the state."""
        if name == "ARG":
            key, _, default = rest.partition("=")
            image.arguments.setdefault(key, expanded(default, image.variables))
        elif name == "FROM":
            image.base = expanded(rest, image.arguments)
        elif name == "ENV":
            pairs = [word.partition("=") for word in shlex.split(rest)]
            image.environment |= {key: expanded(value, image.variables) for key, _, value in pairs}
        elif name == "RUN":
            self._run(image, rest)
        elif name == "COPY":
            *sources, target = shlex.split(expanded(rest, image.variables))
            self._copy(sources, self._inside(image, target))
        elif name == "WORKDIR":
            image.folder = os.path.join(image.folder, expanded(rest, image.variables))
            self._inside(image, ".").mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            image.user = rest
        elif name == "VOLUME":
            image.volumes += words(rest)
        elif name == "HEALTHCHECK":
            image.health = words(rest[rest.index("CMD ") + 4 :])
        elif name == "ENTRYPOINT":
            image.entrypoint = words(rest)
        elif name == "CMD":
            image.command = words(rest)

    def _inside(self, image: Image, path: str) -> Path:
        return self.path / os.path.normpath(os.path.join(image.folder, path)).lstrip("/")

    def _copy(self, sources: Sequence[str], target: Path) -> None:
        allowed = {line[1:] for line in ignore_lines() if line.startswith("!")}
        for source in sources:
            if source not in allowed:
                raise ValueError(f"COPY {source}: left out of the build by Dockerfile.dockerignore")
            if (self.context / source).is_dir():
                skipped = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(self.context / source, target, dirs_exist_ok=True, ignore=skipped)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.context / source, target)

    def _run(self, image: Image, command: str) -> None:
        print(f"RUN {command[:100]}", flush=True)
        host = {name: value for name, value in os.environ.items() if name in ("http_proxy", "https_proxy", "no_proxy")}
        # the machine's own certificates and index, which an image must not keep
        host |= {"PIP_CERT": "/run/certificates.pem"} if (self.path / "run/certificates.pem").exists() else {}
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **host,
            **image.variables,
        }
        script = f'mount -t proc proc {self.path}/proc && exec chroot {self.path} /bin/sh -c \'cd "$1" && eval "$2"\' - "$1" "$2"'
        subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "-", image.folder, command], check=True, env=environment
        )


def ignore_lines() -> list[str]:
    """Patterns of the file that tells the engine what to leave out."""
    text = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def make_root(path: Path, suite: str) -> None:
    """Make a Debian system with debootstrap, from the mirror that this machine's apt uses."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {suite}"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    mirror = next(iter(listed), "http://deb.debian.org/debian")
    subprocess.run(
        ["debootstrap", "--variant=minbase", suite, str(path), mirror], check=True, stdout=subprocess.DEVNULL
    )
    shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
    certificates = Path(os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt"))
    if certificates.is_file():
        shutil.copy(certificates, path / "run/certificates.pem")


# Runs as root in fresh namespaces: ROOT WORK USER FOLDER, then the container's program and the health check as files
# of words. Prints what it saw; ends with the program's own status.
_ENTER = r"""
set -eu
root=$1 work=$2 user=$3 folder=$4
ip link set lo up
mount --bind "$root" "$root"
for volume in bundle alerts; do mount --bind "$work/$volume" "$root/var/lib/edgead/$volume"; done
mount --bind "$work/line.yaml" "$root/etc/edgead/line.yaml"
mount -t tmpfs -o mode=1777,size=64m tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -o remount,bind,ro "$root"
inside() {
    # a subshell of its own, so that the program gets the signals
    exec chroot "$root" setpriv --reuid="$user" --regid="$user" --init-groups --bounding-set=-all --inh-caps=-all \
        --no-new-privs env -i -C "$folder" $(cat "$work/environment") "$@"
}
for place in /usr /etc /var/lib/edgead /opt/edgead; do
    if (inside touch "$place/x") 2>/dev/null; then echo "$place is writable" >&2; exit 1; fi
done
[ "$(inside id -u)" != 0 ]
[ "$(inside cat /proc/self/status | grep CapBnd)" = "$(printf 'CapBnd:\t0000000000000000')" ]
eval "set -- $(cat "$work/program")"
inside "$@" &
program=$!
eval "set -- $(cat "$work/health")"
n=0
until (inside "$@") 2>/dev/null; do
    n=$((n + 1))
    [ $n -lt 120 ] || { echo "the health check never answered" >&2; kill $program; exit 1; }
    kill -0 $program || { echo "the stream ended" >&2; exit 1; }
    sleep 1
done
echo "healthy after $n attempts"
sleep 10
(inside "$@")
kill -TERM $program
wait $program
if (inside "$@") 2>/dev/null; then echo "the health check praises a stream that has ended" >&2; exit 1; fi
"""


def run_container(root: Path, image: Image, work: Path) -> None:
    """Stream the synthetic source as the image's user; the health check must answer while it runs, and only then."""
    shutil.copytree(BUNDLE, work / "bundle")
    (work / "alerts").mkdir()
    (work / "line.yaml").write_text('cameras: [{name: line, source: "synthetic:disc"}]\nalerts: {open_frames: 1}\n')
    (root / "etc/edgead/line.yaml").touch()
    passwd = (root / "etc/passwd").read_text(encoding="utf-8")
    uid = int(next(line for line in passwd.splitlines() if line.startswith(f"{image.user}:")).split(":")[2])
    for path in (work / "alerts", work / "bundle", *(work / "bundle").rglob("*")):
        os.chown(path, uid, uid)
    environment = {**image.environment, "EDGEAD_WEB_TOKEN": "only-for-this-check-0123"}
    (work / "environment").write_text(" ".join(f"{key}={value}" for key, value in environment.items()))
    (work / "program").write_text(shlex.join([*image.entrypoint, *image.command]))
    (work / "health").write_text(shlex.join(image.health))
    work.chmod(0o755)
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--ipc", "sh", "-c", _ENTER, "-"]
    subprocess.run([*command, str(root), str(work), image.user, image.folder], check=True, timeout=300)
    if not list((work / "alerts").glob("*-snapshot.jpg")):
        raise RuntimeError("the stream wrote no alert to its volume")


def missing() -> str | None:
    """Reason why this machine cannot do it, if there is one."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if os.geteuid() != 0:
        return "needs root"
    done = subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return None if done.returncode == 0 else "namespaces are not allowed here"


def main(folder: Path | None = None) -> int:
    """Build and run in `folder`, by default a temporary one that is removed; 0 when every step worked."""
    reason = missing()
    if reason is not None:
        print(f"Skipped: {reason}.")
        return 0
    work = Path(tempfile.mkdtemp(prefix="edgead-image-")) if folder is None else folder
    try:
        image, root = Image(), Root(work / "root", REPOSITORY)
        for name, rest in instructions(DOCKERFILE.read_text(encoding="utf-8")):
            root.apply(image, name, rest)
            if name == "FROM":
                make_root(root.path, SUITES[image.base])
        (work / "run").mkdir()
        run_container(root.path, image, work / "run")
    finally:
        if folder is None:
            shutil.rmtree(work, ignore_errors=True)
    print("The Dockerfile's steps work, and what they made streams on a read-only root as a user without rights.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
