"""Files of backbone weights: safetensors, or torch's own format with tensors alone."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgead.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["safetensors", "torch"]
LARGEST_HEADER = 100_000_000
# keys under which training scripts keep the weights, best first
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
CONVERT = (
    'If you trust the file, convert it: python -c "import sys, torch, safetensors.torch as s; m = torch.load(sys.argv[1], '
    "map_location='cpu', weights_only=False); m = m.state_dict() if hasattr(m, 'state_dict') else m.get('state_dict', m); "
    's.save_file({k: v.contiguous().clone() for k, v in m.items()}, sys.argv[2])" FILE weights.safetensors'
)


def check_weight_file(path: Path) -> Format:
    """Tell the format of a weight file from its first bytes; torch is not imported.

    Raises:
        ConfigError: If the file does not exist, is cut off, or is neither format.
    """
    if path.is_dir():
        raise ConfigError(f"model.weights {str(path)!r} is a folder.", hint="Name the weight file in it.")
    if not path.is_file():
        raise ConfigError(
            f"model.weights {str(path)!r} is not a weight source: it is neither 'lite0', 'lite1', 'lite2', 'timm' nor an existing file.",
            hint="Name an existing .safetensors, .pth or .bin file with timm's tensor names.",
        )
    try:
        with path.open("rb") as file:
            first = file.read(64)
            if first.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
                raise ConfigError(
                    f"{path} is cut off: the end of a torch file is missing after {path.stat().st_size:,} bytes.",
                    hint="Copy or download it again.",
                )
            if first.startswith((b"PK\x03\x04", b"\x80\x02")):
                return "torch"
            _check_safetensors(path, first, file.read)
    except OSError as error:
        raise ConfigError(f"model.weights {path} cannot be read: {error.strerror}.") from error
    return "safetensors"


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weight file, by name; code in the file is never run.

    Raises:
        ConfigError: See `check_weight_file`; also for a torch file with other objects than tensors.
    """
    if check_weight_file(path) == "safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # the reader raises its own untyped errors
            raise ConfigError(
                f"{path} is not a safetensors file: {error}.", hint="Download or convert the weights again."
            ) from error
    import torch
    from timm.models import clean_state_dict

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an untyped error per cause
        named = re.search(r"GLOBAL (\S+)", str(error))  # torch names the first object that it refuses
        held = f"it holds Python objects ({named[1]})" if named else "it is damaged, or holds Python objects"
        raise ConfigError(
            f"{path} cannot be read as tensors alone: {held}, which could run code.",
            hint=CONVERT,
        ) from error
    tensors = {name: value for name, value in clean_state_dict(_unwrapped(content)).items() if torch.is_tensor(value)}
    if not tensors:
        raise ConfigError(f"{path} holds no tensors by name.", hint="Save the state dict of a timm model.")
    return tensors


def _unwrapped(content: Any) -> dict[str, Any]:
    """Mapping from tensor names to tensors, inside what a training script saved."""
    if not isinstance(content, dict):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return _unwrapped(content[key])
    return {name: value for name, value in content.items() if isinstance(name, str)}


def _check_safetensors(path: Path, first: bytes, read: Any) -> None:
    size = path.stat().st_size
    length = struct.unpack("<Q", first[:8])[0] if len(first) >= 8 else 0
    if not (first[8:9] == b"{" and 2 <= length <= LARGEST_HEADER):
        raise ConfigError(f"{path} is not a safetensors file{_likely(first)}.", hint=_advice(first))
    header = (first[8:] + read(max(0, length + 8 - len(first))))[:length]
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not a safetensors file: its header is damaged or cut off.", hint="Copy or download it again."
        ) from error
    needed = 8 + length + max(ends, default=0)
    if size < needed:
        raise ConfigError(f"{path} is cut off: it has {size:,} of {needed:,} bytes.", hint="Copy or download it again.")


def _likely(first: bytes) -> str:
    """Guess at what else the file is, from its first bytes; empty if unknown."""
    start = first.lstrip().lower()
    if not first:
        return ": it is empty"
    if start.startswith(b"version https://git-lfs"):
        return ": it is a pointer of Git LFS"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return ": it is a web page"
    return ""


def _advice(first: bytes) -> str:
    if first.startswith(b"version https://git-lfs"):
        return "Fetch the file itself: git lfs pull"
    return "Name a .safetensors file, or a .pth or .bin file of torch, with timm's tensor names."
