"""Base bundle: what a device needs to learn a new part, made once on a workstation without any picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import edgead
from edgead.bundle_files import copy_files, file_digest
from edgead.config.root import Config
from edgead.errors import BundleError
from edgead.manifest import Pixels, Preprocessing
from edgead.own_digest import BLANK, has_own_digest, with_own_digest
from edgead.storage import json_bytes, replace_folder, scratch_folder, storage_error, write_bytes

if TYPE_CHECKING:
    import onnx

BASE_SCHEMA = 1
BASE_FILE = "base.json"
FEATURES, INPUTS, BACKBONE_WEIGHTS = "features.onnx", "inputs.onnx", "backbone.safetensors"
FormName = Literal["positions", "centres"]
_COPY = "Copy the base bundle again, or make it again: edgead export --base DIR"


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LevelRecord(_Record):
    """Level of the detector: the features that it joins, as pairs of their index and the principal channels kept (0: all)."""

    sources: tuple[tuple[int, int], ...] = Field(min_length=1)
    channels: int = Field(ge=1)
    size: tuple[Pixels, Pixels]
    weight: float = Field(gt=0)


class FormRecord(_Record):
    """Form of the closed form: its graph, the role of each constant to fill in, and the cost of the whole graph."""

    graph: str
    parameters: dict[str, str]
    multiply_adds: int = Field(ge=0)


class BaseManifest(_Record):
    """Content of `base.json`."""

    kind: Literal["base"] = "base"
    schema_version: int = BASE_SCHEMA
    edgead_version: str = edgead.__version__
    created_at: str
    backbone: str
    backbone_digest: str = Field(description="SHA-256 of the backbone's weights as they were loaded.")
    preprocessing: Preprocessing
    config: dict[str, Any] = Field(description="Settings of the model and of its closed form.")
    features: tuple[tuple[int, Pixels, Pixels], ...] = Field(
        description="Channels, height and width of each feature map."
    )
    levels: tuple[LevelRecord, ...] = Field(min_length=1)
    map_size: tuple[Pixels, Pixels]
    forms: dict[FormName, FormRecord] = Field(min_length=1)
    projections: dict[str, str] = Field(description="Role of each constant to fill in of `inputs.onnx`.")
    versions: dict[str, str]
    sha256: dict[str, str]


class Base:
    """Verified base bundle; made by `open_base`."""

    def __init__(self, path: Path, manifest: BaseManifest, digest: str) -> None:
        self.path = path
        self.manifest = manifest
        self.digest = digest

    @property
    def image_size(self) -> tuple[int, int]:
        """Input size `(height, width)` in pixels."""
        return self.manifest.preprocessing.image_size

    def graph(self, name: str) -> onnx.ModelProto:
        """One of the graphs, read from its file.

        Raises:
            BundleError: If it cannot be read.
        """
        import onnx

        try:
            return onnx.load_model(str(self.path / name), load_external_data=False)
        except Exception as error:  # protobuf's exceptions have no typed module
            raise BundleError(f"{self.path / name} cannot be read as a graph: {error}.", hint=_COPY) from error


def write_base(path: Path, manifest: BaseManifest, files: dict[str, Path]) -> Base:
    """Write a base bundle atomically; an existing one of the same name is replaced.

    Args:
        path: Folder of the base bundle.
        manifest: Manifest without `sha256`, which is computed here.
        files: Source file per name.

    Raises:
        BundleError: If the folder holds something else.
        StorageError: If it cannot be written; an older one is unchanged.
    """
    if path.exists() and not (path / BASE_FILE).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise BundleError(
            f"{path} exists and is no base bundle; it is left as it is.", hint="Name a new or an empty folder."
        )
    with scratch_folder(path.parent, path.name) as staging:
        try:
            digests = copy_files(files, staging)
            complete = manifest.model_copy(update={"sha256": {**digests, BASE_FILE: BLANK}})
            write_bytes(staging / BASE_FILE, with_own_digest(json_bytes(complete.model_dump(mode="json"))))
            replace_folder(staging, path)
        except OSError as error:
            raise storage_error(path, error) from error
    return open_base(path)


def open_base(path: Path) -> Base:
    """Read and verify a base bundle: schema, settings, file list and every digest.

    Raises:
        BundleError: If the folder is no base bundle, is incomplete, was changed, or is of another version.
    """
    file = path / BASE_FILE
    if not file.is_file() or file.is_symlink():
        what = "a bundle that judges, not a base" if (path / "bundle.json").is_file() else f"it holds no {BASE_FILE}"
        raise BundleError(
            f"{path} is not a base bundle: {what if path.exists() else 'there is no such folder'}.",
            hint="Make one on the workstation with `edgead export --base DIR`, and copy the folder here.",
        )
    raw = file.read_bytes()
    manifest = _parse(file, raw)
    own = manifest.sha256.get(BASE_FILE, "")
    if not has_own_digest(raw, own):
        raise BundleError(f"{file} was changed after the base bundle was made.", hint=_COPY)
    _check_settings(file, manifest)
    graphs = {record.graph for record in manifest.forms.values()}
    for name in (FEATURES, INPUTS, BACKBONE_WEIGHTS, *graphs):
        member = path / name
        if Path(name).name != name or member.is_symlink() or not member.is_file():
            raise BundleError(f"The base bundle is incomplete: {member} is missing.", hint=_COPY)
        if file_digest(member) != manifest.sha256.get(name):
            raise BundleError(f"{member} was changed or damaged: its SHA-256 is not that of {BASE_FILE}.", hint=_COPY)
    return Base(path.resolve(), manifest, own)


def _check_settings(file: Path, manifest: BaseManifest) -> None:
    """Refuse settings that this version lacks before anybody shows ten parts."""
    try:
        Config.model_validate(manifest.config)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BundleError(
            f"{file} was made by edgead {manifest.edgead_version} with settings that this edgead ({edgead.__version__}) "
            f"does not take: {lines}.",
            hint="Update edgead on this machine, or make the base bundle again with its version.",
        ) from error


def _parse(file: Path, raw: bytes) -> BaseManifest:
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not valid JSON: {error}.", hint=_COPY) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version > BASE_SCHEMA:
        raise BundleError(
            f"{file} has schema {version!r}; this edgead ({edgead.__version__}) reads up to {BASE_SCHEMA}.",
            hint="Update edgead on this machine, or make the base bundle again with its version.",
        )
    try:
        return BaseManifest.model_validate(content)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise BundleError(f"{file} does not follow the schema: {lines}.", hint=_COPY) from error
