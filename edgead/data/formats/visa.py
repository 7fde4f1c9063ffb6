"""VisA layout: one CSV table assigns every image to a class and to training or test."""

from __future__ import annotations

import csv
from pathlib import Path

from edgead.data.dataset import GOOD, Mask, Sample
from edgead.errors import DataError

SPLIT_FILE = Path("split_csv") / "1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")
_NORMAL = "normal"


def read_visa(root: Path, only: str | None = None) -> tuple[list[Sample], list[Sample]] | None:
    """Read `split_csv/1cls.csv`; the other tables of that folder are for other tasks.

    Args:
        root: Folder that holds `split_csv`.
        only: Single class to read, with sample names relative to its own folder; None reads all classes.

    Returns:
        Training and test samples; None if the table has no class `only`.

    Raises:
        DataError: If the table differs from the one that VisA ships, or an image in it is missing.
    """
    table = root / SPLIT_FILE
    train: list[Sample] = []
    test: list[Sample] = []
    for number, row in _rows(table):
        if only is not None and row["object"] != only:
            continue
        if row["split"] not in ("train", "test"):
            raise DataError(
                f"{table}, line {number}: split is {row['split']!r}; allowed: train, test.",
                hint="Use the table that VisA ships.",
            )
        sample = _sample(root, row, only)
        (train if row["split"] == "train" else test).append(sample)
    _require_files(table, train + test)
    return (train, test) if train or test or only is None else None


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{table} has the columns {', '.join(reader.fieldnames or ['none'])}; missing: {', '.join(missing)}.",
                    hint=f"VisA's table has {', '.join(_COLUMNS)}.",
                )
            return [(reader.line_num, {key: row[key] or "" for key in _COLUMNS}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}.", hint="Use the table that VisA ships.") from error


def _sample(root: Path, row: dict[str, str], only: str | None) -> Sample:
    defective = row["label"] != _NORMAL
    mask = Mask((root / row["mask"],)) if defective and row["mask"] else None
    name = row["image"].removeprefix(f"{only}/") if only is not None else row["image"]
    return Sample(root / row["image"], name, row["object"], defective, "anomaly" if defective else GOOD, mask)


def _require_files(table: Path, samples: list[Sample]) -> None:
    files = [path for sample in samples for path in (sample.path, *(sample.mask.files if sample.mask else ()))]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(files)} files in {table} are missing, the first: {missing[0]}.",
            hint="Unpack the complete VisA archive into one folder.",
        )
