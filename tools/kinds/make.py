"""Write the fifteen kinds as a data set in the layout of MVTec AD."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgead.data.synthetic.kinds.registry import KINDS, TEXTURES
from edgead.data.synthetic.make import write_dataset
from edgead.errors import ConfigError
from edgead.storage import replace_folder, scratch_folder, write_json

RECORD = "kinds.json"
GENERATED = "Generated pictures, in the layout of MVTec AD. None of them is a photograph."
N_TRAIN, N_GOOD, N_PER_DEFECT = 200, 60, 15
# More than there are kinds: no two kinds and seeds share a stream of random numbers.
_STREAMS = 64


@dataclass(frozen=True)
class Recipe:
    """What a data set of kinds is made from.

    Attributes:
        seed: Random seed.
        size: Side of the pictures in px, at least 48.
        n_train: Good training pictures of each kind.
        n_good: Good test pictures of each kind.
        n_per_defect: Test pictures of each of its four kinds of defect.
    """

    seed: int = 0
    size: int = 256
    n_train: int = N_TRAIN
    n_good: int = N_GOOD
    n_per_defect: int = N_PER_DEFECT

    @classmethod
    def scaled(cls, scale: float, *, seed: int = 0, size: int = 256) -> Recipe:
        """The recipe with `scale` times as many pictures of everything, at least one each.

        Raises:
            ConfigError: If `scale` is not positive or `size` is too small.
        """
        if not 0 < scale:
            raise ConfigError(f"--scale must be greater than 0, got {scale:g}.")
        if size < 48:
            raise ConfigError(f"--size must be at least 48, got {size}.")
        counts = (max(1, round(scale * number)) for number in (N_TRAIN, N_GOOD, N_PER_DEFECT))
        return cls(seed, size, *counts)


def write_kinds(out: Path, recipe: Recipe, progress: Callable[[int, int], None] | None = None) -> None:
    """Write every kind that is not there yet; the same call continues one that was killed.

    Args:
        out: Folder of the data set, new or of an earlier call with the same recipe.
        recipe: What to write.
        progress: Called with the number of pictures done and the total.

    Raises:
        ConfigError: If the folder holds something else.
        StorageError: If it cannot be written.
    """
    record = {"what": GENERATED, **asdict(recipe), "kinds": list(KINDS), "textures": list(TEXTURES)}
    found = out / RECORD
    if found.is_file():
        if json.loads(found.read_text(encoding="utf-8")) != record:
            raise ConfigError(
                f"{out} holds kinds of another recipe.", hint=f"Name a new folder, or look into {found.name}."
            )
    elif out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty and holds no {RECORD}.", hint="Name a new folder.")
    write_json(found, record)
    each = recipe.n_train + recipe.n_good + 4 * recipe.n_per_defect
    for index, (name, kind) in enumerate(KINDS.items()):
        done = index * each

        def advance(number: int, _: int, done: int = done) -> None:
            if progress is not None:
                progress(done + number, len(KINDS) * each)

        if not (out / name).exists():
            with scratch_folder(out, name) as folder:
                write_dataset(
                    folder / name, kind, n_train=recipe.n_train, n_test_good=recipe.n_good,
                    n_test_per_defect=recipe.n_per_defect, seed=recipe.seed * _STREAMS + index,
                    size=(recipe.size, recipe.size), progress=advance,
                )  # fmt: skip
                replace_folder(folder / name, out / name)
        advance(each, each)
