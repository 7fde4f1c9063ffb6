"""Picture of a roofline, as SVG or PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

import numpy as np

from edgead.commands.roofline import LayerPoint, Roofline
from edgead.errors import ConfigError
from edgead.storage import write_bytes

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 60, 56
INK, PALE, ROOF, POINT, HEAVY = "#1f2328", "#d8dee4", "#b35900", "#0969da", "#cf222e"
SUFFIXES = (".svg", ".png")
HEAVY_SHARE = 0.05


class _Svg:
    """Shapes as an SVG document."""

    def __init__(self) -> None:
        self._parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: int) -> None:
        (x1, y1), (x2, y2) = start, end
        self._parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
        )

    def dot(self, at: tuple[float, float], radius: float, colour: str, title: str) -> None:
        self._parts.append(
            f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.6">'
            f"<title>{escape(title)}</title></circle>"
        )

    def text(self, at: tuple[float, float], words: str, anchor: str = "start") -> None:
        self._parts.append(
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{INK}" '
            f'font-family="Helvetica, Arial, sans-serif" font-size="13">{escape(words)}</text>'
        )

    def encoded(self) -> bytes:
        body = "\n".join(self._parts)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Roofline">'
        )
        return f"{head}\n{body}\n</svg>\n".encode()


class _Png:
    """The same shapes as pixels, twice as many as units."""

    SCALE = 2

    def __init__(self) -> None:
        self._image = np.full((HEIGHT * self.SCALE, WIDTH * self.SCALE, 3), 255, np.uint8)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: int) -> None:
        import cv2

        cv2.line(self._image, self._at(start), self._at(end), _bgr(colour), width * self.SCALE, cv2.LINE_AA)

    def dot(self, at: tuple[float, float], radius: float, colour: str, title: str) -> None:
        import cv2

        cv2.circle(self._image, self._at(at), round(radius * self.SCALE), _bgr(colour), -1, cv2.LINE_AA)

    def text(self, at: tuple[float, float], words: str, anchor: str = "start") -> None:
        import cv2

        words = words.replace("×", "x").encode("ascii", "replace").decode()
        font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42 * self.SCALE
        (width, _), _ = cv2.getTextSize(words, font, size, 1)
        x, y = self._at(at)
        x -= {"start": 0, "middle": width // 2, "end": width}[anchor]
        cv2.putText(self._image, words, (x, y), font, size, _bgr(INK), 1, cv2.LINE_AA)

    def encoded(self) -> bytes:
        import cv2

        return bytes(cv2.imencode(".png", self._image)[1])

    def _at(self, place: tuple[float, float]) -> tuple[int, int]:
        return round(place[0] * self.SCALE), round(place[1] * self.SCALE)


def require_picture_name(path: Path) -> None:
    """Refuse a file name that is neither SVG nor PNG.

    Raises:
        ConfigError: If the suffix is another one.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"--roofline draws files that end in .svg or .png, got {path.name!r}.",
            hint="Write --roofline roofline.svg, or --roofline - for the table alone.",
        )


def draw_roofline(result: Roofline, path: Path) -> None:
    """Draw operations per second over operations per byte, both logarithmic.

    A dot is a layer with multiply-adds that was measured; its area is its share of the time. The line is the measured peak.

    Args:
        result: Measured roofline.
        path: File to write, `.svg` or `.png`.

    Raises:
        ConfigError: If the suffix is another one.
        StorageError: If the file cannot be written.
    """
    require_picture_name(path)
    canvas = _Svg() if path.suffix.lower() == ".svg" else _Png()
    drawn = [layer for layer in result.layers if layer.cost.multiply_adds and layer.measured_ms]
    peak, bandwidth = result.peak.operations_per_s / 1e9, result.peak.bytes_per_s / 1e9
    ridge = peak / bandwidth
    rates = [_gflops(layer) for layer in drawn]
    x, x_ticks = _axis([ridge, *(layer.cost.intensity for layer in drawn)], LEFT, WIDTH - RIGHT)
    y, y_ticks = _axis([peak, *rates], HEIGHT - BOTTOM, TOP)
    for tick in x_ticks:
        canvas.line((x(tick), TOP), (x(tick), HEIGHT - BOTTOM), PALE, 1)
        canvas.text((x(tick), HEIGHT - BOTTOM + 20), f"{tick:g}", "middle")
    for tick in y_ticks:
        canvas.line((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)), PALE, 1)
        canvas.text((LEFT - 8, y(tick) + 4), f"{tick:g}", "end")
    left = max(x_ticks[0], y_ticks[0] / bandwidth)
    canvas.line((x(left), y(left * bandwidth)), (x(ridge), y(peak)), ROOF, 2)
    canvas.line((x(ridge), y(peak)), (WIDTH - RIGHT, y(peak)), ROOF, 2)
    for layer, rate in sorted(zip(drawn, rates, strict=True), key=lambda pair: -(pair[0].measured_ms or 0.0)):
        share = (layer.measured_ms or 0.0) / result.measured_ms
        title = f"{layer.cost.name}: {layer.measured_ms:.3f} ms, at least {layer.bound_ms:.3f} ms"
        colour = HEAVY if share >= HEAVY_SHARE else POINT
        canvas.dot((x(layer.cost.intensity), y(rate)), 3 + 30 * math.sqrt(share), colour, title)
    canvas.text(
        (LEFT, 24),
        f"GFLOP/s of each layer; peak {peak:.0f} GFLOP/s and {bandwidth:.1f} GB/s measured, {result.peak.threads} thread(s)",
    )
    canvas.text((LEFT, 44), f"area of a dot: share of the time; red: {HEAVY_SHARE:.0%} or more")
    canvas.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14), "operations per byte (a multiply-add is two)", "middle")
    write_bytes(path, canvas.encoded())


def _gflops(layer: LayerPoint) -> float:
    return 2e-6 * layer.cost.multiply_adds / (layer.measured_ms or 1.0)


def _axis(values: list[float], start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
    """Logarithmic map of values to places, and the powers of ten that enclose them."""
    low = math.floor(math.log10(min(values)) + 1e-9)
    high = max(math.ceil(math.log10(max(values)) - 1e-9), low + 1)
    return (
        lambda value: start + (end - start) * (math.log10(value) - low) / (high - low),
        [10.0**power for power in range(low, high + 1)],
    )


def _bgr(colour: str) -> tuple[int, int, int]:
    red, green, blue = _bytes(colour)
    return blue, green, red


def _bytes(colour: str) -> Iterator[int]:
    return (int(colour[place : place + 2], 16) for place in (1, 3, 5))
