"""`edgead export --base DIR`: what a device needs to learn a new part by itself."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.commands.training.form_models import POSITION_BYTES
from edgead.commands.training.requirements import require_torch, require_weights
from edgead.commands.training.runs import package_versions
from edgead.config.root import Config
from edgead.errors import ConfigError
from edgead.manifest import Preprocessing
from edgead.progress import Progress
from edgead.storage import scratch_folder
from edgead.teach.base import (
    BACKBONE_WEIGHTS,
    FEATURES,
    INPUTS,
    Base,
    BaseManifest,
    FormName,
    FormRecord,
    LevelRecord,
    write_base,
)

if TYPE_CHECKING:
    from edgead.models.detector import Detector


def export_base(config: Config, path: Path, progress: Progress) -> Base:
    """Write a base bundle: the backbone with feature outputs, and graphs whose constants a device fills in.

    Args:
        config: All settings; those of `model` choose backbone, levels and input size.
        path: Folder of the base bundle.
        progress: Receives notes.

    Raises:
        ConfigError: If the model has no closed form, or the settings ask for crop, tiles or alignment.
        BundleError: If the folder holds something else.
        MissingDependencyError: If torch is not installed.
    """
    require_torch("Exporting a base bundle")
    _check(config)
    require_weights(config.model)
    import onnx

    from edgead.commands.training.data import fit_backbone
    from edgead.export.base_graph import base_graphs
    from edgead.train.checkpoint import save_tensors

    config = fit_backbone(config, progress)
    side = config.model.image_size
    forms: dict[FormName, FormRecord] = {}
    with scratch_folder(path.parent, f"{path.name}-base") as folder:
        files = {name: folder / name for name in (FEATURES, INPUTS, BACKBONE_WEIGHTS)}
        projections: dict[str, str] = {}
        model = None
        for form in _forms(config, progress):
            model = _model(config, form)
            graphs = base_graphs(model, (side, side))
            projections = {n: role for n, role in graphs.parameters.items() if role.startswith("projection")}
            own = {name: role for name, role in graphs.parameters.items() if name not in projections}
            files[f"{form}.onnx"] = folder / f"{form}.onnx"
            onnx.save(graphs.head, str(files[f"{form}.onnx"]))
            onnx.save(graphs.features, str(files[FEATURES]))
            onnx.save(graphs.inputs, str(files[INPUTS]))
            forms[form] = FormRecord(graph=f"{form}.onnx", parameters=own, multiply_adds=graphs.multiply_adds)
        assert model is not None
        save_tensors(files[BACKBONE_WEIGHTS], {f"backbone.{k}": v for k, v in model.backbone.state_dict().items()}, {})
        manifest = BaseManifest(
            created_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            backbone=config.model.backbone,
            backbone_digest=model.backbone.weights_digest,
            preprocessing=Preprocessing.current((side, side)),
            config=config.model_dump(mode="json", include={"model", "train"}),
            features=tuple((model.backbone.channels[key], *model.backbone.sizes[key]) for key in model.backbone.keys),
            levels=_levels(model),
            map_size=model.head.size,
            forms=forms,
            projections=projections,
            versions=package_versions(),
            sha256={},
        )
        return write_base(path, manifest, files)


def _check(config: Config) -> None:
    model, data = config.model, config.data
    if model.couplings != "never":
        raise ConfigError(
            f"A base bundle is for models in closed form: model.couplings must be never, got {model.couplings}.",
            hint="Leave out model.name, model.couplings and the settings of couplings.",
        )
    if data.crop or data.tiles != "1x1" or data.keep_aspect or data.align != "off":
        raise ConfigError(
            "A base bundle judges whole frames: data.crop, data.tiles, data.keep_aspect and data.align do not apply.",
            hint="Leave them out, or train on the workstation with them.",
        )
    if model.composition:
        raise ConfigError(
            f"A taught model does not judge the composition of an image: model.composition must be empty, got {model.composition}.",
            hint="Leave it out, or train on the workstation with it.",
        )
    if model.weights is not None and Path(model.weights).suffix and not Path(model.weights).is_file():
        raise ConfigError(
            f"model.weights names {model.weights}, which is no file.", hint="Name the file of the weights."
        )


def _forms(config: Config, progress: Progress) -> list[FormName]:
    forms: list[FormName] = list(config.train.forms)
    if "positions" in forms and len(forms) > 1:
        model = _model(config, "centres")
        size = sum(4.0 * level.size[0] * level.size[1] * level.channels**2 for level in model.levels)
        if size > POSITION_BYTES:
            forms.remove("positions")
            progress.note(
                f"One Gaussian per position is left out: at {config.model.image_size} px it would take {size / 1e6:.0f} MB."
            )
    return forms


def _model(config: Config, form: FormName) -> Detector:
    from edgead.models.zoo import build_model

    settings = form_settings(config, form)
    model = build_model(config.model.model_copy(update=settings), ("part",))
    model.drop_couplings()
    return model.eval()


def form_settings(config: Config, form: FormName) -> dict[str, Any]:
    """Settings of `model` for one form of the closed form."""
    return {
        "blocks": 0,
        "base": "normal",
        "positions": form == "positions",
        "centres": (config.model.centres or config.train.centres) if form == "centres" else 0,
    }


def _levels(model: Detector) -> tuple[LevelRecord, ...]:
    index_of = {key: index for index, key in enumerate(model.backbone.keys)}
    found = []
    for level, weight in zip(model.levels, model.head.weights, strict=True):
        sources = tuple(
            (index_of[key], 0 if kept in (0, model.backbone.channels[key]) else kept)
            for key, kept in level.spec.sources
        )
        found.append(LevelRecord(sources=sources, channels=level.channels, size=level.size, weight=weight))
    return tuple(found)
