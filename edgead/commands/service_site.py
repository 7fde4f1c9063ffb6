"""Check of this machine before a service is installed: user, secrets, bundle and rights to the folders."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgead.commands.service import ServiceOptions
from edgead.config.root import Config

DEFAULT_BUNDLE = Path("runs/latest/bundle")
_HIDDEN = (Path("/tmp"), Path("/var/tmp"))


def lacking_here(options: ServiceOptions, config: Config, words: Mapping[str, Any], python: str) -> list[str]:
    """List what is missing on this machine for the service to start, each with its remedy in one sentence.

    Args:
        options: Command, folders and user of the service.
        config: Settings of the stream, with the sinks of its arguments.
        words: Arguments of the stream by the names of its options.
        python: Interpreter of the service.
    """
    return [
        *_about_secrets(options, config, words),
        *_about_bundle(options, words),
        *_about_user(options, words),
        *_about_hidden(options, python),
    ]


def _about_secrets(options: ServiceOptions, config: Config, words: Mapping[str, Any]) -> Iterator[str]:
    from edgead.web.token import MIN_TOKEN, TOKEN_FILE, TOKEN_VARIABLE

    wanted = {value for sink in config.sinks for name, value in sink if name.endswith("_env") and value}
    alerts = options.folder / (words.get("alerts") or "alerts")
    if (words.get("web") or config.web.address) and not (alerts / TOKEN_FILE).exists():
        wanted.add(TOKEN_VARIABLE)
    file = options.environment_file
    if file is None:
        if TOKEN_VARIABLE in wanted:
            yield (
                f"The token of the dashboard will be printed once, to the journal: write {TOKEN_VARIABLE}=… with at least {MIN_TOKEN} "
                "characters to a file that root alone can read, and name that with --environment-file."
            )
        return
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        names = f", and write {', '.join(f'{name}=…' for name in sorted(wanted))} to it" if wanted else ""
        yield (
            f"The file {file} is not there, and without it the service does not start: `sudo install -m 600 /dev/null "
            f"{file}` makes it{names}."
        )
        return
    except (OSError, UnicodeDecodeError):
        return
    given = {line.partition("=")[0].strip() for line in lines if line.partition("=")[2].strip()}
    for name in sorted(wanted - given):
        yield f"{file} has no line {name}=…, which the stream reads: add it."


def _about_bundle(options: ServiceOptions, words: Mapping[str, Any]) -> Iterator[str]:
    if words.get("models"):
        return
    bundle = options.folder / (words.get("bundle") or DEFAULT_BUNDLE)
    if not bundle.exists():
        yield f"There is no bundle at {bundle}: copy one there, or name another with --option BUNDLE."


def _about_user(options: ServiceOptions, words: Mapping[str, Any]) -> Iterator[str]:
    folder = options.folder.resolve()
    try:
        user = pwd.getpwnam(options.user)
    except KeyError:
        yield (
            f"There is no user {options.user} on this machine: `sudo useradd --system --home-dir {folder} --shell "
            f"/usr/sbin/nologin --groups video {options.user}` makes one."
        )
        return
    foreign = [place for place in (folder, folder / (words.get("alerts") or "alerts")) if not _may_write(place, user)]
    if foreign:
        yield (
            f"The user {options.user} may not write to {foreign[0]}: `sudo chown -R {options.user}: {foreign[0]}` lets it."
        )


def _may_write(place: Path, user: pwd.struct_passwd) -> bool:
    """Whether a user may write to a folder; also if it is not there, since the service can make it."""
    if user.pw_uid == 0:
        return True
    try:
        state = place.stat()
    except OSError:
        return True
    if state.st_uid == user.pw_uid:
        return bool(state.st_mode & 0o200)
    groups = os.getgrouplist(user.pw_name, user.pw_gid)
    return bool(state.st_mode & (0o020 if state.st_gid in groups else 0o002))


def _about_hidden(options: ServiceOptions, python: str) -> Iterator[str]:
    for what, path in (("program", Path(python)), ("folder", options.folder), ("configuration", options.config)):
        path = path.absolute()
        hidden = next((place for place in _HIDDEN if path.is_relative_to(place)), None)
        if hidden is not None:
            yield f"The {what} {path} lies in {hidden}, of which the service sees an own, empty one: move it."
