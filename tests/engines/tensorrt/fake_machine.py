"""Everything that a TensorRT engine needs, installed as fakes."""

from __future__ import annotations

import sys

import pytest

from .fake_cudart import cudart_modules
from .fake_gpu import FakeGpu
from .fake_pycuda import pycuda_modules
from .fake_scene import Scene
from .fake_tensorrt import tensorrt_module


def install(gpu: FakeGpu, version: str, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Make `import tensorrt` give the fake of a version, and pycuda and the CUDA runtime theirs, on one GPU."""
    trt, scene = tensorrt_module(gpu, version)
    for name, module in {"tensorrt": trt, **pycuda_modules(gpu), **cudart_modules(gpu)}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return scene
