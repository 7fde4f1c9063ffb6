"""Loss curves of a training run, as a picture and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgead.imaging import png_from_rgb
from edgead.storage import write_bytes

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 480, 90, 30, 60, 60
FIT, HELD_OUT, INK, GRID = (30, 120, 190), (220, 90, 30), (60, 60, 60), (225, 225, 225)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_table(path: Path, fit_loss: Sequence[float], held_out_loss: Sequence[float]) -> None:
    """Write the NLL of fitted and held-out images per epoch as CSV; epoch 0 is the closed-form start."""
    rows = [
        f"{epoch},{one!r},{other!r}" for epoch, (one, other) in enumerate(zip(fit_loss, held_out_loss, strict=True))
    ]
    write_bytes(path, "\n".join(["epoch,fit_loss,held_out_loss", *rows, ""]).encode())


def write_curve(path: Path, fit_loss: Sequence[float], held_out_loss: Sequence[float], kept_epoch: int) -> None:
    """Draw the NLL of fitted and held-out images per epoch, and the kept epoch, as a PNG."""
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    values = [*fit_loss, *held_out_loss]
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, 1e-3)
    low, high = low - pad, high + pad
    last = max(len(held_out_loss) - 1, 1)

    def point(epoch: float, value: float) -> tuple[int, int]:
        x = LEFT + epoch / last * (WIDTH - LEFT - RIGHT)
        y = TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return round(x), round(y)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        cv2.line(image, point(0, value), point(last, value), GRID, 1, cv2.LINE_AA)
        cv2.putText(image, f"{value:.3f}", (12, point(0, value)[1] + 5), FONT, 0.5, INK, 1, cv2.LINE_AA)
    for epoch in range(0, last + 1, max(1, last // 10)):
        cv2.putText(image, str(epoch), (point(epoch, low)[0] - 5, HEIGHT - 34), FONT, 0.5, INK, 1, cv2.LINE_AA)
    for name, series, colour, x in (("fitted", fit_loss, FIT, 0), ("held-out", held_out_loss, HELD_OUT, 150)):
        points = np.array([point(epoch, value) for epoch, value in enumerate(series)], np.int32)
        cv2.polylines(image, [points.reshape(-1, 1, 2)], False, colour, 2, cv2.LINE_AA)
        cv2.line(image, (LEFT + x, 30), (LEFT + x + 24, 30), colour, 3, cv2.LINE_AA)
        cv2.putText(image, name, (LEFT + x + 32, 35), FONT, 0.55, INK, 1, cv2.LINE_AA)
    cv2.circle(image, point(kept_epoch, held_out_loss[kept_epoch]), 6, HELD_OUT, cv2.FILLED, cv2.LINE_AA)
    text = f"kept: epoch {kept_epoch}, loss {held_out_loss[kept_epoch]:.4f}"
    cv2.putText(image, text, (LEFT + 320, 35), FONT, 0.55, INK, 1, cv2.LINE_AA)
    cv2.putText(image, "epoch", (WIDTH // 2, HEIGHT - 10), FONT, 0.5, INK, 1, cv2.LINE_AA)
    write_bytes(path, png_from_rgb(image))
