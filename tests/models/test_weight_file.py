"""Weight files of each format give the same tensors, or an error that says what the file is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from edgead.errors import ConfigError
from edgead.models.backbone import Backbone
from edgead.models.weight_file import check_weight_file, read_weight_file

TINY = "test_efficientnet"
SIZE = (64, 64)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return timm.create_model(TINY, pretrained=False).state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3},
        lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}},
        lambda tensors: {"model": {"state_dict": tensors}},
    ],
    ids=["plain", "state_dict", "parallel", "nested"],
)
@pytest.mark.parametrize("name", ["w.pth", "pytorch_model.bin"])
def test_torch_files_are_read(wrap: Any, name: str, tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Tensors that torch saved, wrapped as training scripts do, give the features of a safetensors file."""
    torch.save(wrap(tensors), tmp_path / name)
    save_file(tensors, tmp_path / "w.safetensors")
    assert check_weight_file(tmp_path / name) == "torch"
    ours, theirs = (Backbone(TINY, str(tmp_path / file), ["16"], SIZE) for file in (name, "w.safetensors"))
    assert ours.weights_digest == theirs.weights_digest


def test_the_old_format_of_torch_is_read(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Files of torch before 1.6, which are no archives, are read too."""
    torch.save(tensors, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert read_weight_file(tmp_path / "w.pth").keys() == tensors.keys()


class Harmful:
    """An object whose loading writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_code_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    """A pickled object is refused with the command that converts a trusted file, and its code does not run."""
    torch.save({"state_dict": Harmful(tmp_path / "ran")}, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match="could run code") as caught:
        read_weight_file(tmp_path / "w.pth")
    assert "weights_only=False" in caught.value.hint
    assert not (tmp_path / "ran").exists()


def test_the_converting_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command in the hint makes a safetensors file of a pickled model."""
    model = torch.nn.Linear(2, 3)
    torch.save(model, tmp_path / "w.pth")
    with pytest.raises(ConfigError) as caught:
        read_weight_file(tmp_path / "w.pth")
    python, option, code, *files = shlex.split(caught.value.hint.partition("convert it: ")[2])
    assert [python, option, *files] == ["python", "-c", "FILE", "weights.safetensors"]
    monkeypatch.setattr("sys.argv", ["-c", *(str(tmp_path / name) for name in ("w.pth", files[1]))])
    exec(code, {})
    assert torch.equal(read_weight_file(tmp_path / files[1])["weight"], model.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"not weights at all", "not a safetensors file"),
        (b"\x10\0\0\0\0\0\0\0{broken", "damaged or cut off"),
        (b"PK\x03\x04 cut off", "is cut off: the end of a torch file is missing"),
    ],
    ids=["empty", "lfs", "html", "text", "header", "zip"],
)
def test_other_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    """A file that is no weight file is refused with a guess at what it is."""
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_weight_file(tmp_path / "w")


def test_a_cut_off_file_gives_both_sizes(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """A download that broke off is told from a file of another format before torch is needed."""
    save_file(tensors, tmp_path / "w.safetensors")
    whole = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ConfigError, match=rf"{len(whole) - 100:,} of {len(whole):,} bytes"):
        check_weight_file(tmp_path / "w.safetensors")


def test_a_folder_is_no_weight_file(tmp_path: Path) -> None:
    """A folder given for a file is named as one."""
    with pytest.raises(ConfigError, match="folder"):
        check_weight_file(tmp_path)
