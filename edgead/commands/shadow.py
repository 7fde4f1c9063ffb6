"""Opening the model of a shadow."""

from __future__ import annotations

from pathlib import Path

from edgead.bundle import open_bundle
from edgead.engines.detached import open_detached
from edgead.line.shadow import OpenShadow


def open_shadow(path: Path, engine: str | None, *, nice: int) -> OpenShadow:
    """Verify a bundle, and open its engine on one thread in a process of its own.

    Args:
        path: Bundle folder.
        engine: `<backend>-<precision>` or `reference`; None = the best engine present.
        nice: Nice value of the process, 19 the lowest priority; 0 = that of this process.

    Raises:
        BundleError: If the bundle is damaged.
        EngineError: If the engine cannot be opened.
    """
    process, runner, bundle = open_detached(open_bundle(path), engine, nice=nice)
    return OpenShadow(bundle, runner, process.usage)
