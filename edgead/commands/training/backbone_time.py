"""Time of a backbone: measured on this machine, or estimated for the board that the detector is to run on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.commands.training.backbone_session import BackboneSession, torch_milliseconds
from edgead.config.root import Config
from edgead.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from edgead.models.backbone import Backbone

MEASURE = "Measure an engine there with `edgead bench BUNDLE --json FILE`, and copy the file here."


@dataclass(frozen=True)
class BoardTimes:
    """Times of engines on another machine.

    Attributes:
        multiply_adds: Of an input of each engine, ascending, above 0.
        milliseconds: Median time of that input.
        engine: What ran, and on which device.
    """

    multiply_adds: tuple[int, ...]
    milliseconds: tuple[float, ...]
    engine: str

    def estimate(self, multiply_adds: int) -> float:
        """Estimated time in milliseconds: interpolated between engines, proportional to multiply-adds outside their range."""
        known, times = np.array(self.multiply_adds, float), np.array(self.milliseconds)
        nearest = int(np.clip(multiply_adds, known[0], known[-1]))
        return float(np.interp(nearest, known, times)) * multiply_adds / nearest

    def __str__(self) -> str:
        each = ", ".join(
            f"{time:.1f} ms for {count / 1e6:.0f} million"
            for count, time in zip(self.multiply_adds, self.milliseconds, strict=True)
        )
        return f"Backbone times are those of {self.engine}, estimated from multiply-adds ({each})."


def read_board_times(files: Sequence[Path]) -> BoardTimes | None:
    """Results of `edgead bench --json` on one machine and engine; None without files.

    Raises:
        ConfigError: If a file is missing or is no such result, or if engines or devices differ.
    """
    found = sorted((_point(path) for path in files), key=lambda point: point[0])
    if not found:
        return None
    engines = sorted({engine for _, _, engine in found})
    if len(engines) > 1:
        raise ConfigError(
            f"train.budget_bench has results of different engines: {', '.join(engines)}.",
            hint="Give results of one engine on one board.",
        )
    times = {count: milliseconds for count, milliseconds, _ in found}
    return BoardTimes(tuple(times), tuple(times.values()), engines[0])


def backbone_milliseconds(
    config: Config, backbone: Backbone, image_size: int, device: torch.device, session: BackboneSession | None
) -> float:
    """Time of the backbone for a square image of this side in pixels, on the board of `train.budget_bench` or here."""
    board = read_board_times(config.train.budget_bench)
    if board is not None:
        return board.estimate(backbone.multiply_adds(image_size))
    return session.milliseconds() if session else torch_milliseconds(backbone, image_size, device)


def _point(path: Path) -> tuple[int, float, str]:
    """Multiply-adds and milliseconds of one input, and the engine."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        inputs = content.get("inputs_per_frame", 1)
        count, milliseconds = int(content["multiply_adds"]), float(content["engine_ms"]["p50"]) / inputs
        engine = f"{content['engine']} on {content['device']}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        what = "cannot be read" if isinstance(error, OSError) else "is no result of `edgead bench --json`"
        raise ConfigError(
            f"train.budget_bench: {path} {what} ({type(error).__name__}: {error}).", hint=MEASURE
        ) from error
    if count <= 0 or not milliseconds > 0:
        raise ConfigError(
            f"train.budget_bench: {path} states {count} multiply-adds in {milliseconds:g} ms; both must be above 0.",
            hint=MEASURE,
        )
    return count, milliseconds, engine
