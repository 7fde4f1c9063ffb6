"""From a folder of good images to a camera that shows anomaly heatmaps and raises alerts you can trust.

    import edgead

    with edgead.load("runs/latest/bundle") as model:
        result = model.predict(rgb)
        print(result.score, result.is_anomalous)

| to | use | which gives |
|---|---|---|
| train | `train_bundle(folder, settings={...})` | `TrainResult`: its `bundle.path` is what `load` takes |
| judge images | `load(bundle)`, then `Model.read_image`, `Model.predict` | `ImageResult`: score, threshold, map, mask, regions, heatmap |
| measure | `evaluate(model, folder)` | `Evaluation`: `metrics.image_auroc` and so on, `to_json()` |
| see thresholds | `Model.thresholds()` | `ClassThresholds` |
| build an engine | `build_engine(bundle)` | `BuiltEngine`: its `name` is what `load(engine=...)` takes |
| watch a source | `open_stream(model, source)` | one `FrameResult` per frame |

Everything named in `__all__` is the public API; it is imported when it is first used, so that `import edgead` costs
nothing. The modules behind it may change between minor versions (docs/compatibility.md).
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "BuiltEngine",
    "Bundle",
    "BundleError",
    "CheckFailed",
    "ClassThresholds",
    "ConfigError",
    "DataError",
    "DeliveryError",
    "EdgeadError",
    "EngineError",
    "Evaluation",
    "Frame",
    "FrameResult",
    "ImageResult",
    "Metrics",
    "Model",
    "ModelFamily",
    "PartNotFoundError",
    "Prediction",
    "Region",
    "Runner",
    "Sink",
    "Source",
    "SourceError",
    "StorageError",
    "StoredEvent",
    "TrainResult",
    "__version__",
    "build_engine",
    "evaluate",
    "load",
    "open_stream",
    "read_image",
    "register_family",
    "train_bundle",
]

# the module that each name is imported from when it is first used
_HOMES = {
    "BuiltEngine": "edgead.commands.build_engine",
    "Bundle": "edgead.bundle",
    "BundleError": "edgead.errors",
    "CheckFailed": "edgead.errors",
    "ClassThresholds": "edgead.manifest",
    "ConfigError": "edgead.errors",
    "DataError": "edgead.errors",
    "DeliveryError": "edgead.stream.delivery.sink",
    "EdgeadError": "edgead.errors",
    "EngineError": "edgead.errors",
    "Evaluation": "edgead.commands.evaluate",
    "Frame": "edgead.stream.frame",
    "FrameResult": "edgead.stream.result",
    "ImageResult": "edgead.model",
    "Metrics": "edgead.evaluation.evaluate",
    "Model": "edgead.model",
    "ModelFamily": "edgead.config.families",
    "PartNotFoundError": "edgead.aligner",
    "Prediction": "edgead.prediction",
    "Region": "edgead.heatmap",
    "Runner": "edgead.runner",
    "Sink": "edgead.stream.delivery.sink",
    "Source": "edgead.stream.sources.source",
    "SourceError": "edgead.errors",
    "StorageError": "edgead.errors",
    "StoredEvent": "edgead.stream.spool.events",
    "TrainResult": "edgead.commands.train",
    "build_engine": "edgead.api",
    "evaluate": "edgead.api",
    "load": "edgead.model",
    "open_stream": "edgead.api",
    "read_image": "edgead.data.reader",
    "register_family": "edgead.models.zoo",
    "train_bundle": "edgead.api",
}

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take most of the time of this import
if TYPE_CHECKING:
    from edgead.aligner import PartNotFoundError as PartNotFoundError
    from edgead.api import build_engine as build_engine
    from edgead.api import evaluate as evaluate
    from edgead.api import open_stream as open_stream
    from edgead.api import train_bundle as train_bundle
    from edgead.bundle import Bundle as Bundle
    from edgead.commands.build_engine import BuiltEngine as BuiltEngine
    from edgead.commands.evaluate import Evaluation as Evaluation
    from edgead.commands.train import TrainResult as TrainResult
    from edgead.config.families import ModelFamily as ModelFamily
    from edgead.data.reader import read_image as read_image
    from edgead.errors import BundleError as BundleError
    from edgead.errors import CheckFailed as CheckFailed
    from edgead.errors import ConfigError as ConfigError
    from edgead.errors import DataError as DataError
    from edgead.errors import EdgeadError as EdgeadError
    from edgead.errors import EngineError as EngineError
    from edgead.errors import SourceError as SourceError
    from edgead.errors import StorageError as StorageError
    from edgead.evaluation.evaluate import Metrics as Metrics
    from edgead.heatmap import Region as Region
    from edgead.manifest import ClassThresholds as ClassThresholds
    from edgead.model import ImageResult as ImageResult
    from edgead.model import Model as Model
    from edgead.model import load as load
    from edgead.models.zoo import register_family as register_family
    from edgead.prediction import Prediction as Prediction
    from edgead.runner import Runner as Runner
    from edgead.stream.delivery.sink import DeliveryError as DeliveryError
    from edgead.stream.delivery.sink import Sink as Sink
    from edgead.stream.frame import Frame as Frame
    from edgead.stream.result import FrameResult as FrameResult
    from edgead.stream.sources.source import Source as Source
    from edgead.stream.spool.events import StoredEvent as StoredEvent


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgead' has no attribute {name!r}; it has: {', '.join(__all__)}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
