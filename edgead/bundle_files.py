"""Files of a bundle folder: their names, their digests, and the manifest that lists them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

import edgead
from edgead.errors import BundleError
from edgead.manifest import SCHEMA_VERSION, Manifest
from edgead.migration import upgrade_manifest
from edgead.storage import atomic_path

MANIFEST = "bundle.json"
MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
CALIBRATION = "calibration.npz"
REFERENCE = "reference.npz"
ALIGNMENT = "alignment.npz"
THRESHOLD_IMAGES = "threshold-images.jpg"
ENGINES = "engines"
FOLDER = "bundle"  # in the folder of a run


def bundle_folder(path: Path) -> Path:
    """Folder of a bundle that is named by itself or by the run that made it."""
    inside = path / FOLDER
    return inside if not (path / MANIFEST).is_file() and (inside / MANIFEST).is_file() else path


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle folder for display; no digest is verified, its own neither.

    Raises:
        BundleError: If there is none, or it does not follow the schema.
    """
    return parse_manifest(path, read_manifest_bytes(path))


def read_manifest_bytes(path: Path) -> bytes:
    """Content of the manifest of a bundle folder, unchecked.

    Raises:
        BundleError: If there is none, or it is a link.
    """
    manifest_path = path / MANIFEST
    if manifest_path.is_symlink() or not manifest_path.is_file():
        raise BundleError(
            f"{path} is not a bundle: it holds no {MANIFEST}.",
            hint="Name the folder that `edgead train` wrote, for example runs/latest/bundle.",
        )
    return manifest_path.read_bytes()


def parse_manifest(path: Path, raw: bytes) -> Manifest:
    """Check the content of a manifest against the schema, after an upgrade from an older one.

    Args:
        path: Bundle folder, for messages.
        raw: Content of its manifest.

    Raises:
        BundleError: If the content does not follow the schema, has a newer one, or gives no digest for a file that each
            bundle needs.
    """
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path / MANIFEST} is not valid JSON: {error}.", hint="Copy the bundle again.") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{path / MANIFEST} has no schema_version.", hint="Copy the bundle again.")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{path} has bundle schema {version}; this edgead ({edgead.__version__}) reads up to {SCHEMA_VERSION}.",
            hint="Update edgead on this machine.",
        )
    try:
        manifest = Manifest.model_validate(upgrade_manifest(content))
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BundleError(
            f"{path / MANIFEST} does not follow the schema: {lines}.", hint="Copy the bundle again."
        ) from error
    needed = {MODEL, WEIGHTS, CALIBRATION, REFERENCE, *((ALIGNMENT,) if manifest.preprocessing.alignment else ())}
    missing = needed - manifest.sha256.keys()
    if missing:
        raise BundleError(
            f"{path / MANIFEST} gives no digest for {', '.join(sorted(missing))}.", hint="Copy the bundle again."
        )
    return manifest


def member_path(root: Path, name: str) -> Path:
    """Path of a file of a bundle by its name in the manifest.

    Args:
        root: Bundle folder.
        name: Name relative to it, with `/`.

    Raises:
        BundleError: If the name leaves the folder, a part of the path is a link, or there is no file.
    """
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise BundleError(
            f"{root / MANIFEST} names {name!r}, which leaves the bundle folder.", hint="Do not use this bundle."
        )
    path = root
    for part in relative.parts:
        path = path / part
        if path.is_symlink():
            raise BundleError(f"{path} is a link; a bundle holds plain files only.", hint="Do not use this bundle.")
    if not path.is_file():
        raise BundleError(f"The bundle is incomplete: {path} is missing.", hint="Copy the bundle again.")
    return path


def copy_files(files: Mapping[str, Path], folder: Path) -> dict[str, str]:
    """Copy files into a folder, and return the digest of each copy by its name.

    Args:
        files: Source by the name of its copy.
        folder: Folder of the copies.
    """
    digests = {}
    for name, source in files.items():
        with atomic_path(folder / name) as temporary:
            shutil.copyfile(source, temporary)
        digests[name] = file_digest(folder / name)
    return digests


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
