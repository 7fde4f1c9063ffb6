"""What every test runs under: one thread per library, a fixed seed, no deadline for slow machines."""

from __future__ import annotations

import os
import random
import sys

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before torch is imported: a small test takes 100 times longer with threads

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "edgead", deadline=None, max_examples=20, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgead")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """The same random numbers in any order of the tests; torch is not imported for the tests that do without."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # what a dependency may use
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
