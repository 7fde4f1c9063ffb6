"""From configuration to a model, and from a bundle's weights back to one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import load_file

from edgead.bundle import Bundle
from edgead.config import ModelConfig
from edgead.errors import BundleError
from edgead.models.backbone import LITE0, Backbone
from edgead.models.fastflow import FastFlow
from edgead.models.level import FlowSettings, LevelSpec


def build_model(config: ModelConfig) -> FastFlow:
    """An untrained detector with pretrained backbone weights."""
    weights = config.weights or ("lite0" if config.backbone == LITE0 else "timm")
    return _assemble(config, weights)


def load_model(bundle: Bundle) -> FastFlow:
    """The trained torch model of a bundle.

    Raises:
        BundleError: If the weights do not fit the bundle's own configuration.
    """
    try:
        config = ModelConfig.model_validate(bundle.manifest.provenance.config["model"])
    except (KeyError, ValidationError) as error:
        raise BundleError(
            f"{bundle.path} does not say how its model is made: {error}.", hint="Use the edgead that trained it."
        ) from error
    model = _assemble(config, None)
    load_weights(model, bundle.weights_path)
    return model.eval()


def load_weights(model: FastFlow, path: Path) -> None:
    """Load a whole model, backbone included.

    Raises:
        BundleError: If the file does not fit the model.
    """
    try:
        model.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch raise untyped errors
        raise BundleError(f"The weights in {path} do not fit the model: {error}.", hint="Train again.") from error


def _assemble(config: ModelConfig, weights: str | None) -> FastFlow:
    levels = [LevelSpec.parse(text) for text in config.levels]
    strides = sorted({stride for level in levels for stride in level.strides})
    backbone = Backbone(config.backbone, weights, strides, (config.image_size, config.image_size))
    settings = FlowSettings(
        coupling=config.coupling,
        mix=config.mix,
        blocks=config.blocks,
        kernels=config.kernels,
        hidden_ratio=config.hidden_ratio,
        positions=config.positions,
    )
    return FastFlow(backbone, levels, settings, config.level_weights, config.top_fraction)
