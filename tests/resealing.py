"""Manifests and engine records, changed as by someone who also renews their digests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgead.bundle_files import MANIFEST
from edgead.own_digest import BLANK, with_own_digest


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the content of a `bundle.json` or an `engine.json`, and renew the digest that it holds of itself."""
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_bytes(resealed(content))


def resealed(content: dict[str, Any]) -> bytes:
    """The content of a manifest or a record as a file with a right digest; without one if it has none."""
    digests = content.get("sha256")
    if isinstance(digests, dict) and MANIFEST in digests:
        content = {**content, "sha256": {**digests, MANIFEST: BLANK}}
    elif content.get("record_sha256"):
        content = {**content, "record_sha256": BLANK}
    else:
        return json.dumps(content).encode()
    return with_own_digest(json.dumps(content).encode())
