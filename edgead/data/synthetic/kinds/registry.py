"""Registry of the kinds: ten objects and five textures with four kinds of defect each, and which of them look alike."""

from __future__ import annotations

from dataclasses import dataclass

from edgead.data.synthetic.board import solder_bridge
from edgead.data.synthetic.defects import crack, crease, cut, dent, fibre, scratch
from edgead.data.synthetic.kinds.hardware import draw_board, draw_screw, draw_transistor
from edgead.data.synthetic.kinds.marks import (
    band,
    chip,
    glue,
    knot,
    paint_dot,
    pinhole,
    print_mark,
    rust,
    specks,
    spot,
)
from edgead.data.synthetic.kinds.round_parts import draw_bottle, draw_cable, draw_cap, draw_gear
from edgead.data.synthetic.kinds.shapes import Pose
from edgead.data.synthetic.kinds.tablets import draw_capsule, draw_hazelnut, draw_pill
from edgead.data.synthetic.kinds.textures import draw_fabric, draw_grid, draw_leather, draw_tile, draw_wood
from edgead.data.synthetic.parts import Part


@dataclass(frozen=True)
class LookAlike:
    """A mark that is right on one kind and a defect of another one that looks like it.

    Attributes:
        mark: What it is.
        right_on: Kind whose good parts all have it.
        defect_of: Kind that it is a defect of.
        defect: Its name there.
    """

    mark: str
    right_on: str
    defect_of: str
    defect: str


_SQUARE = Pose(angles_deg=(0.0, 90.0, 180.0, 270.0), spread_deg=1.5, shift=0.02)
_ANY = Pose(angles_deg=(), shift=0.012, scale=(0.94, 1.0))
_WHITE_TABLE = Pose(
    angles_deg=(0.0, 180.0), spread_deg=4.0, shift=0.015, scale=(0.97, 1.03), grounds=((0.30, 0.32, 0.34),)
)

KINDS: dict[str, Part] = {
    "board": Part(
        "circuit board",
        draw_board,
        ("missing_component",),
        {"scratch": scratch, "solder_bridge": solder_bridge, "crack": crack},
        Pose(angles_deg=(0.0, 180.0), shift=0.01),
    ),
    "bottle": Part(
        "mouth of a bottle",
        draw_bottle,
        ("broken_rim",),
        {"crack": crack, "chip": chip, "fibre": fibre},
        Pose(angles_deg=(), grounds=((0.78, 0.78, 0.77), (0.62, 0.63, 0.64))),
    ),
    "cable": Part(
        "cross-section of a cable",
        draw_cable,
        ("missing_wire", "swapped"),
        {"pinhole": pinhole, "chip": chip},
        Pose(angles_deg=(0.0, 120.0), shift=0.012, grounds=((0.36, 0.36, 0.37),)),
    ),
    "cap": Part(
        "moulded screw cap",
        draw_cap,
        ("broken_rim",),
        {"paint_dot": paint_dot, "scratch": scratch, "dent": dent},
        _ANY,
    ),
    "capsule": Part(
        "capsule of two halves",
        draw_capsule,
        ("misprint",),
        {"specks": specks, "dent": dent, "crack": crack},
        _WHITE_TABLE,
    ),
    "fabric": Part(
        "closed weave",
        draw_fabric,
        ("opening",),
        {"spot": spot, "cut": cut, "fibre": fibre},
        _SQUARE,
    ),
    "gear": Part(
        "gear",
        draw_gear,
        ("missing_tooth", "no_dot"),
        {"rust": rust, "scratch": scratch},
        _ANY,
    ),
    "grid": Part(
        "open mesh",
        draw_grid,
        ("broken", "bent", "closed"),
        {"fibre": fibre},
        _SQUARE,
    ),
    "hazelnut": Part(
        "hazelnut",
        draw_hazelnut,
        (),
        {"crack": crack, "pinhole": pinhole, "print": print_mark, "cut": scratch},
        Pose(angles_deg=(), shift=0.02, scale=(0.92, 1.06), grounds=((0.10, 0.10, 0.11),)),
    ),
    "leather": Part(
        "grained leather",
        draw_leather,
        (),
        {"knot": knot, "cut": cut, "crease": crease, "glue": glue},
        _SQUARE,
    ),
    "pill": Part(
        "speckled tablet",
        draw_pill,
        ("no_specks",),
        {"band": band, "chip": chip, "crack": crack},
        _WHITE_TABLE,
    ),
    "screw": Part(
        "countersunk screw",
        draw_screw,
        ("no_tip", "worn_thread"),
        {"rust": rust, "scratch": scratch},
        Pose(angles_deg=(), shift=0.02, grounds=((0.70, 0.70, 0.69), (0.50, 0.51, 0.53))),
    ),
    "tile": Part(
        "polished stone tile",
        draw_tile,
        (),
        {"crack": crack, "chip": chip, "glue": glue, "spot": spot},
        _SQUARE,
    ),
    "transistor": Part(
        "power transistor",
        draw_transistor,
        ("bent_lead", "cut_lead"),
        {"chip": chip, "scratch": scratch},
        Pose(angles_deg=(0.0,), spread_deg=2.5, shift=0.015, grounds=((0.66, 0.62, 0.52), (0.45, 0.52, 0.50))),
    ),
    "wood": Part(
        "planed board with knots",
        draw_wood,
        (),
        {"scratch": scratch, "spot": spot, "pinhole": pinhole, "crack": crack},
        Pose(angles_deg=(0.0, 90.0), spread_deg=2.0, shift=0.02),
    ),
}

TEXTURES = ("fabric", "grid", "leather", "tile", "wood")
OBJECTS = tuple(name for name in KINDS if name not in TEXTURES)

LOOK_ALIKES = (
    LookAlike("specks of pigment", right_on="pill", defect_of="capsule", defect="specks"),
    LookAlike("band around the middle", right_on="capsule", defect_of="pill", defect="band"),
    LookAlike("openings between threads", right_on="grid", defect_of="fabric", defect="opening"),
    LookAlike("closed threads", right_on="fabric", defect_of="grid", defect="closed"),
    LookAlike("dot of white paint", right_on="gear", defect_of="cap", defect="paint_dot"),
    LookAlike("dark knot", right_on="wood", defect_of="leather", defect="knot"),
)
