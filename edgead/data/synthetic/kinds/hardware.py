"""Screws, transistors and boards."""

from __future__ import annotations

import numpy as np

from edgead.data.synthetic.board import draw_board as draw_green_board
from edgead.data.synthetic.kinds.shapes import box_distance, choose, edge, surface, text_cover
from edgead.data.synthetic.surface import (
    Field,
    Size,
    Surface,
    distance_from,
    fractal_noise,
    grid,
    mix,
    pixel,
    smooth_noise,
)

_METALS = ((0.56, 0.565, 0.57), (0.62, 0.50, 0.26), (0.27, 0.27, 0.28))
_PITCH = 0.088
_LEAD_X = (-0.17, 0.0, 0.17)


def draw_screw(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A countersunk screw from the side; `no_tip` breaks its tip off, `worn_thread` flattens some turns."""
    metal = choose(rng, _METALS, 0.06)
    phase, place = float(rng.uniform(0, 1)), float(rng.uniform(-0.20, 0.45))
    x, y = grid(size)
    # half width along the screw: head, shank, thread, tip
    axis = np.array((-0.80, -0.76, -0.75, -0.56, -0.52, -0.30, -0.29, 0.60, 0.80), np.float32)
    body = np.array((0.20, 0.225, 0.225, 0.095, 0.085, 0.085, 0.075, 0.07, 0.008), np.float32)
    half = np.interp(x, axis, body)
    turns = (x + 0.10 * y) / _PITCH + phase
    ridge = 1 - 2 * np.abs(turns - np.floor(turns) - 0.5)
    depth = np.interp(x, (-0.32, -0.28, 0.58, 0.74), (0.0, 0.034, 0.034, 0.0))
    if flaw == "worn_thread":
        depth = depth * (1 - 0.9 * np.exp(-(((x - place) / 0.10) ** 4)))
    half = half + depth * ridge
    end = 0.62 + 0.10 * place if flaw == "no_tip" else 0.80
    outside = np.maximum(np.abs(y) - half, np.maximum(-0.80 - x, x - np.float32(end)))
    inside = edge(np.asarray(outside * 0.8, np.float32), size)
    share = np.clip(np.abs(y) / np.maximum(half, 0.01), 0, 0.985)
    height = half * np.sqrt(1 - share * share) / pixel(size) * 0.85
    tone = 1 + 0.03 * smooth_noise(rng, size, 40) + 0.05 * fractal_noise(rng, size, 4, 2)
    tone = tone * (0.80 + 0.28 * np.where(depth > 0.002, ridge, 0.6))
    return surface(metal * np.asarray(tone, np.float32)[:, :, None], height, inside, 0.6)


def draw_transistor(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A power transistor with a tab and three leads; `bent_lead` bends one, `cut_lead` shortens one."""
    black = choose(rng, ((0.10, 0.10, 0.105), (0.17, 0.16, 0.16)), 0.05)
    wrong, amount = int(rng.integers(3)), float(rng.choice((-1.0, 1.0)) * rng.uniform(0.05, 0.12))
    short = float(rng.uniform(0.10, 0.30))
    word = ("TIP41", "BD139", "IRF54")[int(rng.integers(3))]
    uneven, grain = fractal_noise(rng, size, 5, 2), smooth_noise(rng, size, 80)
    x, y = grid(size)
    tab = box_distance(size, 0, -0.60, 0.33, 0.22)
    tab = np.maximum(tab, 0.105 - distance_from(size, 0, -0.62))
    body = box_distance(size, 0, -0.08, 0.35, 0.34)
    leads = np.full(size, 1.0, np.float32)
    for index, start in enumerate(_LEAD_X):
        centre: Field | np.float32 = np.float32(start)
        length = 0.30
        if index == wrong and flaw == "bent_lead":
            centre = np.asarray(start + amount * np.clip((y - 0.30) / 0.5, 0, 1) ** 2, np.float32)
        if index == wrong and flaw == "cut_lead":
            length = 0.30 - short / 2
        wide = 0.030 + 0.022 * np.clip((0.42 - y) * 60, 0, 1)
        lead = np.maximum(np.abs(x - centre) - wide, np.abs(y - np.float32(0.24 + length)) - np.float32(length))
        leads = np.minimum(leads, lead).astype(np.float32)
    tin = np.array([0.62, 0.625, 0.63], np.float32) * (1 + 0.03 * uneven + 0.02 * grain)[:, :, None]
    cover = edge(np.asarray(body, np.float32), size)
    colour = mix(np.asarray(tin, np.float32), black * (1 + 0.04 * grain + 0.03 * uneven)[:, :, None], cover)
    label = np.maximum(text_cover(size, word, 0, -0.16, 0.095), text_cover(size, "2431", 0, 0.03, 0.07))
    colour = mix(colour, (0.52, 0.52, 0.51), np.asarray(label * cover * 0.85, np.float32))
    outside = np.minimum(np.minimum(tab, body), leads)
    bevel = np.clip(-body, 0, 0.04) * 0.5 + 0.06 * cover
    height = (bevel + 0.5 * np.clip(-np.minimum(tab, leads), 0, 0.018)) / pixel(size) + 0.05 * grain
    return surface(colour, height, edge(np.asarray(outside, np.float32), size), 0.4)


def draw_board(rng: np.random.Generator, size: Size, *, flaw: str | None) -> Surface:
    """A circuit board with a green, blue or red mask."""
    order = ((0, 1, 2), (0, 2, 1), (1, 0, 2))[int(rng.integers(3))]
    board = draw_green_board(rng, size, flaw=flaw)
    red, green, blue = (board.colour[:, :, channel] for channel in range(3))
    masked = np.clip((green - np.maximum(red, blue)) * 12, 0, 1)
    return surface(mix(board.colour, board.colour[:, :, order], masked), board.height, board.inside, board.gloss)
