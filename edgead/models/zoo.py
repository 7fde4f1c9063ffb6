"""From configuration to a model, and from a bundle's weights back to one."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import load_file

from edgead.bundle import Bundle
from edgead.config.model import ModelConfig
from edgead.errors import BundleError
from edgead.flows.base import make_base
from edgead.flows.blocks import coupling_block
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import MultiScaleFlow, ParallelFlow, UShapedFlow
from edgead.models.backbone import Backbone
from edgead.models.backbone_weights import LITE0
from edgead.models.detector import Detector
from edgead.models.hgad import HgadDetector
from edgead.models.level import Level, LevelSpec
from edgead.models.scoring import ScoreHead
from edgead.models.vae_usf import VaeDetector


def build_model(config: ModelConfig, classes: tuple[str, ...]) -> Detector:
    """An untrained detector with pretrained backbone weights."""
    weights = config.weights or ("lite0" if config.backbone == LITE0 else "timm")
    return assemble(config, classes, weights)


def load_model(bundle: Bundle) -> Detector:
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
    model = assemble(config, bundle.manifest.classes, None)
    load_weights(model, bundle.weights_path)
    return model.eval()


def load_weights(model: Detector, path: Path) -> None:
    """Load a whole model, backbone included.

    Raises:
        BundleError: If the file does not fit the model.
    """
    try:
        model.load_state_dict(load_file(path))
    except Exception as error:  # safetensors and torch raise untyped errors
        raise BundleError(f"The weights in {path} do not fit the model: {error}.", hint="Train again.") from error


def assemble(config: ModelConfig, classes: tuple[str, ...], weights: str | None) -> Detector:
    """A detector from its parts: architecture x coupling x base distribution.

    Args:
        config: Of the model.
        classes: Names of the kinds of part.
        weights: Source of the backbone's weights; None leaves them random, for the caller to load.
    """
    specs = [LevelSpec.parse(text) for text in config.levels]
    if config.pyramid:
        specs = [spec.at_size(size, config.image_size) for size in config.pyramid for spec in specs]
    if config.name == "vae-usf":
        specs.append(LevelSpec.parse(f"{config.decoded_size}/1"))
    keys = list(dict.fromkeys(key for spec in specs for key in spec.keys))
    backbone = Backbone(config.backbone, weights, keys, (config.image_size, config.image_size))
    levels = [Level(spec, backbone.channels, backbone.sizes, config.positions) for spec in specs]
    if config.name == "vae-usf":
        encoded, picture = levels
        prior, base = coupling_sequence(config.latent_size, config), make_base(config.base, config.latent_size)
        size = config.latent_size
        return VaeDetector(backbone, encoded, picture, prior, base, latent_size=size, score=config.vae_score)
    flow = make_flow(config, levels)
    if config.name == "hgad":
        return HgadDetector(
            backbone,
            levels,
            flow,
            classes=len(classes),
            components=config.components,
            mode=config.score,
            top_fraction=config.top_fraction,
            position_channels=config.position_channels,
        )
    return Detector(
        backbone,
        levels,
        flow,
        [make_base(config.base, channels) for channels in flow.latent_channels],
        ScoreHead([level.size for level in levels], config.level_weights or [1.0] * len(levels), config.top_fraction),
        position_channels=config.position_channels,
        likelihood_map=config.likelihood_map,
        loss=config.loss,
        gives_norms=config.segmentation == "nfa",
    )


def make_flow(config: ModelConfig, levels: list[Level]) -> MultiScaleFlow:
    """The trained flow over the levels' outputs: one beside the other, or U-shaped."""
    channels = [level.channels for level in levels]
    if config.name == "uflow":
        return UShapedFlow(
            lambda _, width: coupling_sequence(width, config), channels, [level.size for level in levels]
        )
    return ParallelFlow([coupling_sequence(width, config) for width in channels], channels)


def coupling_sequence(channels: int, config: ModelConfig) -> FlowSequence:
    """The couplings of one grid, ending in a scale and offset per channel."""
    assert config.coupling is not None
    assert config.mix is not None
    subnet_input = channels - channels // 2 + config.position_channels
    flows: list[Flow] = [
        coupling_block(
            channels,
            coupling=config.coupling,
            mix=config.mix,
            kernel_sizes=config.kernels[index % len(config.kernels)],
            hidden_channels=max(1, round(config.hidden_ratio * subnet_input)),
            clamp=config.clamp,
            condition_channels=config.position_channels,
        )
        for index in range(config.blocks)
    ]
    return FlowSequence([*flows, ActNorm(channels)])
