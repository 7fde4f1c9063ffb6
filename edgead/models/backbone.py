"""Frozen feature extractor: feature maps of any timm models, by key, with weights from a named source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from edgead.errors import ConfigError
from edgead.models.backbone_weights import digest, load_weights
from edgead.models.feature_key import FeatureKey
from edgead.models.frozen import Size, freeze
from edgead.models.packaged_weights import LITE0, default_source

Tap = tuple[int, int | None]  # stride, block


class Backbone(nn.Module):
    """Frozen features by key, from `(N, H, W, 3)` uint8 RGB; shrinking and normalisation are included.

    Each network named by the keys exists once and runs once per image size. It is cut after the last stage that a key
    names, and its batch norms are folded into its convolutions. Features of a transformer's block pass its final norm,
    as in FastFlow and U-Flow. Stride 1 is the shrunk image itself, in 0..1, without a network. Images are shrunk by
    averaging squares of pixels, which every runtime computes alike; HGAD shrinks bilinearly, U-Flow bicubically.

    Args:
        name: timm model name of the main backbone.
        weights: Weight source of the main backbone: `lite0`, `lite1` or `lite2` (packaged ImageNet weights of
            `tf_efficientnet_lite0` to `2`), `timm` (its hub) or the path of a file with timm's tensor names, see
            `read_weight_file`; other backbones use their installed package, else `timm`. None leaves all weights random for a caller that loads a whole model; on
            the meta device nothing is then allocated.
        keys: Keys of the wanted feature maps, see `FeatureKey`.
        image_size: Image size `(height, width)` in pixels; padding is computed for it once, so that the exported graph is
            static. The size in a key is the height after shrinking.

    Attributes:
        keys: Requested keys in order, in canonical form, without duplicates.
        channels: Number of channels by key.
        sizes: Map size `(height, width)` by key.
        weights_digest: SHA-256 of the networks' names and weights as loaded; empty on the meta device.

    Raises:
        ConfigError: If the model, a stride, block or size is unknown, or weights do not fit; never silently random weights.
        MissingDependencyError: If packaged weights are chosen whose package is not installed.
    """

    def __init__(self, name: str, weights: str | None, keys: Sequence[str], image_size: Size) -> None:
        super().__init__()
        parsed = list(dict.fromkeys(FeatureKey.parse(key) for key in keys))
        self.keys = tuple(map(str, parsed))
        self._images = {str(key): _factor(key, image_size) for key in parsed if _is_image(key)}
        wanted: dict[str, dict[int, list[FeatureKey]]] = {}
        for key in parsed:
            if str(key) in self._images:
                continue
            sizes = wanted.setdefault(key.backbone or name, {})
            sizes.setdefault(_factor(key, image_size), []).append(key)
        self.bodies = nn.ModuleList(
            _Body(body, weights if body == name else _source(body, weights), by_factor, image_size)
            for body, by_factor in wanted.items()
        )
        digests = [body.weights_digest for body in self._bodies()]
        parts = "".join(f"{body} {value}\n" for body, value in zip(wanted, digests, strict=True))
        self.weights_digest = hashlib.sha256(parts.encode()).hexdigest() if all(digests) else ""
        shapes = {key: (3, image_size[0] // f, image_size[1] // f) for key, f in self._images.items()}
        shapes.update({key: shape for body in self._bodies() for key, shape in body.shapes.items()})
        self.channels = {key: shapes[key][0] for key in self.keys}
        self.sizes = {key: (shapes[key][1], shapes[key][2]) for key in self.keys}
        self.eval().requires_grad_(False)

    def multiply_adds(self, size: int) -> int:
        """Multiply-adds of convolutions and matrix products for a square image of this side in pixels."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self(torch.zeros(1, size, size, 3, dtype=torch.uint8, device=next(self.parameters()).device))
        return int(counter.get_total_flops()) // 2

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features `(N, C, h, w)`, float32, by key, in the order of `keys`."""
        x = images.to(torch.float32).permute(0, 3, 1, 2)  # in this order: TensorRT accepts uint8 input only into a cast
        factors = {*self._images.values(), *(f for body in self._bodies() for f in body.factors)}
        shrunk = {f: x if f == 1 else F.avg_pool2d(x, f) for f in sorted(factors)}
        found = {key: shrunk[f] * (1.0 / 255.0) for key, f in self._images.items()}
        for body in self._bodies():
            found.update(body(shrunk))
        return {key: found[key] for key in self.keys}

    def train(self, mode: bool = True) -> Backbone:
        """Keep evaluation mode: the backbone is frozen."""
        return super().train(False)

    def _bodies(self) -> Iterable[_Body]:
        return self.bodies  # type: ignore[return-value]


class _Body(nn.Module):
    """Single network, run once per shrinking factor."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self, name: str, weights: str | None, by_factor: Mapping[int, Sequence[FeatureKey]], image_size: Size
    ) -> None:
        super().__init__()
        self.factors = tuple(by_factor)
        sizes = [(image_size[0] // factor, image_size[1] // factor) for factor in self.factors]
        taps = sorted(
            {(k.stride, k.block) for keys in by_factor.values() for k in keys}, key=lambda t: (t[0], t[1] or 0)
        )
        self.network = _create(name, taps, sizes)
        if weights is not None:
            inner = self.network.model if isinstance(self.network, FeatureGetterNet) else self.network
            load_weights(inner, name, weights)
        self.weights_digest = digest(self.network)
        self._channels_last = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")
        self._outputs = [{str(key): taps.index((key.stride, key.block)) for key in by_factor[f]} for f in self.factors]
        config: Any = self.network.pretrained_cfg
        mean, std = torch.tensor(config["mean"]), torch.tensor(config["std"])
        self.register_buffer("scale", (1.0 / (255.0 * std))[None, :, None, None])
        self.register_buffer("shift", (-mean / std)[None, :, None, None])
        try:
            traced = freeze(self.network, sizes)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"model.backbone {name!r} cannot process images of {sizes} pixels: {error}.", hint=f"Use {LITE0}."
            ) from error
        self.shapes = {
            key: self._map_shape(shapes[i])
            for outputs, shapes in zip(self._outputs, traced, strict=True)
            for key, i in outputs.items()
        }

    def forward(self, images: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """Features by key from images `(N, 3, h, w)` in [0, 255], given by shrinking factor."""
        found = {}
        for factor, outputs in zip(self.factors, self._outputs, strict=True):
            features = self.network(images[factor] * self.scale + self.shift)
            for key, i in outputs.items():
                found[key] = features[i].permute(0, 3, 1, 2) if self._channels_last else features[i]
        return found

    def _map_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        return (shape[3], shape[1], shape[2]) if self._channels_last else (shape[1], shape[2], shape[3])


def _is_image(key: FeatureKey) -> bool:
    """Whether the key names the image itself: stride 1, without a block."""
    if key.stride != 1 or key.block is not None:
        return False
    if key.backbone is not None:
        raise ConfigError(
            f"model.levels requests stride 1 of {key.backbone} ({str(key)!r}), but that is the image itself, without a network.",
            hint="Leave out the name of the network.",
        )
    return True


def _factor(key: FeatureKey, image_size: Size) -> int:
    """Shrinking factor from the main image to the key's image."""
    size = key.size or image_size[0]
    factor = image_size[0] // size
    if factor < 1 or image_size[0] != factor * size or image_size[1] % factor:
        raise ConfigError(
            f"model.levels requests {str(key)!r}, but an image of {image_size[0]}x{image_size[1]} pixels can only be "
            f"shrunk by a whole number (got {image_size[0]} to {size}).",
            hint="Choose a size that divides model.image_size.",
        )
    return factor


def _source(name: str, weights: str | None) -> str | None:
    if weights is None:
        return None
    return default_source(name)


def _create(name: str, taps: Sequence[Tap], sizes: Sequence[Size]) -> nn.Module:
    """Create a network with random weights that returns the tapped features, in order."""
    if not timm.is_model(name):
        stem = name.split(".")[0]
        close = ", ".join(get_close_matches(stem, timm.list_models(), n=5) or timm.list_models(f"*{stem[:6]}*")[:5])
        raise ConfigError(
            f"model.backbone {name!r} is not a timm model.",
            hint=f"Similar names: {close}." if close else "See timm.list_models().",
        )
    options: dict[str, Any] = {"pretrained": False}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        if len(sizes) > 1:
            raise ConfigError(
                f"model.levels requests images of several sizes {list(sizes)} for {name}, which supports a single size.",
                hint="Use one size, or another backbone at the other sizes.",
            )
        options["img_size"] = sizes[0]
    blocks = [block for _, block in taps if block is not None]
    try:
        if len(blocks) == len(taps):
            return _with_blocks(timm.create_model(name, **options), name, taps)
        return _with_stages(name, taps, options)
    except (RuntimeError, AttributeError, AssertionError, TypeError) as error:
        raise ConfigError(f"model.backbone {name!r} offers no feature maps: {error}.", hint=f"Use {LITE0}.") from error


def _with_blocks(model: nn.Module, name: str, taps: Sequence[Tap]) -> nn.Module:
    info: Any = getattr(model, "feature_info", [])
    reductions = [entry["reduction"] for entry in info]
    if len(set(reductions)) == len(reductions):
        raise ConfigError(
            f"model.levels requests a transformer block of {name}, but its features are stages of strides "
            f"{reductions}.",
            hint="Write the stride alone, for example 16.",
        )
    wrong = [f"{stride}@{block}" for stride, block in taps if [stride] != reductions[block : (block or 0) + 1]]
    if wrong:
        raise ConfigError(
            f"model.levels requests {', '.join(wrong)} of {name}, which has blocks 0 to {len(reductions) - 1}, of stride "
            f"{reductions[0]}.",
            hint=f"For example {reductions[0]}@{len(reductions) // 2}.",
        )
    network = FeatureGetterNet(model, out_indices=[block for _, block in taps if block is not None], norm=True)
    network.pretrained_cfg = model.pretrained_cfg
    return network


def _with_stages(name: str, taps: Sequence[Tap], options: dict[str, Any]) -> nn.Module:
    info = timm.create_model(name, features_only=True, **options).feature_info
    available = [entry["reduction"] for entry in info.info]
    strides = [stride for stride, _ in taps]
    if len(set(available)) < len(available) and any(stride in available for stride in strides):
        raise ConfigError(
            f"model.levels requests stride(s) {strides} of {name}; all its {len(available)} blocks have stride "
            f"{available[0]}.",
            hint=f"Name the block too, for example {available[0]}@{len(available) // 2}.",
        )
    unknown = [stride for stride in strides if stride not in available]
    if unknown or any(block is not None for _, block in taps):
        raise ConfigError(
            f"model.levels requests stride(s) {unknown or strides} of {name}; its stages have strides {available}, without "
            "blocks.",
            hint="Choose one of these.",
        )
    indices = [available.index(stride) for stride in strides]
    network = timm.create_model(name, features_only=True, out_indices=indices, **options)
    stages = getattr(network, "_stage_out_idx", None)  # timm's EfficientNet keeps stages beyond the requested ones
    if stages is not None and isinstance(network.blocks, nn.Sequential):
        network.blocks = network.blocks[: max(stages)]
    return network
