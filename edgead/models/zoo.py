"""Models from a configuration, and from the weights of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import torch
from pydantic import ValidationError
from safetensors import safe_open

from edgead.bundle import Bundle
from edgead.config.families import FAMILIES, ModelFamily
from edgead.config.model import CLOSED_FORM, ModelConfig
from edgead.errors import BundleError
from edgead.flows.base import make_base
from edgead.flows.blocks import coupling_block
from edgead.flows.flow import Flow, FlowSequence
from edgead.flows.linear import ActNorm
from edgead.flows.multiscale import MultiScaleFlow, ParallelFlow, UShapedFlow
from edgead.models.backbone import Backbone
from edgead.models.composition import Composition
from edgead.models.detector import Detector
from edgead.models.feature_key import FeatureKey
from edgead.models.hgad import HgadDetector
from edgead.models.hgad_closed_form import POSITIONS, ClosedFormHgad, class_specs
from edgead.models.level import Level, LevelSpec
from edgead.models.packaged_weights import default_source
from edgead.models.scoring import ScoreHead
from edgead.models.vae_usf import VaeDetector
from edgead.stored_once import from_graph

# assembles a family's detector from the backbone, the levels on it, the model settings and the names of the classes
Builder = Callable[[Backbone, Sequence[Level], ModelConfig, Sequence[str]], Detector]


def build_model(config: ModelConfig, classes: tuple[str, ...]) -> Detector:
    """Build an untrained detector with pretrained backbone weights."""
    weights = config.weights or default_source(config.backbone)
    return assemble(config, classes, weights)


def load_model(bundle: Bundle) -> Detector:
    """Load the trained torch model of a bundle.

    Raises:
        BundleError: If the weights do not fit the bundle's own configuration.
    """
    try:
        config = ModelConfig.model_validate(bundle.manifest.provenance.config["model"])
    except (KeyError, ValidationError) as error:
        raise BundleError(
            f"{bundle.path} does not describe its model: {error}.", hint="Use the version of edgead that trained it."
        ) from error
    model = assemble(config, bundle.manifest.classes, None)
    load_weights(model, bundle.weights_path, bundle.model_path)
    return model.eval()


def load_weights(model: Detector, path: Path, graph: Path | None = None) -> None:
    """Load a whole model, backbone included.

    Args:
        model: Model to load into.
        path: File of weights.
        graph: ONNX graph beside it, for weights that are stored there; see `stored_once`.

    Raises:
        BundleError: If the files do not fit the model, or hold NaN or infinity.
    """
    try:
        tensors = read_weights(path, graph)
        model.load_state_dict(tensors)
    except Exception as error:  # safetensors and torch raise untyped errors
        raise BundleError(f"The weights in {path} do not fit the model: {error}.", hint="Train again.") from error
    bad = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise BundleError(
            f"The weights in {path} are not finite: {len(bad)} tensors hold NaN or infinity, first {bad[0]!r}.",
            hint="Train again.",
        )


def read_weights(path: Path, graph: Path | None = None) -> dict[str, torch.Tensor]:
    """All tensors of a file of weights, those that are stored in the ONNX graph beside it included.

    Raises:
        ValueError: If the graph lacks a tensor; the file's own reader raises errors without a common type.
    """
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        stated = file.metadata()
    if graph is not None:
        stored = from_graph(stated, onnx.load(str(graph)))
        tensors |= {name: torch.from_numpy(value) for name, value in stored.items()}
    return tensors


def assemble(config: ModelConfig, classes: Sequence[str], weights: str | None) -> Detector:
    """Assemble a detector from its parts: architecture x coupling x base distribution.

    Args:
        config: Model settings.
        classes: Names of the classes.
        weights: Source of the backbone's weights; None leaves them random, for a caller that loads all weights.
    """
    specs = [LevelSpec.parse(text) for text in config.levels]
    sizes = config.pyramid or tuple(dict.fromkeys(config.class_sizes))
    if sizes:
        specs = [spec.at_size(size, config.image_size) for size in sizes for spec in specs]
    if config.family.is_autoencoder:
        specs.append(LevelSpec.parse(f"{config.decoded_size}/1"))
    keys = list(dict.fromkeys(key for spec in specs for key in spec.keys))
    if config.composition and composition_key(config) not in keys:
        keys.append(composition_key(config))
    backbone = Backbone(config.backbone, weights, keys, (config.image_size, config.image_size))
    # with a form per class, these levels only say which features there are
    centres = 0 if config.start == CLOSED_FORM else config.centres
    levels = [Level(spec, backbone.channels, backbone.sizes, config.positions, centres) for spec in specs]
    return BUILDERS[config.name](backbone, levels, config, classes)


def composition_key(config: ModelConfig) -> str:
    """Feature map behind the composition of an image.

    Raises:
        ConfigError: If `model.composition` is not `STRIDE[@BLOCK]`.
    """
    return str(FeatureKey.parse(config.composition))


def register_family(family: ModelFamily, builder: Builder) -> None:
    """Add a model family defined elsewhere, so that `model.name` may choose it.

    Args:
        family: Description of the family, under a new name.
        builder: Function that assembles its detector.

    Raises:
        ValueError: If a family of this name exists.
    """
    if family.name in FAMILIES:
        raise ValueError(f"a model family {family.name!r} exists already")
    FAMILIES[family.name] = family
    BUILDERS[family.name] = builder


def parallel_detector(
    backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]
) -> Detector:
    """One flow per level, side by side: FastFlow, CFLOW and the uniform default."""
    channels = [level.channels for level in levels]
    flow = ParallelFlow([coupling_sequence(width, settings) for width in channels], channels)
    return flow_detector(backbone, levels, flow, settings)


def u_shaped_detector(
    backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]
) -> Detector:
    """One U-shaped flow over all levels: U-Flow."""
    channels, sizes = [level.channels for level in levels], [level.size for level in levels]
    flow = UShapedFlow(lambda _, width: coupling_sequence(width, settings), channels, sizes)
    return flow_detector(backbone, levels, flow, settings)


def hgad_detector(
    backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]
) -> Detector:
    """Closed forms per class, or as published flows side by side with a Gaussian mixture per class as their base: HGAD."""
    if settings.start == CLOSED_FORM:
        sizes = settings.class_sizes or [settings.image_size] * len(classes)
        return ClosedFormHgad(
            backbone,
            [class_specs(settings.levels, size, settings.image_size) for size in sizes],
            settings.class_forms or [POSITIONS] * len(classes),
            centres=settings.class_centres or [settings.centres] * len(classes),
            weights=[1.0] * len(settings.levels),
            top_fractions=settings.class_fractions or [settings.top_fraction] * len(classes),
            class_share=settings.class_share,
        )
    channels = [level.channels for level in levels]
    return HgadDetector(
        backbone,
        levels,
        ParallelFlow([coupling_sequence(width, settings) for width in channels], channels),
        classes=len(classes),
        components=settings.components,
        mode=settings.score,
        top_fraction=settings.top_fraction,
        position_channels=settings.position_channels,
        terms=settings.loss_terms,
    )


def vae_detector(
    backbone: Backbone, levels: Sequence[Level], settings: ModelConfig, classes: Sequence[str]
) -> Detector:
    """A variational autoencoder whose prior is a flow: VAE-USFlow."""
    encoded, image = levels
    size = settings.latent_size
    prior, base = coupling_sequence(size, settings), make_base(settings.base, size)
    return VaeDetector(backbone, encoded, image, prior, base, latent_size=size, score=settings.vae_score)


def flow_detector(backbone: Backbone, levels: Sequence[Level], flow: MultiScaleFlow, settings: ModelConfig) -> Detector:
    """A detector whose score is made of the norms of the flow's latents."""
    weights = settings.level_weights or [1.0] * len(levels)
    return Detector(
        backbone,
        levels,
        flow,
        [make_base(settings.base, channels) for channels in flow.latent_channels],
        ScoreHead([level.size for level in levels], weights, settings.top_fraction),
        position_channels=settings.position_channels,
        likelihood_map=settings.likelihood_map,
        loss=settings.loss,
        gives_norms=settings.segmentation == "nfa",
        composition=Composition.of(backbone, composition_key(settings)) if settings.composition else None,
    )


def coupling_sequence(channels: int, config: ModelConfig) -> FlowSequence:
    """Couplings of one grid, followed by a scale and offset per channel."""
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


BUILDERS: dict[str, Builder] = {
    "usf": parallel_detector,
    "fastflow": parallel_detector,
    "cflow": parallel_detector,
    "uflow": u_shaped_detector,
    "hgad": hgad_detector,
    "vae-usf": vae_detector,
}
