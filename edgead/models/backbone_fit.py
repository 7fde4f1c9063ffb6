"""Levels and image size that fit a backbone: blocks of a transformer, and a size that its strides divide."""

from __future__ import annotations

import math
from collections.abc import Sequence

import timm
import torch

from edgead.config import defaults
from edgead.config.model import ModelConfig
from edgead.errors import ConfigError
from edgead.models.feature_key import FeatureKey
from edgead.models.level import LevelSpec
from edgead.models.packaged_weights import LITE0

MIN_SIZE, MAX_SIZE = 64, 2048
# Shares of a transformer's depth. FastFlow takes block 7 of the 12 of DeiT.
_MIDDLE, _LATE, _SINGLE = 1 / 2, 3 / 4, 7 / 12
# As many channels as the default model has: the linear maps per position grow with their square.
_MIDDLE_CHANNELS, _LATE_CHANNELS = 112, 64


def fit_to_backbone(config: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """Choose levels and image size that the backbone can serve.

    A family's default levels are stages of a convolutional network. A transformer has blocks of one stride instead:
    its default is one level, block 7/12 of the way up; for usf, whose levels join two features, the blocks half and three
    quarters of the way up. A default pyramid is left out where the network takes images of one size alone. The image size
    becomes the nearest multiple of every stride, so that no feature map leaves out the right and bottom edges of the image.

    Args:
        config: Model settings.

    Returns:
        The settings, and a sentence for the user about each change.

    Raises:
        ConfigError: If no image size from 64 to 2048 px fits.
    """
    levels = _transformer_levels(config) or config.levels
    pyramid = () if _has_default_pyramid(config) and _takes_one_size(config.backbone) else config.pyramid
    step = _size_step(config, levels, pyramid)
    size = _nearest(config.image_size, step)
    notes = []
    if levels != config.levels:
        notes.append(f"Levels: {', '.join(levels)}, the default for the transformer {config.backbone}.")
    if pyramid != config.pyramid:
        notes.append(f"Image pyramid: none, because {config.backbone} takes images of one size.")
    if size != config.image_size:
        notes.append(
            f"Image size: {size} px instead of {config.image_size}, so that the strides of {config.backbone} divide it "
            f"(multiples of {step})."
        )
    if not notes:
        return config, []
    pyramid = tuple(size // (config.image_size // part) for part in pyramid)
    update = {"levels": levels, "image_size": size, "pyramid": pyramid}
    return ModelConfig.model_validate({**config.model_dump(), **update}), notes


def _transformer_levels(config: ModelConfig) -> tuple[str, ...]:
    """Default levels of a transformer; empty if the levels were chosen or the backbone has stages."""
    default = config.preset.get("levels", ModelConfig.model_fields["levels"].default)
    if config.levels != default or config.backbone == LITE0 or not timm.is_model(config.backbone):
        return ()
    with torch.device("meta"):
        info = getattr(timm.create_model(config.backbone, pretrained=False), "feature_info", None)
    blocks = info if isinstance(info, list) else []
    if len(blocks) < 2 or len({block["reduction"] for block in blocks}) > 1:
        return ()
    middle, late, single = (int(len(blocks) * share) for share in (_MIDDLE, _LATE, _SINGLE))
    stride, channels = blocks[0]["reduction"], blocks[0]["num_chs"]
    if "+" not in "".join(default):
        return (f"{stride}@{single}",)
    kept = (min(channels, _MIDDLE_CHANNELS), min(channels, _LATE_CHANNELS))
    return (f"{stride}@{middle}:{kept[0]}+{stride}@{late}:{kept[1]}",)


def _has_default_pyramid(config: ModelConfig) -> bool:
    default = config.preset.get("pyramid", ())
    scaled = tuple(config.image_size // (defaults.IMAGE_SIZE // part) for part in default)
    return len(default) > 0 and config.pyramid == scaled


def _takes_one_size(backbone: str) -> bool:
    known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return known is not None and bool(known.fixed_input_size)


def _size_step(config: ModelConfig, levels: Sequence[str], pyramid: Sequence[int]) -> int:
    """Number of which the image size must be a multiple."""
    factors = [config.image_size // size for size in pyramid] or [1]
    step = config.decoded_size if config.family.is_autoencoder else math.lcm(*factors)
    for text in levels:
        for written in LevelSpec.parse(text).keys:
            key = FeatureKey.parse(written)
            if key.size is None:
                step = math.lcm(step, *(key.stride * factor for factor in factors))
            elif key.size % key.stride:
                raise ConfigError(
                    f"model.levels requests {written!r}, but stride {key.stride} does not divide {key.size} px.",
                    hint=f"Write {_nearest(key.size, key.stride, 1)}/{key.stride}: that size leaves out no edge of the image.",
                )
            else:
                step = math.lcm(step, key.size)
    return step


def _nearest(size: int, step: int, smallest: int = MIN_SIZE) -> int:
    below, above = size // step * step, -(-size // step) * step
    fitting = [value for value in (below, above) if smallest <= value <= MAX_SIZE]
    if not fitting:
        raise ConfigError(
            f"model.image_size must be a multiple of {step} for these levels, and none from {smallest} to {MAX_SIZE} is near {size}.",
            hint="Choose other levels (model.levels) or another backbone.",
        )
    return min(fitting, key=lambda value: (abs(value - size), value))
