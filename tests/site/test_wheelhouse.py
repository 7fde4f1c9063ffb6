"""The offline folder: whole for its target, locked by digests, and installed without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.wheelhouse import JETPACKS, asked_for, download, environment_of, lacking, locked, main, write_wheelhouse

SLOW = "EDGEAD_SITE_CHECKS"


def add_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"Requires-Dist: {entry}\n" for entry in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\n{lines}\n")


def test_conditions_are_those_of_the_target(tmp_path: Path) -> None:
    """Dependencies only for Python below 3.11 count as lacking on JetPack 6, those only for aarch64 on both targets."""
    conditions = ("back; python_version < '3.11'", "arm; platform_machine == 'aarch64'", "win; sys_platform == 'win32'")
    add_wheel(tmp_path, "top", "1.0", *conditions, "more; extra == 'x'")
    assert lacking(tmp_path, ["top"], environment_of(JETPACKS["6"])) == ["arm", "back"]
    assert lacking(tmp_path, ["top"], environment_of(JETPACKS["7"])) == ["arm"]
    assert lacking(tmp_path, ["top[x]>=2"], environment_of(JETPACKS["7"])) == ["top>=2"]
    assert lacking(tmp_path, ["top[x]"], environment_of(JETPACKS["7"])) == ["arm", "more"]


def test_what_pip_missed_is_downloaded_too(tmp_path: Path) -> None:
    """A second call asks for it by name together with everything else; what never comes is an error."""
    calls: list[Sequence[str]] = []

    def pip(arguments: Sequence[str]) -> None:
        calls.append(arguments)
        add_wheel(tmp_path, "top", "1.0", "back>=3; python_version < '3.11'")
        if "back>=3" in arguments:
            add_wheel(tmp_path, "back", "3.1")

    download(JETPACKS["6"], ["top"], tmp_path, pip)
    assert [call[-1] for call in calls] == ["top", "back>=3"]
    assert "top" in calls[1]
    assert calls[0][calls[0].index("--python-version") + 1] == "3.10"
    with pytest.raises(RuntimeError, match="top"):
        download(JETPACKS["6"], ["top"], tmp_path / "none", lambda arguments: None)


def test_every_wheel_is_locked(tmp_path: Path) -> None:
    """One line each with version and digest; another content is another digest."""
    add_wheel(tmp_path, "a_b", "1.0")
    first = locked(tmp_path)
    assert first.startswith("a-b==1.0 --hash=sha256:")
    add_wheel(tmp_path, "a_b", "1.0", "more")
    assert locked(tmp_path) != first


def test_a_jetpack_gets_its_cuda_and_the_source_of_pycuda() -> None:
    """The bindings of its CUDA, what compiling pycuda needs, nothing to train with."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    wanted = asked_for(JETPACKS["6"], text)
    assert "cuda-bindings==12.*,>=12.6" in wanted
    assert {"setuptools", "wheel", "mako", "numpy<2"} <= set(wanted)
    assert not any(entry.startswith(("torch", "pycuda")) for entry in wanted)
    assert not any(entry.startswith("cuda") for entry in asked_for(None, text))


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    """Wheels of two days must not mix."""
    (tmp_path / "old.whl").touch()
    with pytest.raises(FileExistsError):
        write_wheelhouse(None, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(SLOW not in os.environ, reason="run by `make test-site`: downloads")
def test_it_installs_without_a_network(tmp_path: Path) -> None:
    """Into a fresh environment, in a namespace without a network where that is allowed; `edgead` runs there."""
    assert main(["--here", str(tmp_path / "house")]) == 0
    cut = ["unshare", "--net"] if subprocess.run(["unshare", "--net", "true"], check=False).returncode == 0 else []
    environment = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "HOME": str(tmp_path)}
    install = [*cut, "sh", str(tmp_path / "house/install.sh"), str(tmp_path / "venv")]
    subprocess.run(install, check=True, env=environment)
    commands = (["edgead", "--help"], ["python", "-c", "import edgead.stream.pipeline, edgead.web.server, onnxruntime"])
    for command in commands:
        subprocess.run(
            [*cut, str(tmp_path / "venv/bin" / command[0]), *command[1:]], check=True, cwd=tmp_path, env=environment
        )
    wheel = next((tmp_path / "house/wheels").glob("edgead-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    assert subprocess.run([*install[:-1], str(tmp_path / "other")], check=False, env=environment).returncode != 0
