"""Packages and backbone weights that a training needs, checked before any work and without importing torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgead.config.model import ModelConfig
from edgead.config.root import Config
from edgead.errors import MissingDependencyError

TRAINING_PACKAGES = ("torch", "timm", "safetensors")
INSTALL = "pip install 'edgead[train,demo]' (on the workstation; a machine that only runs bundles does without)"


def require_torch(purpose: str) -> None:
    """Check that the packages of the extra `train` are installed.

    Args:
        purpose: Subject of the message, such as "Training".

    Raises:
        MissingDependencyError: If one of them is not installed.
    """
    from edgead.models.packaged_weights import is_installed

    for module in TRAINING_PACKAGES:
        if not is_installed(module):
            raise MissingDependencyError(module, needed_for=purpose, install=INSTALL)


def require_weights(config: ModelConfig) -> None:
    """Check that the weights of every network exist: the package, a readable file, or a hub that can be reached.

    Raises:
        ConfigError: If a file is missing or of another format, or weights are neither in the hub's cache nor can the
            hub be reached.
        MissingDependencyError: If the package with the default backbone's weights is not installed.
    """
    from edgead.models.hub import require_hub_weights
    from edgead.models.packaged_weights import PACKAGED
    from edgead.models.weight_file import check_weight_file

    for network, source in _sources(config):
        if source == "timm":
            require_hub_weights(network)
        elif source not in PACKAGED:
            check_weight_file(Path(source))
        else:
            packaged = PACKAGED[source]
            packaged.require_network(network)
            if packaged.is_installed():
                continue
            raise MissingDependencyError(
                packaged.package, needed_for=f"The backbone {network}", install=packaged.install
            )


def require_other_weights(config: Config) -> None:
    """Refuse backbones to try besides the model's if their weights are not there; those of a preset may be missing.

    Raises:
        ConfigError, MissingDependencyError: See `require_weights`.
    """
    for name in config.train.backbones or ():
        require_weights(config.model.model_copy(update={"backbone": name, "weights": None}))


def require_fitting_weights(config: ModelConfig) -> None:
    """Load a file of weights into its backbone, so that a file of another network is refused before any image is read.

    Weights from packages and from the hub fit, and are not loaded here.

    Raises:
        ConfigError: If the file does not fit the backbone, holds other objects than tensors, or is not finite.
    """
    from edgead.models.packaged_weights import PACKAGED

    source = main_source(config)
    if source == "timm" or source in PACKAGED:
        return
    from edgead.models.backbone import Backbone
    from edgead.models.backbone_fit import fit_to_backbone
    from edgead.models.level import LevelSpec

    fitted, _ = fit_to_backbone(config)
    keys = list(dict.fromkeys(key for level in fitted.levels for key in LevelSpec.parse(level).keys))
    Backbone(fitted.backbone, source, keys, (fitted.image_size, fitted.image_size))


def main_source(config: ModelConfig) -> str:
    """Weight source of the main backbone: a package such as `lite0`, `timm` or a file."""
    from edgead.models.packaged_weights import default_source

    return config.weights or default_source(config.backbone)


def _sources(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Networks of the levels, each with its weight source."""
    from edgead.models.feature_key import FeatureKey
    from edgead.models.packaged_weights import default_source

    yield config.backbone, main_source(config)
    keys = [FeatureKey.parse(part.partition(":")[0]) for level in config.levels for part in level.split("+")]
    for network in sorted({key.backbone for key in keys if key.backbone} - {config.backbone}):
        yield network, default_source(network)
