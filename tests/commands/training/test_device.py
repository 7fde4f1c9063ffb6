"""The torch device that a training runs on."""

from __future__ import annotations

import pytest

from edgead.commands.training.device import choose_device
from edgead.errors import ConfigError


def test_a_device_that_is_not_there() -> None:
    """It is named beside those that are, and the hint says what a GPU needs."""
    with pytest.raises(ConfigError, match=r"train\.device 'cuda:99' is not on this machine; it has: cpu") as caught:
        choose_device("cuda:99")
    assert "nvidia-smi" in caught.value.hint
    assert choose_device("cpu").type == "cpu"
