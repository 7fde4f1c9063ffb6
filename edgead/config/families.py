"""Model families: one torch-free description for each value of `model.name`.

To add a model, put its `ModelFamily` into `FAMILIES` and the function that assembles it into `BUILDERS`
(`edgead/models/zoo.py`); `register_family` there does both for a family defined outside this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgead.config import defaults


@dataclass(frozen=True)
class Refused:
    """A `model` setting that a family does not read.

    Attributes:
        setting: Name of the setting.
        value: The refused value; None refuses every value that is not empty, 0 or false.
        why: Reason, for the error.
    """

    setting: str
    value: str | None = None
    why: str = ""

    def applies(self, given: object) -> bool:
        """Whether a setting's value is refused."""
        return bool(given) if self.value is None else given == self.value

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        return f"{self.setting}{value}{f' ({self.why})' if self.why else ''}"


@dataclass(frozen=True)
class ModelFamily:
    """Description of one kind of detector.

    Attributes:
        name: Value of `model.name`.
        summary: One line for help texts, without a full stop.
        coupling: Default coupling, `uniform` or `affine`; refuse the other one in `refused` where it makes no sense.
        mixes: Default channel mix for each coupling.
        model: Defaults of `model` settings that differ from the general ones; a `pyramid` is written for the default image
            size and scales with it.
        closed_form: The same for a closed-form start, in a family where `model.start` chooses between it and the published
            form, which `model` describes; None elsewhere.
        train: Defaults of `train` settings that differ from the general ones.
        refused: `model` settings that the family does not read.
        has_norms: Whether the score is made of the norms of standard normal latents, as `segmentation=nfa` requires.
        is_autoencoder: Whether the detector encodes a single level and reconstructs the image at `decoded_size`, which it
            gets as a last level of its own; such a detector trains on whole images.
    """

    name: str
    summary: str
    coupling: str = "affine"
    mixes: Mapping[str, str] = field(default_factory=lambda: {"uniform": "lu", "affine": "lu"})
    model: Mapping[str, Any] = field(default_factory=dict)
    closed_form: Mapping[str, Any] | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    has_norms: bool = True
    is_autoencoder: bool = False


_PUBLISHED: dict[str, Any] = {"levels": ("8", "16", "32"), "positions": False, "couplings": "always"}
# The published detectors train on clean features and keep the last epoch.
_TRAINED = (Refused("couplings", "never"), Refused("centres"))
_TRAIN_PUBLISHED: dict[str, Any] = {"noise": 0.0, "keep": "last", "learning_rate": 1e-3, "epochs": 40}

USF = ModelFamily(
    "usf",
    "uniformly scaling flow in closed form, with trained couplings on request",
    coupling="uniform",
    mixes={"uniform": "rotation", "affine": "rotation"},
    model={"couplings": "never"},
)
FASTFLOW = ModelFamily(
    "fastflow",
    "FastFlow (Yu et al., 2021)",
    mixes={"uniform": "lu", "affine": "permutation"},
    # 8 steps, 3-1 kernels (the WideResNet row), hidden ratio 1
    model={**_PUBLISHED, "blocks": 8, "kernels": ((3, 3), (1, 1)), "hidden_ratio": 1.0},
    train=_TRAIN_PUBLISHED,
    refused=_TRAINED,
)
CFLOW = ModelFamily(
    "cflow",
    "CFLOW-AD (Gudovskiy et al., 2021)",
    mixes={"uniform": "lu", "affine": "soft_permutation"},
    # 8 steps on single feature vectors, 128-channel position code, hidden width 2 x input
    model={
        **_PUBLISHED,
        "blocks": 8,
        "kernels": ((1, 1),),
        "hidden_ratio": 2.0,
        "position_channels": 128,
        "clamp": 1.9,
        "likelihood_map": True,
        "loss": "log_sigmoid",
    },
    train={**_TRAIN_PUBLISHED, "fibers": 4096},
    refused=_TRAINED,
)
UFLOW = ModelFamily(
    "uflow",
    "U-Flow (Tailanian et al., 2024)",
    mixes={"uniform": "lu", "affine": "permutation"},
    # 4 steps per scale, 3-1 kernels
    model={**_PUBLISHED, "blocks": 4, "kernels": ((3, 3), (1, 1)), "hidden_ratio": 1.0},
    train=_TRAIN_PUBLISHED,
    refused=_TRAINED,
)
HGAD = ModelFamily(
    "hgad",
    "one model for many classes, in closed form or as published (HGAD, Yao et al., 2024)",
    mixes={"uniform": "lu", "affine": "soft_permutation"},
    # 12 conditional steps on one stride of an image pyramid
    model={
        **_PUBLISHED,
        "levels": ("16",),
        "pyramid": (320, 160),
        "blocks": 12,
        "kernels": ((1, 1),),
        "hidden_ratio": 2.0,
        "position_channels": 256,
        "clamp": 1.9,
        "likelihood_map": True,
    },
    closed_form={"positions": False, "couplings": "never"},
    train={**_TRAIN_PUBLISHED, "fibers": 4096},
    refused=(
        Refused("base", "altub", "its centres are learnt"),
        Refused("couplings", "auto"),
        Refused("level_weights"),
        Refused("loss", "log_sigmoid", "it is a part of its own"),
    ),
    has_norms=False,
)
VAE_USF = ModelFamily(
    "vae-usf",
    "VAE-USFlow (Abu Zaid et al., 2025), a variational autoencoder with a flow as its prior",
    coupling="uniform",
    # the published code for MVTec AD: 10 steps over a 256-dimensional latent
    model={**_PUBLISHED, "levels": ("32",), "blocks": 10, "kernels": ((1, 1),), "hidden_ratio": 4.0},
    train=_TRAIN_PUBLISHED,
    refused=(
        Refused("positions"),
        Refused("couplings", "auto"),
        Refused("couplings", "never"),
        Refused("centres"),
        Refused("position_channels"),
        Refused("level_weights"),
        Refused("loss", "log_sigmoid"),
    ),
    has_norms=False,
    is_autoencoder=True,
)
FAMILIES: dict[str, ModelFamily] = {family.name: family for family in (USF, FASTFLOW, CFLOW, UFLOW, HGAD, VAE_USF)}


def names_text(quote: str = "", note: str = "") -> str:
    """Names of all families for a sentence, `a, b or c`.

    Args:
        quote: Written around each name.
        note: Written after the default one.
    """
    *others, last = (f"{quote}{name}{quote}{note if name == defaults.MODEL else ''}" for name in FAMILIES)
    return f"{', '.join(others)} or {last}" if others else last


def default_text(setting: str, general: int) -> str:
    """Default of a `train` setting for a sentence: `6 for usf, 40 for the others`, or the one value of all families."""
    by_name = {name: family.train.get(setting, general) for name, family in FAMILIES.items()}
    own = by_name.pop(defaults.MODEL)
    others = sorted({value for value in by_name.values() if value != own})
    return f"{own} for {defaults.MODEL}, {' or '.join(map(str, others))} for the others" if others else str(own)
