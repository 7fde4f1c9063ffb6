"""The fifteen kinds: reproducible, with exact masks, and with marks that are right on one kind and a defect of another."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgead.data.layouts import find_dataset
from edgead.data.reader import read_image
from edgead.data.synthetic.kinds import round_parts, tablets, textures
from edgead.data.synthetic.kinds.registry import KINDS, LOOK_ALIKES, OBJECTS, TEXTURES, LookAlike
from edgead.data.synthetic.kinds.shapes import Pose
from edgead.data.synthetic.make import make_part
from edgead.errors import ConfigError
from tools.kinds.make import Recipe, write_kinds

SMALL = (96, 96)
CASES = [(name, defect) for name, kind in KINDS.items() for defect in kind.defects]
TINY = Recipe(seed=3, size=48, n_train=2, n_good=1, n_per_defect=1)


def test_registry() -> None:
    """Ten objects and five textures, sorted by name, with four kinds of defect each."""
    assert (len(OBJECTS), len(TEXTURES)) == (10, 5)
    assert list(KINDS) == sorted(KINDS)
    assert all(len(kind.defects) == 4 for kind in KINDS.values())


@pytest.mark.parametrize(("name", "defect"), CASES)
def test_masks_are_exact(name: str, defect: str) -> None:
    """Outside the mask the defective picture equals the good one of the same seed; inside, the difference is visible."""
    good, empty = make_part(KINDS[name], np.random.default_rng(0), SMALL)
    image, mask = make_part(KINDS[name], np.random.default_rng(0), SMALL, defect)
    assert not empty.any()
    np.testing.assert_array_equal(image[~mask], good[~mask])
    assert 5 <= mask.sum() < 0.25 * mask.size
    assert np.abs(image[mask].astype(int) - good[mask]).max(axis=1).mean() > 8


@pytest.mark.parametrize("name", KINDS)
def test_kinds_vary(name: str) -> None:
    """Good pictures of a kind differ in surface, pose and light, and a seed gives one picture."""
    pictures = [make_part(KINDS[name], np.random.default_rng(seed), SMALL)[0] for seed in range(6)]
    np.testing.assert_array_equal(pictures[0], make_part(KINDS[name], np.random.default_rng(0), SMALL)[0])
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert means.std(axis=0).max() > 3
    placements = [KINDS[name].place(np.random.default_rng(seed)) for seed in range(40)]
    assert len({round((placement.lamp_deg or 0) / 45) for placement in placements}) >= 3
    assert len({round(placement.exposure, 1) for placement in placements}) >= 3
    assert np.std([placement.angle_deg for placement in placements]) > 1


DRAWN_BY = {
    "pill": (tablets, "draw_specks"),
    "capsule": (tablets, "band"),
    "gear": (round_parts, "paint_dot_at"),
    "wood": (textures, "knot_at"),
}


@pytest.mark.parametrize(
    "pair",
    [pair for pair in LOOK_ALIKES if pair.right_on in DRAWN_BY],
    ids=lambda pair: f"{pair.right_on}-{pair.defect_of}",
)
def test_a_mark_is_right_on_one_kind_and_a_defect_of_another(pair: LookAlike, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every good part of one kind has the mark; the other one has it as a defect, a colour in common, and the same table."""
    assert pair.defect in KINDS[pair.defect_of].defects
    first, second = ([_typical(name, seed) for seed in range(12)] for name in (pair.right_on, pair.defect_of))
    nearest = min(np.abs(one - other).max() for one in first for other in second)
    assert nearest < 12
    good = [KINDS[pair.right_on].draw(np.random.default_rng(seed), SMALL, flaw=None).colour for seed in range(4)]
    module, function = DRAWN_BY[pair.right_on]
    monkeypatch.setattr(module, function, lambda part, *rest: part)
    bare = [KINDS[pair.right_on].draw(np.random.default_rng(seed), SMALL, flaw=None).colour for seed in range(4)]
    assert all((np.abs(one - other).max(axis=2) > 0.03).sum() >= 5 for one, other in zip(good, bare, strict=True))
    poses = KINDS[pair.right_on].place, KINDS[pair.defect_of].place
    assert all(isinstance(pose, Pose) for pose in poses)
    assert len({pose.grounds for pose in poses if isinstance(pose, Pose)}) == 1


def test_mesh_and_cloth_are_one_weave() -> None:
    """Of the same seed, the threads have one colour; the mesh is open everywhere and the cloth nowhere."""
    for seed in range(4):
        cloth, mesh = (KINDS[name].draw(np.random.default_rng(seed), SMALL, flaw=None) for name in ("fabric", "grid"))
        assert np.abs(np.percentile(cloth.colour - mesh.colour, 98, axis=(0, 1))).max() < 0.6
        open_cloth, open_mesh = ((part.colour.max(axis=2) < 0.12).mean() for part in (cloth, mesh))
        assert open_cloth < 0.02
        assert open_mesh > 0.06


def _typical(name: str, seed: int) -> NDArray[np.float64]:
    """Colour of the lighter part of a surface, evenly lit."""
    surface = KINDS[name].draw(np.random.default_rng(seed), SMALL, flaw=None)
    return np.asarray(np.percentile(surface.colour[surface.inside > 0.9], 75, axis=0) * 255)


def test_a_set_is_written_once_and_read_as_mvtec(tmp_path: Path) -> None:
    """The pictures depend on the recipe alone, are recognised as fifteen classes, and another call writes nothing."""
    calls: list[tuple[int, int]] = []
    write_kinds(tmp_path / "one", TINY, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (15 * 7, 15 * 7)
    dataset = find_dataset(tmp_path / "one")
    assert (dataset.layout, dataset.classes) == ("MVTec AD", tuple(KINDS))
    assert (len(dataset.train), len(dataset.test)) == (30, 75)
    assert all((sample.mask_path is not None) == (sample.defect != "good") for sample in dataset.test)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.png")}
    pictures = {path: path.read_bytes() for path in before}
    shutil.rmtree(tmp_path / "one" / "wood")  # what a killed call leaves are whole kinds
    write_kinds(tmp_path / "one", TINY)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.png")}
    assert {path for path in before if before[path] != after[path]} == {path for path in before if "wood" in path.parts}
    assert {path: path.read_bytes() for path in after} == pictures
    folder = tmp_path / "one"
    means = {
        name: [read_image(path).mean() for path in sorted((folder / name).rglob("test/*/*.png"))] for name in KINDS
    }
    # a fingerprint that holds with another version of OpenCV, whose pixels may differ in their last bit
    np.testing.assert_allclose([np.mean(values) for values in means.values()], MEANS, atol=0.3)
    np.testing.assert_allclose([np.std(values) for values in means.values()], DEVIATIONS, atol=0.3)


MEANS = (48.5, 85.0, 64.2, 73.7, 85.2, 99.4, 61.8, 73.0, 36.3, 73.4, 96.1, 158.4, 120.3, 122.5, 110.8)
DEVIATIONS = (5.0, 9.7, 8.1, 6.6, 8.9, 13.7, 10.8, 7.1, 4.6, 25.8, 6.5, 14.9, 13.0, 13.1, 18.8)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Neither other files nor a set of another recipe are written over."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("kept")
    with pytest.raises(ConfigError, match="is not empty"):
        write_kinds(tmp_path / "mine", TINY)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["a.txt"]
    with pytest.raises(ConfigError, match="--scale must be greater than 0"):
        Recipe.scaled(0)
