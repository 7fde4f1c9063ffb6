"""Writing of bundles, each as a whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgead.bundle import Bundle
from edgead.bundle_files import MANIFEST, copy_files, parse_manifest
from edgead.manifest import Manifest
from edgead.own_digest import BLANK, with_own_digest
from edgead.storage import json_bytes, replace_folder, scratch_folder, storage_error, write_bytes


def write_bundle(path: Path, manifest: Manifest, files: dict[str, Path]) -> Bundle:
    """Write a bundle atomically: `path` holds either the complete old bundle or the complete new one.

    Args:
        path: Bundle folder. An existing one is replaced together with its engines, which belong to the old model.
        manifest: Manifest without `sha256`, which is computed here.
        files: Source file per relative name; each is copied into the bundle.

    Raises:
        StorageError: If the bundle cannot be written; an older bundle is unchanged.
    """
    with scratch_folder(path.parent, path.name) as staging:
        try:
            digests = copy_files(files, staging)
            complete = manifest.model_copy(update={"sha256": {**digests, MANIFEST: BLANK}})
            raw = with_own_digest(json_bytes(complete.model_dump(mode="json")))
            written = parse_manifest(staging, raw)
            write_bytes(staging / MANIFEST, raw)
            replace_folder(staging, path)
        except OSError as error:
            raise storage_error(path, error) from error
    # the digests are those of the files that were written
    return Bundle(path.resolve(), written, hashlib.sha256(raw).hexdigest())
