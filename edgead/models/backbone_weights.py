"""Backbone weights from a named source: the packaged file, timm's hub or a local file."""

from __future__ import annotations

import hashlib
import importlib
import logging
import warnings
from pathlib import Path

import timm
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import Tensor, nn

from edgead.errors import ConfigError, MissingDependencyError
from edgead.models.hub import cached_file
from edgead.models.packaged_weights import PACKAGED, PackagedWeights
from edgead.models.weight_file import read_weight_file

_BIAS_TABLE = "relative_position_bias_table"


def load_weights(network: nn.Module, name: str, weights: str) -> None:
    """Load every tensor of `network`; a transformer's position code is resampled to its image size.

    Args:
        network: Network with timm's tensor names, or those of its feature networks.
        name: Name of the timm model.
        weights: Source: `lite0`, `lite1`, `lite2`, `timm` or the path of a file, see `read_weight_file`.

    Raises:
        ConfigError: If the weights do not exist, do not fit or are not finite.
        MissingDependencyError: If the package of the weights is not installed.
    """
    if weights in PACKAGED:
        _load_packaged(network, name, PACKAGED[weights])
    elif weights == "timm":
        _load_hub(network, name)
    else:
        _copy_named(network, read_weight_file(Path(weights)), weights, name)
    _require_finite(network, weights)


def digest(network: nn.Module) -> str:
    """SHA-256 of names and values; empty for a network on the meta device, which has no values."""
    result = hashlib.sha256()
    for key, value in network.state_dict().items():
        if value.is_meta:
            return ""
        result.update(key.encode())
        result.update(value.contiguous().cpu().numpy().tobytes())
    return result.hexdigest()


def _load_packaged(network: nn.Module, name: str, packaged: PackagedWeights) -> None:
    packaged.require_network(name)
    try:
        module = importlib.import_module(packaged.module)
    except ImportError as error:
        raise MissingDependencyError(
            packaged.package, needed_for=f"The backbone {name}", install=packaged.install
        ) from error
    path = Path(getattr(module, packaged.file_class).get_model_file_path())
    if hashlib.sha256(path.read_bytes()).hexdigest() != packaged.sha256:
        raise ConfigError(
            f"{path} is not the expected weight file: its SHA-256 differs.", hint="Reinstall the package."
        )
    # The package ships torch's own format; the digest above and weights_only prevent it from running code.
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    own = network.state_dict()
    if len(tensors) < len(own) or any(a.shape != b.shape for a, b in zip(own.values(), tensors, strict=False)):
        raise ConfigError(f"The tensors of {path} do not match timm's {name}.", hint="Reinstall timm>=1.0.9.")
    network.load_state_dict(dict(zip(own, tensors, strict=False)))


def _load_hub(network: nn.Module, name: str) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry; the error below is enough
    file = cached_file(name, timm.get_pretrained_cfg(name))
    overlay = {} if file is None else {"pretrained_cfg_overlay": {"file": str(file)}}
    try:
        source = timm.create_model(name, pretrained=True, **overlay)
    except Exception as error:  # timm and its hub client raise a different type per cause
        raise ConfigError(
            f"The weights of {name!r} could not be loaded from timm's hub: {type(error).__name__}: {error}".split("\n")[
                0
            ],
            hint="Check the network, or name a local file: --weights FILE.safetensors.",
        ) from error
    _copy_named(network, source.state_dict(), f"timm's {name}", name)


def _copy_named(network: nn.Module, tensors: dict[str, Tensor], where: str, name: str) -> None:
    own = network.state_dict()
    # FeatureListNet flattens names: blocks.0.0.conv becomes blocks_0.0... in some timm models
    by_flat_name = {key.replace(".", "_"): value for key, value in tensors.items()}
    matched = {key: by_flat_name.get(key.replace(".", "_")) for key in own}
    code = matched.get("pos_embed")
    if code is not None and code.ndim == 3 and code.shape != own["pos_embed"].shape:
        matched["pos_embed"] = _resampled(network, code, own["pos_embed"])
    for key, table in matched.items():
        if key.endswith(_BIAS_TABLE) and table is not None and table.shape != own[key].shape:
            matched[key] = _resampled_table(network, key, table, own[key])
    wrong = [key for key, value in matched.items() if value is None or value.shape != own[key].shape]
    if wrong:
        raise ConfigError(
            f"{where} does not fit the backbone {name}: {len(wrong)} of {len(own)} tensors are missing or of another shape, "
            f"first {_mismatch(wrong[0], matched[wrong[0]], own[wrong[0]], tensors)}.",
            hint="Name the timm model that the file was saved from (--backbone); the file must contain its state dict. A network "
            "whose position codes cannot be resampled needs the image size that it was trained at (--image-size).",
        )
    network.load_state_dict(matched)


def _mismatch(key: str, found: Tensor | None, own: Tensor, tensors: dict[str, Tensor]) -> str:
    """Description of the tensor `key` in the file: its other shape, or that it is missing."""
    if found is not None:
        return f"{key!r}, {tuple(found.shape)} instead of {tuple(own.shape)}"
    return f"{key!r}, which is missing; the {len(tensors)} tensors of the file begin with {next(iter(tensors), '')!r}"


def _require_finite(network: nn.Module, where: str) -> None:
    own = network.state_dict()
    bad = [name for name, tensor in own.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise ConfigError(
            f"The weights {where} are not finite: {len(bad)} of {len(own)} tensors hold NaN or infinity, first {bad[0]!r}.",
            hint="Use weights of a training that did not diverge.",
        )


def _resampled(network: nn.Module, code: Tensor, own: Tensor) -> Tensor:
    """Resample a learned position code `(1, prefix + n, C)` to the network's grid, bicubic; the source is square."""
    grid: tuple[int, int] | None = getattr(network.patch_embed, "grid_size", None)
    if grid is None:
        return code
    prefix = own.shape[1] - grid[0] * grid[1]
    if round((code.shape[1] - prefix) ** 0.5) ** 2 != code.shape[1] - prefix:
        return code
    return resample_abs_pos_embed(code, new_size=list(grid), num_prefix_tokens=prefix)  # type: ignore[no-any-return]


def _resampled_table(network: nn.Module, key: str, table: Tensor, own: Tensor) -> Tensor:
    """Resample a learned bias by relative position to the network's window."""
    window = getattr(network.get_submodule(key.rpartition(".")[0]), "window_size", None)
    if window is None:
        return table
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's note on the speed of timm's interpolation
        return resize_rel_pos_bias_table(table, new_window_size=window, new_bias_shape=tuple(own.shape))  # type: ignore[no-any-return]
