"""How many values of a tile's map make its score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgead.models.detector import Detector
from edgead.train.pooling import best_count, pooling_power
from edgead.train.start import Indices


class MapModel(nn.Module):
    """A model whose anomaly map is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.head = nn.Module()
        self.head.top_k = 8

    def class_bias(self, labels: torch.Tensor) -> None:
        return None

    def latents(self, whitened: list[torch.Tensor]) -> list[torch.Tensor]:
        return whitened

    def statistics(self, latents: list[torch.Tensor], bias: None) -> list[torch.Tensor]:
        return latents

    def score(self, parts: list[torch.Tensor]) -> tuple[torch.Tensor, None]:
        return parts[0][:, 0], None


def power_of(good: np.ndarray, defective: np.ndarray, tiles: int) -> dict[int, float]:
    array = np.concatenate([good, defective]).astype(np.float16)[:, None]
    rows = Indices((), tuple(range(len(good))), tuple(range(len(good), len(array))))
    model: Detector = MapModel()  # type: ignore[assignment]
    return pooling_power(model, [array], np.zeros(len(array), np.int64), rows, tiles)


def test_a_defect_of_one_position_is_found_by_the_highest_value_alone() -> None:
    """The mean of more values buries it."""
    good, defective = np.zeros((6, 5, 5)), np.zeros((4, 5, 5))
    good[:, :2] = 1.0
    defective[:, 0, 0] = 3.0
    power = power_of(good, defective, tiles=3)
    assert power[1] == 1.0
    assert power[8] == 0.0
    assert best_count(power) == 2
    assert list(power) == [1, 2, 4, 8]


def test_a_pale_defect_of_many_positions_is_found_by_many_values() -> None:
    """Good tiles with single high values set the bar for single ones."""
    good, defective = np.zeros((6, 5, 5)), np.zeros((4, 5, 5))
    good[:, 0, 0] = 3.0
    defective[:, :2] = 2.0
    power = power_of(good, defective, tiles=2)
    assert power[1] == 0.0
    assert power[8] == 1.0
    assert best_count(power) == 8


def test_one_high_tile_of_one_good_frame_sets_the_bar() -> None:
    """A frame alarms by its worst tile."""
    good, defective = np.zeros((6, 3, 3)), np.ones((2, 3, 3))
    assert power_of(good, defective, tiles=3)[1] == 1.0
    good[5, 1, 1] = 2.0
    assert power_of(good, defective, tiles=3)[1] == 0.0


@pytest.mark.parametrize(("power", "count"), [({1: 0.5, 2: 0.5, 4: 0.4}, 2), ({1: 0.0, 8: 0.0}, 8)])
def test_of_equal_powers_the_largest_number_of_values_is_kept(power: dict[int, float], count: int) -> None:
    """It depends least on single values."""
    assert best_count(power) == count
