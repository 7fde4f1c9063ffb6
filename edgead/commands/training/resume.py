"""Settings of a resumed run: those of its record; other ones that were asked for are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgead.commands.training.data import fit_backbone
from edgead.commands.training.runs import MOVABLE, RECORDED, differences, read_run, unfinished_run
from edgead.config.file import DEFAULT_CONFIG, load_config, read_values
from edgead.config.root import Config
from edgead.errors import ConfigError
from edgead.migration import upgrade_settings
from edgead.progress import Progress, Silent


def resumed_config(
    file: Path | None, overrides: Mapping[str, Any], progress: Progress, *, out: Path | None, runs: Path
) -> Config:
    """Settings to resume a run with.

    Device and location of the data may be given again; everything else that decides the result is the run's own. The
    settings of a stream, which a training does not use, are the given ones.

    Args:
        file: YAML file that was asked for; None = `./edgead.yaml`, of which a note names what does not apply.
        overrides: Value per dotted key that was asked for.
        progress: Receiver of notes.
        out: Folder of the run; None = the newest unfinished one in `runs`.
        runs: Parent folder of the runs.

    Raises:
        ConfigError: If there is no such run, or a setting that was asked for differs from the run's.
    """
    run = out or unfinished_run(runs)
    given = load_config(file, dict(overrides))
    config = _recorded(run, given)
    asked = upgrade_settings(read_values(file, overrides))
    changed = list(_changes(config, asked))
    if changed:
        raise ConfigError(
            f"{run} was started with other settings than asked for: {'; '.join(changed)}.",
            hint="Leave these out to resume with the run's own settings, or start a new run without --resume.",
        )
    if file is None and DEFAULT_CONFIG.is_file():
        ignored = list(_changes(config, upgrade_settings(read_values(DEFAULT_CONFIG, {}))))
        if ignored:
            progress.note(f"{DEFAULT_CONFIG} differs from the run, whose own settings apply: {'; '.join(ignored)}.")
    return config


def _recorded(run: Path, given: Config) -> Config:
    """Settings of a run, with the given ones where they may differ."""
    recorded = upgrade_settings(read_run(run).get("config"))
    try:
        own = Config.model_validate({section: recorded[section] for section in RECORDED})
    except (KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{run} cannot be resumed: its record does not hold the settings of a training.", hint="Start a new run."
        ) from error
    sections = {}
    for name in RECORDED:
        section, wanted = getattr(own, name), getattr(given, name)
        moved = [key for key in MOVABLE.get(name, ()) if key in wanted.model_fields_set]
        sections[name] = section.model_copy(update={key: getattr(wanted, key) for key in moved})
    return given.model_copy(update=sections)


def _changes(config: Config, wanted: Mapping[str, Any]) -> Iterator[str]:
    """Settings in which `wanted`, values by section and key, asks for something else than the run has."""
    own = config.model_dump(mode="json", include=set(RECORDED))
    for section in RECORDED:
        for key, value in (wanted.get(section) or {}).items():
            if key in MOVABLE.get(section, ()):
                continue
            try:
                asked = Config.model_validate({**own, section: {**own[section], key: value}})
            except ValidationError:  # it does not even go with the run's other settings
                yield f"{section}.{key} is {own[section].get(key)!r}, not {value!r}"
                continue
            found = differences(own, asked.model_dump(mode="json", include={section}))
            if found and section == "model":  # the run has what was asked for as it fits the backbone
                found = differences(own, fit_backbone(asked, Silent()).model_dump(mode="json", include={section}))
            yield from found
