"""Picture of the forms that a training tried: what each finds over the time of its backbone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edgead.commands.training.form_choice import POSITIONS, Choice
from edgead.storage import write_bytes

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 64, 48
_STYLE = (
    ".card{fill:#ffffff}text{font:12px sans-serif;fill:#1f2328}.label{paint-order:stroke;stroke:#ffffff;stroke-width:4px}.head{font-weight:600;font-size:14px}.soft{fill:#57606a}"
    ".grid{stroke:#d8dee4}.positions{fill:#0969da}.centres{fill:#b35900}.front{stroke:#57606a;fill:none;stroke-dasharray:4 3}"
    ".chosen{fill:none;stroke:#cf222e;stroke-width:2}@media (prefers-color-scheme:dark){.card{fill:#0d1117}text{fill:#e6edf3}"
    ".label{stroke:#0d1117}.soft{fill:#9da7b3}.grid{stroke:#30363d}.positions{fill:#58a6ff}.centres{fill:#f0a04b}.front{stroke:#9da7b3}.chosen{stroke:#ff7b72}}"
)


def pareto_front(choices: Sequence[Choice]) -> list[Choice]:
    """Choices of which no other one finds as much in less time, or more in the same, the fastest first."""
    front: list[Choice] = []
    for choice in sorted(choices, key=lambda one: (one.milliseconds, -one.merit)):
        if not front or choice.merit > front[-1].merit:
            front.append(choice)
    return front


def draw_choices(choices: Sequence[Choice], chosen: Choice, path: Path) -> None:
    """Draw all choices as an SVG file, the best of each time joined by a line, with a ring around the one that was kept.

    Args:
        choices: What was tried, at least one.
        chosen: The one that was kept; it may not be among them.
        path: File to write.

    Raises:
        StorageError: If it cannot be written.
    """
    slowest_ms = max(choice.milliseconds for choice in (*choices, chosen)) or 1.0
    step_ms = _step(slowest_ms)
    end_ms = step_ms * (int(slowest_ms / step_ms) + 1)

    def place(milliseconds: float, power: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * milliseconds / end_ms
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * power

    what = f"Artificial and known (weight {chosen.known_weight:.2f})" if chosen.known_weight else "Artificial"
    parts = [
        f'<rect class="card" width="{WIDTH}" height="{HEIGHT}"/>',
        _text(LEFT, 22, f"{what} defects found, by time of the backbone on this machine", "head"),
        _text(
            LEFT,
            42,
            f"Circle: Gaussian per position. Square: centres. Ring: kept, {chosen.merit:.0%} in {chosen.milliseconds:.0f} ms",
            "soft",
        ),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        (x, y), (end, _) = place(0.0, share), place(end_ms, share)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(x - 8, y + 4, f"{share:.0%}", "soft", "end"))
    for number in range(round(end_ms / step_ms) + 1):
        x, y = place(number * step_ms, 0.0)
        parts.append(_text(x, y + 18, f"{number * step_ms:g} ms", "soft", "middle"))
    front = pareto_front(choices)
    points = " ".join("{:.1f},{:.1f}".format(*place(choice.milliseconds, choice.merit)) for choice in front)
    parts.append(f'<polyline class="front" points="{points}"/>')
    parts.extend(_dot(place(choice.milliseconds, choice.merit), choice) for choice in choices)
    for choice in front:
        x, y = place(choice.milliseconds, choice.merit)
        anchor = "end" if x > (LEFT + WIDTH - RIGHT) / 2 else "start"
        parts.append(_text(x + (-12 if anchor == "end" else 12), y - 8, _name(choice), "label", anchor))
    x, y = place(chosen.milliseconds, chosen.merit)
    parts.append(f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="9"/>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="What was tried, and what was kept"><style>{_STYLE}</style>'
    )
    write_bytes(path, "\n".join((head, *parts, "</svg>\n")).encode("utf-8"))


def _dot(at: tuple[float, float], choice: Choice) -> str:
    x, y = at
    title = f"<title>{escape(choice.describe())}</title>"
    if choice.form == POSITIONS:
        return f'<circle class="positions" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
    return f'<rect class="centres" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8">{title}</rect>'


def _name(choice: Choice) -> str:
    if choice.shrinkage is None:
        form = "centres"
    else:
        form = f"Gaussian per position, shrinkage {choice.shrinkage:g}"
    light = f", light at {choice.variation:g}" if choice.variation else ""
    weights = f", weights {':'.join(f'{weight:g}' for weight in choice.level_weights)}" if choice.level_weights else ""
    network = f"{choice.backbone}, " if choice.backbone else ""
    return f"{network}{choice.image_size} px{''.join(f', {level}' for level in choice.levels)}{weights}, {form}{light}"


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _step(largest: float) -> float:
    """Distance of the ticks, 1, 2 or 5 times a power of ten, four to nine of them."""
    step = 0.001
    while True:
        for factor in (1, 2, 5):
            if largest / (step * factor) < 9.0:
                return step * factor
        step *= 10.0
