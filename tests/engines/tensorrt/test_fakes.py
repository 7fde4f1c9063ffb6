"""The fakes have the shape of the real bindings, so that a test against them means something."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from ..facts import assert_same_members, assert_same_signature, load_facts, tensorrt_facts
from . import fake_cudart, fake_pycuda
from .conftest import VERSIONS
from .fake_gpu import FakeGpu
from .fake_scene import Strict
from .fake_tensorrt import CLASSES, ENUMS, tensorrt_module

PYCUDA = ("Context", "Device", "Stream", "Event", "DeviceAllocation", "PagelockedHostAllocation")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_class_of_tensorrt_has_the_real_signatures(version: str) -> None:
    """Per version: methods with the real argument names, properties that exist, enums with the real numbers."""
    trt, _ = tensorrt_module(FakeGpu(integrated=True), version)
    checked = 0
    for cls in CLASSES:
        if cls.__name__ == "IHostMemory" or not hasattr(trt, cls.__name__):
            continue
        assert_same_signature(getattr(trt, cls.__name__), cls.__name__, versions=[version])
        checked += 1
    for name in ENUMS:
        assert_same_members(getattr(trt, name), name, version)
    assert checked >= len(CLASSES) - 2


def test_each_name_of_the_fake_is_real_somewhere() -> None:
    """No method of the union of all versions was made up."""
    for cls in CLASSES:
        for name in vars(cls):
            if not name.startswith("_") and issubclass(cls, Strict):
                releases = [r for r in tensorrt_facts().values() if cls.__name__ in r.classes]
                assert any(release.attribute(cls.__name__, name) for release in releases), (cls, name)


def test_the_versions_differ_where_it_matters() -> None:
    """Each API that the builder branches on exists in some fake versions only."""
    modules = {version: tensorrt_module(FakeGpu(integrated=True), version)[0] for version in VERSIONS}
    has_flags = [hasattr(module.BuilderFlag, "FP16") for module in modules.values()]
    has_typing = [hasattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED") for module in modules.values()]
    assert has_flags == [True, True, True, True, False]
    assert has_typing == [False, True, True, True, True]
    assert [hasattr(module, "IProgressMonitor") for module in modules.values()] == [False, True, True, True, True]
    assert [hasattr(module.ILayer, "precision") for module in modules.values()] == [True, True, True, True, False]
    assert [hasattr(module.ParserError, "node_name") for module in modules.values()] == [False, True, True, True, True]


@pytest.mark.parametrize("name", PYCUDA)
def test_every_class_of_pycuda_has_the_real_names(name: str) -> None:
    """Per version of pycuda, methods and properties exist with the real arguments."""
    assert_same_signature(getattr(fake_pycuda, name), name, load_facts()["pycuda"])


def test_the_functions_have_the_real_arguments() -> None:
    """Pycuda's and the CUDA runtime's functions take what the real ones take."""
    gpu = FakeGpu(integrated=True)
    driver = fake_pycuda.pycuda_modules(gpu)["pycuda.driver"]
    for api, functions in (
        (
            "pycuda",
            {name: getattr(driver, name) for name in ("pagelocked_empty", "memcpy_htod_async", "memcpy_dtoh_async")},
        ),
        ("cuda.bindings", fake_cudart.cudart_functions(gpu)),
    ):
        assert functions
        for name, function in functions.items():
            for release in load_facts()[api].values():
                assert arguments(function) in real_arguments(release.module_attribute(name)), name


def arguments(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def real_arguments(found: Any) -> list[list[str]]:
    return [[parameter.name for parameter in signature.parameters] for signature in found.signatures]
