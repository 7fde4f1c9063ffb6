"""Folders of many products, each to be trained alone: which they are, their settings, and how far their runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from edgead.commands.training.data import fit_backbone
from edgead.commands.training.runs import BUNDLE, LATEST, RECORDED, RUN_FILE, RUNS, differences, read_run
from edgead.config.file import load_config
from edgead.config.root import Config
from edgead.data.folders import list_files, list_images, subfolders
from edgead.data.names import is_only, is_only_split, may_be_product
from edgead.errors import ConfigError, DataError
from edgead.migration import upgrade_settings
from edgead.printable import path_text
from edgead.progress import Progress

State = Literal["new", "unfinished", "finished"]
# folders with the tables of VisA and Real-IAD beside those of their classes
_TABLES = ("split_csv", "realiad_jsons")


@dataclass(frozen=True)
class ClassFolder:
    """A class to train alone.

    Attributes:
        name: Name of its folder, as text.
        config: Settings of its training, whose data are the folder.
        run: Folder of its run.
        n_images: Number of images in the folder, good or not.
    """

    name: str
    config: Config
    run: Path
    n_images: int

    @property
    def state(self) -> State:
        """How far its run is."""
        if (self.run / BUNDLE).is_dir():
            return "finished"
        return "unfinished" if (self.run / RUN_FILE).is_file() else "new"

    def has_newer_images(self) -> bool:
        """Whether a file or folder of the images was changed after its bundle was written."""
        written = (self.run / BUNDLE).stat().st_mtime
        files = list(list_files(self.config.data.root))
        return any(path.stat().st_mtime > written for path in {*files, *(path.parent for path in files)})


def class_folders(root: Path) -> list[Path]:
    """Folders of the classes in `root`: all but hidden ones, masks, and the tables of VisA and Real-IAD.

    Raises:
        DataError: If there are none, or their names say that the folder is one data set.
    """
    if not root.is_dir():
        raise DataError(
            f"The data folder {root} does not exist.", hint="Name a folder that holds one folder for each class."
        )
    found = [path for path in subfolders(root) if not path.name.startswith(_TABLES)]
    parts = [
        path.name
        for path in found
        if is_only_split(path.name) or is_only(path.name, "good") or is_only(path.name, "defect")
    ]
    if parts:
        raise DataError(
            f"{root} is one data set and holds no folder for each class: it has {', '.join(parts[:3])}.",
            hint=f"Train it alone, without --each-class, or name the folder above it: {root.resolve().parent}",
        )
    found = [path for path in found if may_be_product(path.name) or not is_only(path.name, "mask")]
    if not found:
        raise DataError(f"There are no folders in {root}.", hint="Name a folder that holds one folder for each class.")
    return found


def read_classes(file: Path | None, overrides: Mapping[str, Any], out: Path, progress: Progress) -> list[ClassFolder]:
    """Classes of the folder `data.root`, with the settings of each.

    Args:
        file: YAML file with settings; None = `./edgead.yaml` where it exists.
        overrides: Value per dotted key. Names in `data.exclude` begin with that of the class's folder.
        out: Parent folder of the runs.
        progress: Receiver of the notes about settings that do not fit the backbone.

    Raises:
        DataError: If there are no classes.
        ConfigError: If a setting cannot be used with one model for each class, or a run was started with another one.
    """
    config = load_config(file, dict(overrides))
    _check(config)
    root = config.data.root
    folders = class_folders(root)
    if any(folder.name == LATEST for folder in folders):
        raise ConfigError(
            f"{root / LATEST} cannot be a class: the newest run has this name.", hint="Rename the folder."
        )
    excluded = _excluded(config.data.exclude, folders)
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(
            f"The runs cannot be in {out}: it lies in the folder of the classes, {root}, and would be one.",
            hint="Name a folder outside of it: --out DIR",
        )
    classes = [
        ClassFolder(
            path_text(folder.name),
            load_config(file, {**overrides, "data.root": str(folder), "data.exclude": excluded[folder.name]}),
            out / folder.name,
            len(list_images(folder)),
        )
        for folder in folders
    ]
    _check_runs(classes, fit_backbone(config, progress))
    return classes


def default_out(root: Path) -> Path:
    """Parent folder of the runs, the same for each call."""
    return RUNS / (root.resolve().name or "data")


def refuse_several(config: Config) -> None:
    """Check that the folder of a class is not one of several.

    Raises:
        DataError: If it is.
    """
    from edgead.data.layouts import find_dataset

    root = config.data.root
    names = find_dataset(root).classes
    if len(names) > 1:
        raise DataError(
            f"{root} holds {len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}).",
            hint=f"Train them by themselves: edgead train {root} --each-class",
        )


def _check(config: Config) -> None:
    """Check that the settings make sense for one model of each class."""
    for key in ("good", "bad", "masks"):
        if getattr(config.data, key):
            raise ConfigError(
                f"--each-class finds good and defective images in the folder of each class; data.{key} names folders of one class.",
                hint=f"Leave out --{key}, or train that class alone.",
            )
    if config.train.add_to is not None:
        raise ConfigError("--each-class makes new models, and --add-to changes one.", hint="Give one of them.")
    if config.model.name == "hgad":
        raise ConfigError(
            "--each-class makes a model of each class, and --model hgad is one model for all of them.",
            hint="Give one of them.",
        )


def _excluded(patterns: Sequence[str], folders: Sequence[Path]) -> dict[str, list[str]]:
    """Patterns of images to leave out, by folder, relative to it."""
    found: dict[str, list[str]] = {folder.name: [] for folder in folders}
    for pattern in patterns:
        head, _, rest = pattern.partition("/")
        names = [name for name in found if rest and fnmatchcase(name, head)]
        if not names:
            raise ConfigError(
                f"data.exclude {pattern!r} names no class.",
                hint="Begin with the folder of the class: CLASS/train/good/7.png",
            )
        for name in names:
            found[name].append(rest)
    return found


def _check_runs(classes: Sequence[ClassFolder], fitted: Config) -> None:
    """Check that every run that is there was started with these settings."""
    for one in classes:
        if one.state == "new":
            continue
        wanted = one.config.model_copy(update={"model": fitted.model}).model_dump(mode="json", include=set(RECORDED))
        recorded = upgrade_settings(read_run(one.run).get("settings"))
        own = {name: {**wanted[name], **recorded.get(name, {})} for name in wanted}
        if one.config.data.tiles != "1x1":  # training chooses the levels for tiles
            own["model"]["levels"] = wanted["model"]["levels"]
        if changed := differences(own, wanted):
            raise ConfigError(
                f"{one.run} was started with other settings: {'; '.join(changed)}.",
                hint="Give these settings again, name another folder with --out, or remove that run.",
            )
