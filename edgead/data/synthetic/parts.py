"""Registry of synthetic parts and their defects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgead.data.synthetic.board import draw_board, solder_bridge
from edgead.data.synthetic.camera import Placement, random_placement
from edgead.data.synthetic.cap import draw_cap
from edgead.data.synthetic.defects import Defect, crack, crease, cut, dent, fibre, scratch, stain
from edgead.data.synthetic.disc import draw_disc
from edgead.data.synthetic.fabric import draw_fabric
from edgead.data.synthetic.surface import Size, Surface
from edgead.data.synthetic.tray import draw_tray


class Draw(Protocol):
    """Draw one part, good or with a flaw of `Part.flaws`; a flaw may use `rng` further, but only after all else."""

    def __call__(self, rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface: ...


@dataclass(frozen=True)
class Part:
    """A kind of part.

    Attributes:
        description: Short description for users.
        draw: Function that draws the surface.
        flaws: Names of the defects that `draw` itself makes.
        damage: All other defects, by name.
        place: Draws pose and light.
    """

    description: str
    draw: Draw
    flaws: tuple[str, ...]
    damage: dict[str, Defect]
    place: Callable[[np.random.Generator], Placement] = random_placement

    @property
    def defects(self) -> tuple[str, ...]:
        """Names of all defects of the part, sorted."""
        return tuple(sorted((*self.flaws, *self.damage)))


PARTS: dict[str, Part] = {
    "disc": Part(
        "turned steel flange",
        draw_disc,
        ("missing_hole",),
        {"scratch": scratch, "dent": dent, "stain": stain, "crack": crack, "fibre": fibre},
    ),
    "cap": Part(
        "moulded screw cap",
        draw_cap,
        ("broken_rim",),
        {"scratch": scratch, "dent": dent, "stain": stain, "crack": crack, "fibre": fibre},
    ),
    "fabric": Part(
        "woven cloth", draw_fabric, ("hole",), {"stain": stain, "cut": cut, "fibre": fibre, "crease": crease}
    ),
    "board": Part(
        "small circuit board",
        draw_board,
        ("missing_component",),
        {"scratch": scratch, "solder_bridge": solder_bridge, "stain": stain, "crack": crack, "fibre": fibre},
    ),
    "tray": Part(
        "kit of small parts, loose on a tray",
        draw_tray,
        ("missing_item", "extra_item", "swapped_item"),
        {"stain": stain, "fibre": fibre},
    ),
}
