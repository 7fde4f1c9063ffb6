"""Models of every closed form, not fitted yet, for each input size and backbone that is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgead.commands.training.form_choice import CENTRES, POSITIONS
from edgead.config.root import Config

if TYPE_CHECKING:
    from edgead.models.backbone import Backbone
    from edgead.models.detector import Detector

# Largest size of the matrices of one Gaussian per position at larger inputs, in bytes.
POSITION_BYTES = 100e6


class FormModels:
    """Models by form, input size and backbone.

    Args:
        config: All settings, fitted to the backbone.
        classes: Classes of the images.

    Attributes:
        has_others: Whether backbones besides that of the settings are tried.
    """

    def __init__(self, config: Config, classes: tuple[str, ...]) -> None:
        self.config, self.classes = config, classes
        self.has_others = len(config.train.other_backbones) > 0
        self._costs: dict[str, float] = {}

    def forms(self, size: int, levels: tuple[str, ...]) -> list[str]:
        """Forms to try: at a larger input, a Gaussian per position only where its matrices are small."""
        forms: list[str] = list(self.config.train.forms)
        if size > self.config.model.image_size and CENTRES in forms:
            _config, model = self.build(size, CENTRES, levels, self.config.model.backbone)
            weights = sum(4.0 * level.size[0] * level.size[1] * level.channels**2 for level in model.levels)
            return [form for form in forms if form != POSITIONS or weights <= POSITION_BYTES]
        return forms

    def build(self, size: int, form: str, levels: tuple[str, ...], backbone: str) -> tuple[Config, Detector]:
        """Model with a pretrained backbone, and its settings."""
        from edgead.models.zoo import build_model

        own = self.config.model
        settings: dict[str, Any] = {
            "image_size": size,
            "levels": levels,
            "backbone": backbone,
            "weights": own.weights if backbone == own.backbone else None,
            "blocks": 0,
            "base": "normal",
            "positions": form == POSITIONS,
            "centres": (own.centres or self.config.train.centres) if form == CENTRES else 0,
        }
        config = self.config.model_copy(update={"model": own.model_copy(update=settings)})
        model = build_model(config.model, self.classes)
        model.drop_couplings()
        return config, model.eval()

    def cost(self, network: Backbone, name: str, size: int) -> float:
        """Multiply-adds for a pixel of the input, as a multiple of those of the first backbone that was asked for."""
        if not self.has_others:
            return 1.0
        self._costs.setdefault(name, network.multiply_adds(size) / size**2)
        return self._costs[name] / next(iter(self._costs.values()))
